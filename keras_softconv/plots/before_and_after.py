"""Two states of one layer side by side."""

from collections.abc import Callable, Sequence
from typing import Any

from keras_softconv.compat import keras
from keras_softconv.layers import BaseSoftConv
from keras_softconv.plots.catalogue import picture_class
from keras_softconv.plots.checks import check_layer
from keras_softconv.plots.drawing import new_figure


def before_and_after(
    picture: Callable | str, layer: BaseSoftConv, weights: Sequence[Any], **options: Any
) -> Any:
    """The same picture of a layer with earlier weights and as it is, in the same colours.

    Args:
        picture: `connections`, `kernel_matrix`, `shades` or `off_template`, or its name.
        layer: a built SoftConv layer; it is not changed.
        weights: what `layer.get_weights()` returned before.
        options: of the picture.

    Returns:
        A `matplotlib.figure.Figure`, which a notebook shows: `.savefig(path)`.

    Raises:
        ValueError: for any other picture, for weights that are not those of the layer,
            and what the picture refuses.
        ImportError: without matplotlib, which the package does not require.

    Examples:
        ```python
        begin = layer.get_weights()
        model.fit(x, y)
        before_and_after("shades", layer, begin, filter=2).savefig("learnt.png")
        ```
    """
    kind = picture_class(picture)
    check_layer(layer)
    _check_weights(layer, weights)
    after = kind(layer, **options)
    with keras.StatelessScope(list(zip(layer.weights, weights, strict=True))):
        before = kind(layer, **after.options)
    width, height = after.size
    figure = new_figure((2 * width, max(height, before.size[1])))
    reach = before.reach.joined(after.reach)
    halves = figure.subfigures(1, 2)
    for half, name, drawn in zip(halves, ("before", "after"), (before, after), strict=True):
        drawn.draw(half, reach)
        half.suptitle(f"{name}: {drawn.title}", fontsize="medium")
    return figure


def _check_weights(layer: BaseSoftConv, weights: Sequence[Any]) -> None:
    expected = [tuple(weight.shape) for weight in layer.weights]
    received: Any = type(weights).__name__
    if isinstance(weights, (list, tuple)):
        received = [tuple(getattr(weight, "shape", ())) for weight in weights]
    if received != expected:
        raise ValueError(
            f"`weights` do not fit layer '{layer.name}'. Expected arrays of the shapes "
            f"{expected}. Received: {received}. Give what `layer.get_weights()` returned "
            "earlier."
        )
