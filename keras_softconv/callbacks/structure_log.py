"""The structure of a model in one run of TensorBoard."""

import numpy as np

from keras_softconv import plots
from keras_softconv.callbacks import dashboard
from keras_softconv.callbacks.compiled_numbers import Layers, ModelNumbers
from keras_softconv.callbacks.event_log import EventLog
from keras_softconv.callbacks.runs import Run
from keras_softconv.compat import ops
from keras_softconv.diagnostics import Members, report_of_layers
from keras_softconv.layers import BaseSoftConv
from keras_softconv.weight_sharing import in_full_precision

REPORTED_CHILDREN = 10


class StructureLog:
    """Writes numbers, pictures and reports of SoftConv layers.

    Whatever becomes of the process, what these methods have written is on the disk. They
    raise the errors of the file system.

    Args:
        run: where to write.
        layers: built layers by path, for the layout of the dashboard.
    """

    def __init__(self, run: Run, layers: Layers) -> None:
        self._log = EventLog(run.folder, run.begins_at)
        self._log.layout(dashboard.layout_of(list(layers)))
        self._log.hyper_parameters(dashboard.hyper_parameters(layers))
        self._log.begin_files_with_these()

    def numbers(self, numbers: ModelNumbers, step: int) -> None:
        tags = numbers.scalars
        named = {tag: dashboard.SCALARS[tag.rpartition("/")[2]] for tag in tags}
        self._log.scalars(numbers.scalars, step, named)
        self.state(numbers, step)

    def state(self, numbers: ModelNumbers, step: int) -> None:
        """Write only what a training is recognised by when it is resumed."""
        state = numbers.energies.ravel()
        self._log.state(dashboard.STATE, state, step, dashboard.STATE_DESCRIPTION)
        self._log.flush()

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
                tag = dashboard.tag_of(path, f"pictures/{name}")
                self._log.image(tag, picture(layer).png(), step, dashboard.IMAGES[name])
        self._log.flush()

    def report(self, layers: Layers, step: int) -> None:
        report = report_of_layers(layers, REPORTED_CHILDREN)
        tag = f"{dashboard.RUN}/report"
        self._log.text(tag, report.to_markdown(), step, dashboard.REPORT)
        self._log.end_of_session()
        self._log.flush()


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
