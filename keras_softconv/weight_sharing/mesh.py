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

from keras_softconv.compat import keras, ops

Tensor = Any
Shape = tuple[int, ...]


def constant(array: np.ndarray) -> Any:
    """A small array, such as an index vector, that tensors are computed from in `call`.

    The arrays are made when a storage is constructed. TensorFlow and JAX take NumPy's
    arrays, which belong to no graph and to no trace. Torch's compiler can neither trace
    NumPy nor convert its arrays, so torch is given a tensor. That tensor is in the main
    memory, and `ops.convert_to_tensor` brings its values to the device.

    Args:
        array: of integers, which become int32, or of booleans.
    """
    if array.dtype != bool:
        array = array.astype("int32")
    if keras.config.backend() != "torch":
        return array
    import torch

    return torch.from_numpy(np.array(array))  # NumPy's views may be read-only


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
