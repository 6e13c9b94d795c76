"""Gradients spelt out where the framework's own cost too much."""

from collections.abc import Callable
from typing import Any

from keras_softconv.compat import keras, ops

Tensor = Any


def with_gradient(
    function: Callable, gradient: Callable, *tensors: Tensor, backends: tuple[str, ...]
) -> Tensor:
    """`function(*tensors)`, on the named backends with the gradient that is given.

    TensorFlow without XLA makes one pass over the memory for each operation, and its
    gradients copy: they spread a sum over an array as large as its terms, and transpose
    where a matrix product could read the other way. On JAX the price is forward-mode
    differentiation, which a function with a gradient of its own has not; torch's compiler
    does not look into one.

    Args:
        function: from the tensors to one tensor.
        gradient: from the tensors and the upstream gradient to the gradient of each.
        tensors: its arguments.
        backends: where the given gradient is used.
    """
    if keras.config.backend() not in backends:
        return function(*tensors)

    @ops.custom_gradient
    def with_own_gradient(*tensors: Tensor) -> tuple[Tensor, Callable]:
        return function(*tensors), lambda upstream: gradient(*tensors, upstream)

    return with_own_gradient(*map(ops.convert_to_tensor, tensors))
