"""What StructureMonitor shows in TensorBoard, and how it is explained there."""

import re
from typing import Any

from keras_softconv.compat import keras, ops
from keras_softconv.diagnostics import readable
from keras_softconv.layers import BaseSoftConv

RUN = "softconv"
STATE = f"{RUN}/state"
WHOLE_MODEL = f"{RUN}/convolution_share"

SCALARS = {
    "family_variance": "Mean squared distance of the template weights from the mean "
    "of their family. **0** is a convolution up to its off-template weights.",
    "family_variance_min": "The same within the family that is tied most closely.",
    "family_variance_max": "The same within the family that is tied most loosely. Far "
    "above the mean, some families are not convolutional while others are.",
    "off_template_mass": "Share of the absolute weights that a convolution would not "
    "have. **0** is a locally connected layer or a convolution.",
    "convolution_share": "Share of the squared weights that the nearest convolution "
    "explains. **1** is a convolution.",
    "tie_penalty": "What the ties add to the loss, strength included.",
    "off_template_penalty": "What the off-template weights add to the loss, strength "
    "included.",
    "tie_effective_weights": "How many deviations on the template the training data "
    "determine, as AdaptiveStrengths found. **0** is a convolution.",
    "bias_tie_effective_weights": "The same of the deviations of biases, where these have "
    "strengths of their own.",
    "off_template_effective_weights": "The same of the off-template weights.",
    "shared_kernel_effective_weights": "How many weights of the shared kernel the training "
    "data determine, where its ridge was included.",
    "shared_bias_effective_weights": "The same of the shared biases.",
}
HISTOGRAMS = {
    "shades": "Template weights minus the mean of their family. One narrow peak is a "
    "convolution, outliers are problem children, several peaks are families of shades.",
    "off_template_weights": "The weights that a convolution would not have. All at 0 is a "
    "locally connected layer or a convolution.",
}
IMAGES = {
    "connections": "Inputs and outputs, joined by a line for each weight. A colour is a "
    "family, lighter below its mean and darker above; off-template weights fade to white. "
    "Lines of one colour and one shade are a convolution.",
    "kernel_matrix": "The dense kernel, a row for each input, a column for each output. "
    "A colour is a family, lighter below its mean and darker above; off-template weights "
    "fade to white. A convolution has diagonals of even colour on white.",
    "shades": "A panel for each tap of the first filter and input channel, a pixel for "
    "each output: its weight minus the mean of its family. Even panels are a convolution; "
    "framed are the problem children.",
    "off_template": "The off-template weights over the input, of one unit: of the output "
    "and there the filter where they are largest. White is a locally connected layer or a "
    "convolution.",
}
STATE_DESCRIPTION = (
    "For each layer the energies that its share is made of. They identify a "
    "model, so that a training that is resumed goes on with its own curves."
)
REPORT = (
    "How convolutional each layer is at the end of the training, and which weights stand "
    "out of their family: `keras_softconv.structure_report(model)`."
)


def tag_of(path: str, name: str) -> str:
    """The tag of what is shown of a layer."""
    return f"{RUN}/{path}/{name}"


def layout_of(paths: list[str]) -> Any:
    """The Custom Scalars dashboard: all layers beside each other, then each on its own."""
    from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Layout

    categories = [Category(title=path, chart=_charts(path)) for path in paths]
    if len(paths) > 1:
        categories.insert(0, Category(title="All layers", chart=_comparisons(paths)))
    return Layout(category=categories)


def _comparisons(paths: list[str]) -> list[Any]:
    titles = {
        "convolution_share": "Convolution share (1: a convolution)",
        "family_variance": "Family variance (0: equal within families)",
        "off_template_mass": "Off-template mass (0: nothing off the template)",
    }
    return [
        _lines(title, [tag_of(path, name) for path in paths])
        for name, title in titles.items()
    ]


def _charts(path: str) -> list[Any]:
    shares, penalties = (
        [tag_of(path, name) for name in names]
        for names in (
            ("convolution_share", "off_template_mass"),
            ("tie_penalty", "off_template_penalty"),
        )
    )
    return [
        _margin("Family variance: mean, and range over families", path),
        _lines("Convolution share and off-template mass", shares),
        _lines("Penalties", penalties),
    ]


def _lines(title: str, tags: list[str]) -> Any:
    from tensorboard.plugins.custom_scalar.layout_pb2 import Chart, MultilineChartContent

    # TensorBoard takes them for expressions that the beginning of a tag has to match.
    whole = [f"^{re.escape(tag)}$" for tag in tags]
    return Chart(title=title, multiline=MultilineChartContent(tag=whole))


def _margin(title: str, path: str) -> Any:
    from tensorboard.plugins.custom_scalar.layout_pb2 import Chart, MarginChartContent

    value = tag_of(path, "family_variance")
    series = MarginChartContent.Series(
        value=value, lower=f"{value}_min", upper=f"{value}_max"
    )
    return Chart(title=title, margin=MarginChartContent(series=[series]))


def hyper_parameters(layers: dict[str, BaseSoftConv]) -> dict[str, Any]:
    """Penalties and strengths of the layers, as plain values."""
    values = {}
    for path, layer in layers.items():
        named = {
            "tie_regularizer": described(layer.tie_regularizer),
            "off_template_regularizer": described(layer.off_template_regularizer),
            "tie_strength": float(ops.convert_to_numpy(layer.tie_strength)),
            "off_template_strength": float(
                ops.convert_to_numpy(layer.off_template_strength)
            ),
            "halo": "none" if layer.halo is None else str(layer.halo),
        }
        values |= {f"{path}/{name}": value for name, value in named.items()}
    return values


def described(regularizer: Any) -> str:
    """A regularizer as it would be called: `L2(l2=0.001)`."""
    if regularizer is None or hasattr(regularizer, "__name__"):
        return getattr(regularizer, "__name__", "None").strip("<>")
    try:
        return _described(keras.regularizers.serialize(regularizer))
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return type(regularizer).__name__  # it cannot be saved, but trains


def _described(config: Any) -> str:
    if not isinstance(config, dict) or "class_name" not in config:
        return readable(config) if isinstance(config, float) else str(config)
    if not isinstance(config["config"], dict):
        return str(config["config"])  # a function, by its name
    arguments = [f"{name}={_described(x)}" for name, x in config["config"].items()]
    return f"{config['class_name']}({', '.join(arguments)})"
