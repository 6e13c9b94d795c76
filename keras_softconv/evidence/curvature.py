"""How much the data say about each weight: the diagonal of the loss's curvature."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_softconv.compat import keras, ops
from keras_softconv.evidence.likelihoods import Likelihood
from keras_softconv.evidence.training_data import TrainingData

Tensor = Any

# The products of pairs of so many draws are known well enough.
WANTED_DRAWS = 48
# Draws in one call of the compiled function, which has a backward pass for each.
MOST_AT_ONCE = 8
# Numbers in all draws together, 256 MB.
LARGEST_DRAWS = 2**26


@dataclass(frozen=True)
class Part:
    """Numbers that a prior takes for independent, and how they follow from a weight.

    Args:
        variable: a trainable weight of the model.
        coefficients: linear; from the weight, or its gradient, as a float32 tensor to the
            numbers. Where rows of numbers have priors of their own, these are the columns.
        without_free: from the numbers to those without what free weights will take, such as
            the means of families; None where there are no free weights.
    """

    variable: keras.Variable
    coefficients: Callable[[Tensor], Tensor]
    without_free: Callable[[np.ndarray], np.ndarray] | None = None

    def values(self) -> np.ndarray:
        """The numbers now."""
        stored = ops.cast(ops.convert_to_tensor(self.variable), "float32")
        values = ops.convert_to_numpy(self.coefficients(stored)).astype("float64")
        return values if self.without_free is None else self.without_free(values)


@dataclass(frozen=True)
class Measurement:
    """What the training data say at the current weights.

    Args:
        total: `M * loss` without penalties.
        terms: M, the number of the loss's terms.
        curvatures: of each part, the second derivatives of `M * loss`.
        draws: of each part, gradients `J' R r` with independent signs r, summed over some
            of the data; the draws are along the first axis.
        pairs: `(draws, draws)`, with which weights the squares of the draws' products add
            up to the squared Frobenius norm of `J' R R' J`; 0 where there is one draw of
            each example.
        probes: how many draws there are of each example.
    """

    total: float
    terms: int
    curvatures: list[np.ndarray]
    draws: list[np.ndarray]
    pairs: np.ndarray
    probes: int


class Curvature:
    """The diagonal of the generalised Gauss-Newton matrix of `M * loss`, by random signs.

    With random signs r for each output, R from `Likelihood.curvature_root` and J the
    derivative of the outputs, the square of the gradient `J' R r` has the diagonal of
    `J' R R' J` for its mean (Bekas, Kokiopoulou and Saad, "An estimator for the diagonal
    of a matrix", Applied Numerical Mathematics 57, 2007). That is the Fisher information of
    labels that the model itself would draw. A draw takes one backward pass. Batches are
    squared one by one, which leaves the mean and takes from the variance.

    The model predicts as after training: normalisation by its moving statistics, without
    dropout. So each example has an output of its own.

    Args:
        model: with one output.
        parts: of which the curvature is wanted.
        likelihood: of the outputs.
        data: the training data.
    """

    def __init__(
        self,
        model: keras.Model,
        parts: list[Part],
        likelihood: Likelihood,
        data: TrainingData,
    ) -> None:
        self._likelihood, self._data = likelihood, data
        self._parts = parts
        by_id = {id(part.variable): part.variable for part in parts}
        places = {key: place for place, key in enumerate(by_id)}
        # The places of the gradients that the parts are taken from.
        self._places = [places[id(part.variable)] for part in parts]
        self._gradients = _compiled(self, model, list(by_id.values()))

    def measure(self, probes: int, rng: np.random.Generator) -> Measurement:
        """The loss and the curvatures now.

        Args:
            probes: how many draws of the signs are averaged.
            rng: draws them.
        """
        total, terms = 0.0, 0
        curvatures = [np.zeros(part.values().shape) for part in self._parts]
        folds = self._folds(probes, sum(one.size for one in curvatures))
        draws = [np.zeros((folds, probes, *one.shape), "float32") for one in curvatures]
        number = -1
        for number, (x, y) in enumerate(self._data.batches(folds)):
            shape = self._data.output_shape(y)
            signs = rng.integers(2, size=(probes, *shape)).astype("float32") * 2 - 1
            for begin in range(0, probes, MOST_AT_ONCE):
                some = slice(begin, begin + MOST_AT_ONCE)
                loss, *gradients = self._gradients(x, y, signs[some])
                for place, gradient in enumerate(map(ops.convert_to_numpy, gradients)):
                    curvatures[place] += np.square(gradient).sum(axis=0) / probes
                    draws[place][number % folds, some] += gradient
            of_batch = self._likelihood.terms(y)
            total += of_batch * float(ops.convert_to_numpy(loss))
            terms += of_batch
        folds = min(folds, number + 1)  # Of few batches some folds stay empty.
        draws = [one[:folds].reshape(-1, *one.shape[2:]) for one in draws]
        pairs = _pair_weights(folds, probes)
        return Measurement(total, terms, curvatures, draws, pairs, probes)

    def _folds(self, probes: int, size: int) -> int:
        """Into how many parts the data are divided, each with draws of its own."""
        wanted = -(-WANTED_DRAWS // probes)
        return max(1, min(wanted, LARGEST_DRAWS // (probes * max(size, 1))))

    # What is compiled.

    def roots(self, outputs: Tensor, signs: Tensor) -> Tensor:
        """What the outputs are multiplied by, so that the gradient is `J' R r`."""
        return ops.stop_gradient(self._likelihood.curvature_root(outputs, signs))

    def loss(self, y: Tensor, outputs: Tensor) -> Tensor:
        """The mean over the terms of a batch."""
        return self._likelihood.loss(y, outputs)

    def of_parts(self, gradients: Iterable[Tensor]) -> list[Tensor]:
        """Of each part, from the gradients of the variables."""
        gradients = [ops.cast(one, "float32") for one in gradients]
        return [
            part.coefficients(gradients[place])
            for part, place in zip(self._parts, self._places, strict=True)
        ]


def _pair_weights(folds: int, probes: int) -> np.ndarray:
    """See `Measurement.pairs`."""
    fold = np.repeat(np.arange(folds), probes)
    is_same = fold[:, None] == fold
    if probes < 2:
        return np.zeros(is_same.shape)
    weights = np.where(is_same, 1 / (probes * (probes - 1)), 1 / probes**2)
    np.fill_diagonal(weights, 0.0)
    return weights


def _predict(model: keras.Model, x: Tensor) -> Tensor:
    return ops.cast(model(x, training=False), "float32")


def _compiled(of: Curvature, model: keras.Model, variables: list) -> Callable:
    """A function of a batch and signs: loss, and each part's gradients for all signs."""
    of_backend = {"tensorflow": _on_tensorflow, "jax": _on_jax, "torch": _on_torch}
    return of_backend[keras.backend.backend()](of, model, variables)


def _on_tensorflow(of: Curvature, model: keras.Model, variables: list) -> Callable:
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def program(x: Tensor, y: Tensor, signs: tuple[Tensor, ...]) -> list[Tensor]:
        with tf.GradientTape(persistent=True) as tape:
            outputs = _predict(model, x)
        found = []
        for one in signs:
            root = of.roots(outputs, one)
            gradients = tape.gradient(
                outputs, variables, root, unconnected_gradients="zero"
            )
            found.append(of.of_parts(map(tf.convert_to_tensor, gradients)))
        return [of.loss(y, outputs), *map(tf.stack, zip(*found, strict=True))]

    def compiled(x: Tensor, y: Tensor, signs: np.ndarray) -> list[Tensor]:
        return program(x, y, tuple(signs))

    return compiled


def _on_jax(of: Curvature, model: keras.Model, variables: list) -> Callable:
    import jax

    others = [v for v in model.variables if not any(v is one for one in variables)]

    def all_gradients(
        values: list, rest: list, x: Tensor, y: Tensor, signs: Tensor
    ) -> list:
        def outputs_of(values: list) -> Tensor:
            state = zip([*variables, *others], [*values, *rest], strict=True)
            with keras.StatelessScope(state):
                return _predict(model, x)

        outputs, pull_back = jax.vjp(outputs_of, values)

        def gradients(signs: Tensor) -> list[Tensor]:
            return of.of_parts(pull_back(of.roots(outputs, signs))[0])

        return [of.loss(y, outputs), *jax.vmap(gradients)(signs)]

    program = jax.jit(all_gradients)

    def compiled(x: Tensor, y: Tensor, signs: Tensor) -> list[Tensor]:
        values, rest = ([v.value for v in some] for some in (variables, others))
        return program(values, rest, x, y, signs)

    return compiled


def _on_torch(of: Curvature, model: keras.Model, variables: list) -> Callable:
    import torch

    def eager(x: Tensor, y: Tensor, signs: Tensor) -> list[Tensor]:
        values = [variable.value for variable in variables]
        with torch.enable_grad():
            outputs = _predict(model, x)
        found = []
        # PyTorch refuses to differentiate with respect to nothing.
        signs = signs if values else signs[:0]
        for one in ops.convert_to_tensor(signs):
            root = of.roots(outputs.detach(), one)
            gradients = torch.autograd.grad(
                outputs, values, root, retain_graph=True, materialize_grads=True
            )
            with torch.no_grad():
                found.append(of.of_parts(gradients))
        with torch.no_grad():
            loss = of.loss(ops.convert_to_tensor(y), outputs)
        return [loss, *map(torch.stack, zip(*found, strict=True))]

    return eager
