"""Losses as negative log-likelihoods: their value, their curvature and their labels."""

from math import log, pi
from typing import Any

import numpy as np

from keras_softconv.compat import keras, ops

Tensor = Any

# Keras's own losses keep probabilities as far from 0 and 1.
EPSILON = 1e-7


class Likelihood:
    """A loss whose sum over its M terms is, up to a factor, a negative log-likelihood.

        negative log-likelihood = M * loss / dispersion + a constant of the data

    Args:
        loss: Keras's loss, of which the mean over all terms is taken.
    """

    # Whether the dispersion, twice the variance of the noise, is found from the residuals.
    has_noise = False
    # Whether the labels are numbers of classes, without the axis of the outputs' classes.
    has_class_numbers = False

    def __init__(self, loss: keras.Loss) -> None:
        self.loss = loss
        self._config = loss.get_config()

    def terms(self, labels: Any) -> int:
        """M, how many terms the mean of the loss is taken over."""
        return int(np.prod(labels.shape))

    def numbers_in(self, classes: int) -> int:
        """How many free numbers each term has to fit."""
        return 1

    def curvature_root(self, outputs: Tensor, signs: Tensor) -> Tensor:
        """`R @ signs` with `R R'` the Fisher information of the outputs for `M * loss`.

        For random signs its covariance is the Fisher information, as that of the gradients
        of labels drawn from the model, and it has less chance in it.

        Args:
            outputs: float32 tensor, what the model predicts.
            signs: +1 and -1, of the outputs' shape.
        """
        raise NotImplementedError

    def log_likelihood(self, total: float, terms: int, dispersion: float) -> float:
        """Of the labels, up to a constant that depends on nothing else.

        Args:
            total: `M * loss`.
            terms: M.
            dispersion: 1, or twice the variance of the noise.
        """
        return -total

    def find_faults(self, labels: np.ndarray, classes: int) -> str | None:
        """What is wrong with the values of labels, None if nothing is.

        Args:
            labels: of some examples.
            classes: size of the last axis of the outputs.
        """
        return None


class Gaussian(Likelihood):
    """The mean squared error, with noise of one unknown variance."""

    has_noise = True

    def curvature_root(self, outputs: Tensor, signs: Tensor) -> Tensor:
        return 2**0.5 * signs

    def log_likelihood(self, total: float, terms: int, dispersion: float) -> float:
        return -total / dispersion - terms / 2 * log(pi * dispersion)

    def find_faults(self, labels: np.ndarray, classes: int) -> str | None:
        return None if np.isfinite(labels).all() else "are not all finite"


class Categorical(Likelihood):
    """The categorical cross-entropy; classes along the last axis."""

    def terms(self, labels: Any) -> int:
        return int(np.prod(labels.shape[:-1]))

    def numbers_in(self, classes: int) -> int:
        return classes - 1

    def curvature_root(self, outputs: Tensor, signs: Tensor) -> Tensor:
        # The Fisher information of logits is diag(p) - p p'.
        if self._config["from_logits"]:
            shares = ops.softmax(outputs, axis=-1)
            roots = ops.sqrt(shares) * signs
            return roots - shares * ops.sum(roots, axis=-1, keepdims=True)
        outputs = ops.clip(outputs, EPSILON, 1.0)
        whole = ops.sum(outputs, axis=-1, keepdims=True)  # Keras divides by it
        roots = ops.sqrt(outputs / whole) * signs
        return roots / outputs - ops.sum(roots, axis=-1, keepdims=True) / whole

    def find_faults(self, labels: np.ndarray, classes: int) -> str | None:
        is_share = (labels >= 0).all() and np.allclose(labels.sum(axis=-1), 1, atol=1e-3)
        return None if is_share else "are not shares of the classes that add up to 1"


class SparseCategorical(Categorical):
    """The same with numbers of classes as labels."""

    has_class_numbers = True

    def terms(self, labels: Any) -> int:
        return int(np.prod(labels.shape))

    def find_faults(self, labels: np.ndarray, classes: int) -> str | None:
        is_class = (labels == np.round(labels)) & (labels >= 0) & (labels < classes)
        return None if is_class.all() else f"are not all numbers from 0 to {classes - 1}"


class Bernoulli(Likelihood):
    """The binary cross-entropy, of each output by itself."""

    def curvature_root(self, outputs: Tensor, signs: Tensor) -> Tensor:
        # The Fisher information of a logit is p (1 - p).
        if self._config["from_logits"]:
            share = ops.sigmoid(outputs)
            return ops.sqrt(share * ops.sigmoid(-outputs)) * signs
        share = ops.clip(outputs, EPSILON, 1 - EPSILON)
        return signs / ops.sqrt(share * (1 - share))

    def find_faults(self, labels: np.ndarray, classes: int) -> str | None:
        is_share = ((labels >= 0) & (labels <= 1)).all()
        return None if is_share else "are not all between 0 and 1"


class Poisson(Likelihood):
    """Counts, the outputs being their means."""

    def curvature_root(self, outputs: Tensor, signs: Tensor) -> Tensor:
        return signs / ops.sqrt(ops.maximum(outputs, EPSILON))

    def find_faults(self, labels: np.ndarray, classes: int) -> str | None:
        is_count = (np.isfinite(labels) & (labels >= 0)).all()
        return None if is_count else "are not all 0 or more"


LIKELIHOODS = {
    keras.losses.MeanSquaredError: Gaussian,
    keras.losses.CategoricalCrossentropy: Categorical,
    keras.losses.SparseCategoricalCrossentropy: SparseCategorical,
    keras.losses.BinaryCrossentropy: Bernoulli,
    keras.losses.Poisson: Poisson,
}
# Arguments with which a loss has another curvature than is computed here.
PLAIN_OPTIONS = {"axis": -1, "ignore_class": None}


def likelihood_of(loss: Any) -> Likelihood:
    """The likelihood of a loss, as `compile` is given it.

    Raises:
        ValueError: for a loss that is none of a likelihood with known curvature, one of
            several outputs, and options that make it another one.
    """
    found = _as_known_loss(loss)
    if found is None:
        names = ", ".join(sorted(kind.__name__ for kind in LIKELIHOODS))
        raise ValueError(
            "AdaptiveStrengths needs the loss of one output that is a likelihood of its "
            f"labels. Expected one of {names} of `keras.losses`. Received: loss={loss!r}. "
            "For other losses compare strengths by `keras_softconv.regularization_path`."
        )
    config = found.get_config()
    reduction = getattr(found, "reduction", "sum_over_batch_size")
    is_mean = reduction in ("auto", "sum_over_batch_size", "mean")
    wrong = {k: config[k] for k, v in PLAIN_OPTIONS.items() if config.get(k, v) != v}
    if not is_mean or wrong:
        options = ", ".join(
            f"{k}={v!r}" for k, v in {"reduction": reduction, **wrong}.items()
        )
        raise ValueError(
            "AdaptiveStrengths needs the mean of the loss over all of its terms, with the "
            f"classes along the last axis. Received: {type(found).__name__} with {options}."
            " Leave these arguments out, or compare strengths by "
            "`keras_softconv.regularization_path`."
        )
    return LIKELIHOODS[type(found)](found)


def _as_known_loss(loss: Any) -> keras.Loss | None:
    """An object of a known class, from a loss, its name or its function."""
    if not isinstance(loss, (dict, list, tuple)):
        loss = keras.losses.get(loss)
    if type(loss) in LIKELIHOODS:
        return loss
    known = (kind() for kind in LIKELIHOODS)
    return next((one for one in known if one.fn is loss), None)
