"""The structure of a model in one run of TensorBoard."""

from io import BytesIO
from pathlib import Path

import numpy as np

from keras_softconv import plots
from keras_softconv.callbacks import dashboard
from keras_softconv.callbacks.compiled_numbers import Layers
from keras_softconv.callbacks.event_log import EventLog
from keras_softconv.compat import ops
from keras_softconv.diagnostics import Members, report_of_layers
from keras_softconv.layers import BaseSoftConv
from keras_softconv.weight_sharing import in_full_precision

DOTS_PER_INCH = 100
REPORTED_CHILDREN = 10


class StructureLog:
    """Writes numbers, pictures and reports of SoftConv layers.

    Args:
        folder: of the run.
        layers: built layers by path, for the layout of the dashboard.
        begins_at: what the folder has at this step and later is overtaken; None if
            nothing is.
    """

    def __init__(self, folder: Path, layers: Layers, begins_at: int | None) -> None:
        self._log = EventLog(folder)
        if begins_at is not None:
            self._log.restart(begins_at)
        self._log.layout(dashboard.layout_of(list(layers)))
        self._log.hyper_parameters(dashboard.hyper_parameters(layers))

    def numbers(self, numbers: dict[str, float], step: int) -> None:
        named = {tag: dashboard.SCALARS[tag.rpartition("/")[2]] for tag in numbers}
        self._log.scalars(numbers, step, named)
        self._log.flush()  # whatever becomes of the process

    def histograms(self, layers: Layers, step: int) -> None:
        for path, layer in layers.items():
            for name, (values, absent) in _distributions(layer).items():
                tag = dashboard.tag_of(path, name)
                description = dashboard.HISTOGRAMS[name]
                self._log.histogram(tag, values, absent, step, description)
        self._log.flush()

    def pictures(self, layers: Layers, step: int) -> None:
        for path, layer in layers.items():
            for name, picture in plots.legible(layer).items():
                png = BytesIO()
                picture(layer).savefig(png, format="png", dpi=DOTS_PER_INCH)
                tag = dashboard.tag_of(path, f"pictures/{name}")
                self._log.image(tag, png.getvalue(), step, dashboard.IMAGES[name])
        self._log.flush()

    def report(self, layers: Layers, step: int) -> None:
        report = report_of_layers(layers, REPORTED_CHILDREN)
        tag = f"{dashboard.RUN}/report"
        self._log.text(tag, report.to_markdown(), step, dashboard.REPORT)
        self._log.end_of_session()

    def close(self) -> None:
        self._log.close()


def _distributions(layer: BaseSoftConv) -> dict[str, tuple[np.ndarray, int]]:
    """Shades and off-template weights, and how many zeros among them are no weights."""
    members = Members(layer)
    geometry = members.geometry
    deviations = in_full_precision(layer.deviations)
    shades = ops.convert_to_numpy(members.shades)
    off_template = ops.convert_to_numpy(members.sharing.off_template(deviations))
    return {
        "shades": (shades, shades.size - geometry.template_size),
        "off_template_weights": (
            off_template,
            off_template.size - (geometry.size - geometry.template_size),
        ),
    }
