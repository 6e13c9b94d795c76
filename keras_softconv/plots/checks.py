"""What the pictures refuse, with the remedy."""

from typing import Any

import numpy as np

from keras_softconv.layers import BaseSoftConv


def check_layer(layer: Any) -> None:
    """Raise `ValueError` for anything but a built SoftConv layer."""
    if not isinstance(layer, BaseSoftConv):
        raise ValueError(
            "Pictures are drawn of one SoftConv layer. Expected a SoftConv1D, SoftConv2D "
            f"or SoftConv3D. Received: {layer!r}. Of a model give one of its layers: "
            "`keras_softconv.diagnostics.soft_layers(model)` lists them by path."
        )
    if layer.weight_sharing is None:
        raise ValueError(
            "Pictures are drawn of built layers. Received: an unbuilt "
            f"{type(layer).__name__} '{layer.name}'. Call it on an input, or call "
            "`layer.build(input_shape)`."
        )


def check_index(name: str, index: Any, size: int) -> int:
    """The index as an integer, or `ValueError` if it is out of range.

    Args:
        name: of the argument.
        index: what was given.
        size: how many there are.
    """
    is_integer = isinstance(index, (int, np.integer)) and not isinstance(index, bool)
    if not is_integer or not 0 <= index < size:
        raise ValueError(
            f"`{name}` is out of range. Expected a whole number from 0 to {size - 1}, of "
            f"the {size} that the layer has. Received: {name}={index!r}."
        )
    return int(index)


def check_position(position: Any, grid: tuple[int, ...]) -> tuple[int, ...]:
    """The output position as a tuple, or `ValueError` if it is not in the grid."""
    indices = tuple(position) if isinstance(position, (tuple, list)) else (position,)
    try:
        axes = zip(indices, grid, strict=True)
        return tuple(check_index("position", index, size) for index, size in axes)
    except ValueError as error:
        raise ValueError(
            f"`position` is not in the output grid. Expected {len(grid)} whole numbers, "
            f"each less than the one in {grid}. Received: position={position!r}. Leave it "
            "out for the output with the largest off-template energy."
        ) from error


def refuse(what: str, number: Any, limit: int, remedy: str) -> None:
    """Raise `ValueError` if there is more to draw than can be told apart."""
    if np.max(number) > limit:
        shown = " and ".join(f"{count:,}" for count in np.atleast_1d(number))
        raise ValueError(
            f"A picture of {shown} {what} would not be legible. Expected at most "
            f"{limit:,}. {remedy}"
        )
