"""Index arrays of the whole convolution, filled on the device from one vector an axis.

An index or mask as large as the dense kernel, kept in a graph, would dwarf the layer
itself in compile time and memory.
"""

from collections.abc import Sequence
from functools import reduce
from math import prod
from operator import add
from typing import Any

import numpy as np

from keras_softconv.compat import ops

Tensor = Any
Shape = tuple[int, ...]


def along(vector: np.ndarray, axis: int, ndim: int) -> np.ndarray:
    """A vector laid along one axis of an open mesh."""
    return on_axes(vector, (axis,), ndim)


def on_axes(array: np.ndarray, axes: tuple[int, ...], ndim: int) -> np.ndarray:
    """An array laid along some axes, in ascending order, of an open mesh."""
    return np.expand_dims(array, [axis for axis in range(ndim) if axis not in axes])


def raveled(shape: Shape, indices: Sequence[Any]) -> Tensor:
    """Raveled indices into an array of `shape`, of all points of an open mesh.

    As `np.ravel_multi_index`, but what is kept of a mesh of vectors, also in a saved
    graph, are the vectors.

    Returns:
        int32 tensor, one axis for each of the mesh.
    """
    strides = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
    terms = [
        ops.convert_to_tensor(index, "int32") * stride
        for index, stride in zip(indices, strides, strict=True)
    ]
    return reduce(add, terms)
