"""How much the data say about each weight: the diagonal of their curvature."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from keras_softconv.compat import keras, ops

Tensor = Any


class Curvature:
    """Residuals and `sum over examples and outputs of (d output / d weight)^2`.

    With signs r of +1 and -1 drawn at random for each output of each example, the square of
    the gradient of `sum(r * outputs)` has this sum for its mean (Bekas, Kokiopoulou and
    Saad, "An estimator for the diagonal of a matrix", Applied Numerical Mathematics 57,
    2007): one backward pass, whatever the model. Batches are squared one by one, which
    leaves the mean and takes from the variance.

    Args:
        model: with one output.
        variables: trainable weights of the model.
        x, y: examples, arrays with as many rows.
        batch_size: of how many at a time.
    """

    def __init__(
        self,
        model: keras.Model,
        variables: list[keras.Variable],
        x: Any,
        y: Any,
        batch_size: int,
    ) -> None:
        self._model, self._variables = model, variables
        self._x, self._y, self._batch_size = x, y, batch_size
        self._check_shape()
        self._outputs_and_gradients = _outputs_and_gradients(model, variables)

    def measure(
        self, probes: int, rng: np.random.Generator
    ) -> tuple[float, int, dict[int, np.ndarray]]:
        """The sum of squared residuals, their number, curvatures by `id(variable)`.

        Args:
            probes: how many draws of the signs are averaged.
            rng: draws them.
        """
        squares, number = 0.0, 0
        curvatures = [np.zeros(v.shape) for v in self._variables]
        for x, y in self._batches():
            for _ in range(probes):
                signs = rng.choice(np.float32([-1, 1]), size=y.shape)
                outputs, gradients = self._outputs_and_gradients(x, signs)
                for sum_, gradient in zip(curvatures, gradients, strict=True):
                    sum_ += ops.convert_to_numpy(gradient).astype("float64") ** 2 / probes
            residuals = ops.convert_to_numpy(outputs).astype("float64") - y
            squares, number = squares + (residuals**2).sum(), number + y.size
        by_id = {id(v): c for v, c in zip(self._variables, curvatures, strict=True)}
        return float(squares), number, by_id

    def _check_shape(self) -> None:
        expected = getattr(self._model, "output_shape", None)
        is_pair = isinstance(expected, tuple) and len(expected) == self._y.ndim
        if is_pair and tuple(expected[1:]) == self._y.shape[1:]:
            return
        raise ValueError(
            "AdaptiveStrengths needs a Sequential or functional model with one output, of "
            f"the shape of `y`. Received: outputs of shape {expected} and `y` of shape "
            f"{self._y.shape}. Reshape `y`, or compare strengths by "
            "`keras_softconv.regularization_path`."
        )

    def _batches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for begin in range(0, len(self._x), self._batch_size):
            rows = slice(begin, begin + self._batch_size)
            yield self._x[rows], self._y[rows]


def _outputs_and_gradients(model: keras.Model, variables: list) -> Callable:
    """A function of inputs and signs: outputs, gradients of `sum(signs * outputs)`."""
    of_backend = {"tensorflow": _on_tensorflow, "jax": _on_jax, "torch": _on_torch}
    return of_backend[keras.backend.backend()](model, variables)


def _signed_sum(model: keras.Model, x: Tensor, signs: Tensor) -> tuple[Tensor, Tensor]:
    outputs = ops.cast(model(x, training=False), "float32")
    return ops.sum(outputs * signs), outputs


def _on_tensorflow(model: keras.Model, variables: list) -> Callable:
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def compiled(x: Tensor, signs: Tensor) -> tuple[Tensor, list]:
        with tf.GradientTape() as tape:
            total, outputs = _signed_sum(model, x, signs)
        return outputs, tape.gradient(total, variables)

    return compiled


def _on_jax(model: keras.Model, variables: list) -> Callable:
    import jax

    others = [v for v in model.variables if not any(v is one for one in variables)]

    def total(values: list, rest: list, x: Tensor, signs: Tensor) -> tuple:
        state = zip([*variables, *others], [*values, *rest], strict=True)
        with keras.StatelessScope(state):
            return _signed_sum(model, x, signs)

    gradient = jax.jit(jax.grad(total, has_aux=True))

    def compiled(x: Tensor, signs: Tensor) -> tuple[Tensor, list]:
        values, rest = ([v.value for v in some] for some in (variables, others))
        gradients, outputs = gradient(values, rest, x, signs)
        return outputs, gradients

    return compiled


def _on_torch(model: keras.Model, variables: list) -> Callable:
    import torch

    def eager(x: Tensor, signs: Tensor) -> tuple[Tensor, list]:
        with torch.enable_grad():
            total, outputs = _signed_sum(model, x, ops.convert_to_tensor(signs))
            gradients = torch.autograd.grad(total, [v.value for v in variables])
        return outputs, list(gradients)

    return eager
