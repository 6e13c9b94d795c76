"""Derivatives spelt out where the framework's own cost too much."""

from collections.abc import Callable
from typing import Any

from keras_softconv.compat import keras, ops

Tensor = Any


def with_gradient(
    function: Callable,
    gradient: Callable,
    *tensors: Tensor,
    tangent: Callable | None = None,
) -> Tensor:
    """`function(*tensors)`, with derivatives of its own where these are cheaper.

    - TensorFlow without XLA makes one pass over the memory for each operation. Its
      gradients copy: they spread a sum over an array as large as the terms, and transpose
      where a matrix product could read the other way. It is given `gradient`.
    - JAX is given `tangent`, from which it derives both forward and reverse mode. A given
      gradient would forbid forward mode.
    - Torch is given neither, because its compiler does not look into them.

    Args:
        function: from the tensors to one tensor.
        gradient: from the tensors and the upstream gradient to the gradient of each.
        tensors: its arguments.
        tangent: from the tuple of the tensors and the tuple of their tangents to the
            tangent of the result, in which it is linear. None to leave it to JAX.
    """
    backend = keras.config.backend()
    if backend == "tensorflow":
        return _with_gradient(function, gradient)(*map(ops.convert_to_tensor, tensors))
    if backend == "jax" and tangent is not None:
        return _with_tangent(function, tangent)(*map(ops.convert_to_tensor, tensors))
    return function(*tensors)


def _with_gradient(function: Callable, gradient: Callable) -> Callable:
    @ops.custom_gradient
    def with_own_gradient(*tensors: Tensor) -> tuple[Tensor, Callable]:
        return function(*tensors), lambda upstream: gradient(*tensors, upstream)

    return with_own_gradient


def _with_tangent(function: Callable, tangent: Callable) -> Callable:
    import jax

    with_own_tangent = jax.custom_jvp(function)

    @with_own_tangent.defjvp
    def result_and_tangent(tensors: tuple, tangents: tuple) -> tuple[Tensor, Tensor]:
        # Differentiated again where derivatives of higher order are asked for.
        return with_own_tangent(*tensors), tangent(tensors, tangents)

    return with_own_tangent
