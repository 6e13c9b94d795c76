"""`keras.ops` for Keras 2: what this package uses of it, by TensorFlow's operations."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.experimental import numpy as tnp

Tensor = Any

absolute = tf.abs
add = tf.add
argsort = tf.argsort
broadcast_to = tf.broadcast_to
cast = tf.cast
clip = tf.clip_by_value
copy = tf.identity
cumsum = tf.cumsum
custom_gradient = tf.custom_gradient
equal = tf.equal
exp = tf.exp
expand_dims = tf.expand_dims
full = tf.fill
is_tensor = tf.is_tensor
log = tf.math.log
log1p = tf.math.log1p
log_softmax = tf.nn.log_softmax
logical_and = tf.logical_and
logical_not = tf.logical_not
logical_or = tf.logical_or
logsumexp = tf.reduce_logsumexp
matmul = tf.matmul
max = tf.reduce_max
maximum = tf.maximum
mean = tf.reduce_mean
min = tf.reduce_min
minimum = tf.minimum
mod = tf.math.floormod
moveaxis = tnp.moveaxis
multiply = tf.multiply
not_equal = tf.not_equal
ones = tf.ones
ones_like = tf.ones_like
power = tf.pow
reshape = tf.reshape
roll = tf.roll
segment_max = tf.math.unsorted_segment_max
segment_sum = tf.math.unsorted_segment_sum
sigmoid = tf.sigmoid
sign = tf.sign
softmax = tf.nn.softmax
sqrt = tf.sqrt
square = tf.square
stack = tf.stack
stop_gradient = tf.stop_gradient
sum = tf.reduce_sum
swapaxes = tnp.swapaxes
take_along_axis = tnp.take_along_axis
transpose = tf.transpose
zeros = tf.zeros
zeros_like = tf.zeros_like


def convert_to_tensor(x: Any, dtype: Any = None) -> Tensor:
    if tf.is_tensor(x):  # of another type TensorFlow refuses it
        return tf.convert_to_tensor(x) if dtype is None else tf.cast(x, dtype)
    return tf.convert_to_tensor(x, dtype)


array = convert_to_tensor


def convert_to_numpy(x: Any) -> np.ndarray:
    return np.asarray(tf.convert_to_tensor(x) if tf.is_tensor(x) else x)


def arange(stop: int, dtype: str = "int32") -> Tensor:
    return tf.range(stop, dtype=dtype)


def shape(x: Tensor) -> tuple:
    sizes = tf.shape(x)
    static = enumerate(x.shape)
    return tuple(sizes[axis] if size is None else size for axis, size in static)


def concatenate(tensors: list[Tensor], axis: int = 0) -> Tensor:
    return tf.concat(tensors, axis)


def take(x: Tensor, indices: Any, axis: int = 0) -> Tensor:
    indices = indices if tf.is_tensor(indices) else np.asarray(indices)
    return tf.gather(x, indices, axis=axis)


def scatter_update(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    return tf.tensor_scatter_nd_update(x, indices, updates)


def where(condition: Any, x1: Any, x2: Any) -> Tensor:
    # Numbers take the type of the tensor beside them, in whatever order.
    dtype = next((x.dtype for x in (x1, x2) if tf.is_tensor(x)), None)
    return tf.where(condition, *(tf.convert_to_tensor(x, dtype) for x in (x1, x2)))


def all(x: Tensor) -> Tensor:
    return tf.reduce_all(tf.cast(x, "bool"))


def any(x: Tensor) -> Tensor:
    return tf.reduce_any(tf.cast(x, "bool"))


def while_loop(cond: Callable, body: Callable, loop_vars: tuple) -> tuple:
    return tf.while_loop(cond, body, loop_vars)


def fori_loop(lower: int, upper: int, body: Callable, init: Tensor) -> Tensor:
    def is_before_end(i: Tensor, _: Tensor) -> Tensor:
        return i < upper

    def next_of(i: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        return i + 1, body(i, value)

    return tf.while_loop(is_before_end, next_of, (tf.constant(lower), init))[1]


def conv(
    inputs: Tensor,
    kernel: Tensor,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str = "channels_last",
    dilation_rate: Any = 1,
) -> Tensor:
    has_groups = inputs.shape[-1] != kernel.shape[-2]
    # On a CPU only XLA has the gradient of a convolution in groups.
    convolution = _compiled_convolution if has_groups else tf.nn.convolution
    return convolution(
        inputs,
        kernel,
        strides,
        padding.upper(),
        # To be told by default is not enough for the gradient in three dimensions.
        {3: "NWC", 4: "NHWC", 5: "NDHWC"}[len(inputs.shape)],
        dilation_rate,
    )


_compiled_convolution = tf.function(tf.nn.convolution, jit_compile=True)
