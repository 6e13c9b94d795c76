"""Which pictures there are, and which of them suit a layer."""

from collections.abc import Callable
from contextlib import suppress

from keras_softconv.layers import BaseSoftConv
from keras_softconv.plots.checks import check_layer
from keras_softconv.plots.connections import Connections, connections
from keras_softconv.plots.drawing import Picture
from keras_softconv.plots.maps import OffTemplate, Shades, off_template, shades
from keras_softconv.plots.matrices import KernelMatrix, kernel_matrix

PICTURES: dict[str, tuple[Callable, type[Picture]]] = {
    "connections": (connections, Connections),
    "kernel_matrix": (kernel_matrix, KernelMatrix),
    "shades": (shades, Shades),
    "off_template": (off_template, OffTemplate),
}


def legible(layer: BaseSoftConv) -> dict[str, Callable]:
    """The pictures that are not too large for a layer, by name.

    Only its shapes are asked, so that this takes no time for a layer of any size.

    Args:
        layer: a built SoftConv layer.

    Returns:
        Some of `connections`, `kernel_matrix`, `shades` and `off_template`; each draws the
        layer without further arguments.

    Raises:
        ValueError: for anything but a built SoftConv layer.
    """
    check_layer(layer)
    found = {}
    for name, (function, kind) in PICTURES.items():
        with suppress(ValueError):
            kind.check_size(layer.weight_sharing.geometry)
            found[name] = function
    return found


def picture_class(picture: Callable | str) -> type[Picture]:
    """What draws a picture, which is given as a function or by its name."""
    for name, (function, kind) in PICTURES.items():
        if picture is function or picture == name:
            return kind
    raise ValueError(
        f"`picture` must be one of {list(PICTURES)}, or one of these functions. Received: "
        f"picture={picture!r}."
    )
