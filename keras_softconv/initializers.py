"""First values of the deviations."""

from collections.abc import Callable
from math import prod, sqrt
from typing import Any

from keras_softconv.compat import keras, ops
from keras_softconv.weight_sharing import WeightSharing

Tensor = Any


class InitialDeviations(keras.Initializer):
    """`initial_deviations` of one layer.

    An initializer of its own, because Keras compiles those of large weights where they are
    spread over devices, and cannot compile a bound method.
    """

    def __init__(self, initializer: Callable, weight_sharing: WeightSharing) -> None:
        self._initializer = initializer
        self._weight_sharing = weight_sharing

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        return initial_deviations(self._initializer, self._weight_sharing, dtype)


def initial_deviations(
    initializer: Callable, weight_sharing: WeightSharing, dtype: Any
) -> Tensor:
    """Deviations drawn by a Keras initializer, with the fans that they really have.

    Keras reads the fans off the shape, and six axes as those of a convolution's kernel.
    So the initializer is asked for a matrix, inputs of an output by outputs, which the
    dense storage is. With a halo the matrix has far more columns than an input has
    weights; the variance of Keras's `VarianceScaling` initializers is set right.

    Returns:
        Tensor of the storage's shape, 0 where void.
    """
    geometry = weight_sharing.geometry
    outputs = prod(geometry.output_grid) * geometry.filters
    matrix_shape = (prod(geometry.deviations_shape) // outputs, outputs)
    matrix = initializer(matrix_shape, dtype=dtype)
    if geometry.windows is None:
        return ops.reshape(matrix, geometry.deviations_shape)
    if isinstance(initializer, keras.initializers.VarianceScaling):
        fans = [_fan(initializer.mode, *fans) for fans in (matrix_shape, geometry.fans)]
        matrix = matrix * sqrt(fans[0] / fans[1])
    windows = ops.reshape(matrix, (matrix_shape[0], -1, geometry.filters))
    windows = ops.transpose(windows, (1, 0, 2))  # [positions, window, filters]
    return weight_sharing.without_void(ops.reshape(windows, geometry.deviations_shape))


def _fan(mode: str, fan_in: float, fan_out: float) -> float:
    """The denominator of `VarianceScaling`."""
    mean = (fan_in + fan_out) / 2
    return max(1.0, {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": mean}[mode])
