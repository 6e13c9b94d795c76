"""Moves the strengths of a model to where the evidence is greatest."""

import warnings
from typing import Any

import numpy as np

from keras_softconv.compat import keras
from keras_softconv.evidence.curvature import Curvature, Measurement
from keras_softconv.evidence.likelihoods import Likelihood
from keras_softconv.evidence.priors import Prior
from keras_softconv.evidence.soft_priors import free_weights
from keras_softconv.evidence.training_data import TrainingData
from keras_softconv.evidence.updates import LARGEST_FACTOR, Update, updates_of

# Of the labels, the share that has to be left for the noise at least.
LEAST_SHARE_OF_NOISE = 0.1
# Squared errors below this share of the labels' variance may mean that noise was learned.
LEAST_SHARE_OF_ERRORS = 1e-3
# A loss of log evidence for each label that is more than chance.
NOTICED_LOSS = 0.01


class StrengthLearner:
    """Updates of the strengths of some priors of one model.

    Args:
        model: compiled.
        priors: whose strengths are learned.
        likelihood: of the model's loss.
        data: the training data.
        bounds: least and greatest strength.
        probes: random draws at each measurement.
        rng: draws them.
    """

    def __init__(
        self,
        model: keras.Model,
        priors: list[Prior],
        likelihood: Likelihood,
        data: TrainingData,
        bounds: tuple[float, float],
        probes: int,
        rng: np.random.Generator,
    ) -> None:
        self._model, self._priors, self._likelihood = model, priors, likelihood
        self._bounds, self._probes, self._rng = bounds, probes, rng
        parts = [part for prior in priors for part in prior.parts]
        self._curvature = Curvature(model, parts, likelihood, data)
        self._data = data
        # How strengths were moved last, by name.
        self._last_steps: dict[str, np.ndarray] = {}
        self.begin_training()

    def begin_training(self) -> None:
        """Forget which warnings were given, and what the strengths before were worth."""
        self._warned: set[str] = set()
        self._largest_factor = LARGEST_FACTOR
        self._best, self._best_evidence = {}, -np.inf

    def begin(self) -> None:
        """Lower strengths that leave nothing to learn, before the first training."""
        measured = self._measure()
        if not np.isfinite(measured.total):
            raise ValueError(
                "AdaptiveStrengths needs a finite loss of the training data. Received: a "
                f"loss of {measured.total} before the training. Look for NaN and infinite "
                "numbers in the data, and in the weights of a model that was trained."
            )
        self._check_free_weights(measured.terms)
        for update in updates_of(self._priors, measured):
            update.prior.strengths.write(update.first_strengths(self._bounds))

    def update(self) -> dict[str, Any]:
        """New strengths, and what they were found with; see `AdaptiveStrengths.history`."""
        measured = self._measure()
        if not np.isfinite(measured.total):
            return self._left_alone()
        updates = updates_of(self._priors, measured)
        dispersion = self._dispersion(measured, updates)
        found: dict[str, Any] = {
            "log_evidence": self._log_evidence(measured, updates, dispersion)
        }
        if self._likelihood.has_noise:
            found["noise_variance"] = dispersion / 2
            self._check_noise(measured, self._determined(updates))
        self._move(updates, dispersion, found["log_evidence"], measured.terms)
        for update in updates:
            prior = update.prior
            found[prior.strengths.name] = prior.strengths.read().tolist()
            found[prior.effective_name] = update.effective_weights
        return found

    def _move(
        self,
        updates: list[Update],
        dispersion: float,
        log_evidence: float,
        terms: int,
    ) -> None:
        """Make a step, or half of the last one back where it lost evidence.

        A step supposes that the curvature stays. Where classes become certain it does not,
        and the updates would go on beyond the greatest evidence. Squared errors have the
        same curvature for all outputs.
        """
        now = {one.prior.strengths.name: one.prior.strengths.read() for one in updates}
        lost = self._best_evidence - NOTICED_LOSS * terms
        if log_evidence < lost and not self._likelihood.has_noise:
            self._largest_factor **= 0.5
            for update in updates:
                strengths = update.prior.strengths
                strengths.write(np.sqrt(now[strengths.name] * self._best[strengths.name]))
            return
        if log_evidence > self._best_evidence:
            self._best, self._best_evidence = now, log_evidence
            self._largest_factor = min(self._largest_factor**2, LARGEST_FACTOR)
        for update in updates:
            strengths = update.prior.strengths
            last_step = self._last_steps.get(strengths.name, 0.0)
            strengths.write(
                update.strengths(dispersion, self._bounds, self._largest_factor, last_step)
            )
            self._last_steps[strengths.name] = strengths.read() - now[strengths.name]

    def _measure(self) -> Measurement:
        return self._curvature.measure(self._probes, self._rng)

    def _log_evidence(
        self, measured: Measurement, updates: list[Update], dispersion: float
    ) -> float:
        of_labels = self._likelihood.log_likelihood(
            measured.total, measured.terms, dispersion
        )
        return of_labels + sum(update.log_evidence(dispersion) for update in updates)

    def _dispersion(self, measured: Measurement, updates: list[Update]) -> float:
        """1, or twice the variance of the noise."""
        if not self._likelihood.has_noise:
            return 1.0
        labels, determined = measured.terms, self._determined(updates)
        left = max(labels - determined, LEAST_SHARE_OF_NOISE * labels)
        variance = measured.total / left
        if _can_fit_all(labels, determined):  # The variance would go to 0.
            variance = max(variance, LEAST_SHARE_OF_ERRORS * self._data.label_variance)
        return 2 * variance

    def _determined(self, updates: list[Update]) -> float:
        """How many weights the data determine, with or without a ridge."""
        free = free_weights(self._model, self._priors)
        return free + sum(update.effective_weights for update in updates)

    # When not to trust the evidence.

    def _left_alone(self) -> dict[str, Any]:
        """What an update of a diverged training tells: strengths as they are."""
        self._warn_once(
            "not finite",
            "AdaptiveStrengths leaves the strengths as they are: the loss of the training "
            "data is not finite. Lower the learning rate.",
        )
        found: dict[str, Any] = {"log_evidence": np.nan}
        if self._likelihood.has_noise:
            found["noise_variance"] = np.nan
        for prior in self._priors:
            found[prior.strengths.name] = prior.strengths.read().tolist()
            found[prior.effective_name] = np.nan
        return found

    def _check_noise(self, measured: Measurement, determined: float) -> None:
        """Warn where the data do not tell their noise from what can be learned."""
        weights = sum(int(np.prod(one.shape)) for one in self._model.trainable_variables)
        labels, error = measured.terms, measured.total / measured.terms
        if _can_fit_all(labels, determined):
            self._warn_once(
                "no noise",
                "The strengths that AdaptiveStrengths finds are not to be trusted: the "
                f"training data determine {determined:,.0f} weights by {labels:,} labels, "
                "so that the noise cannot be told from what is learned. Expected at most "
                "90 % as many weights. The noise is taken to be "
                f"{LEAST_SHARE_OF_ERRORS:.1%} of the variance of the labels, or more. Give "
                "more data, ridges to the other layers and `include='all'`, or compare "
                "strengths by `keras_softconv.regularization_path`.",
            )
        elif weights > labels and error < LEAST_SHARE_OF_ERRORS * self._data.label_variance:
            share = error / self._data.label_variance
            self._warn_once(
                "fitted entirely",
                "The strengths that AdaptiveStrengths finds are not to be trusted, unless "
                f"the labels are without noise: the model has {weights:,} weights for "
                f"{labels:,} labels, and its squared errors are {share:.1e} of the "
                "variance of the labels, so that it may have learned their noise. Compare "
                "strengths by `keras_softconv.regularization_path`.",
            )

    def _check_free_weights(self, terms: int) -> None:
        """Warn of a model that can fit its training data whatever the ridges."""
        free = free_weights(self._model, self._priors)
        numbers = self._likelihood.numbers_in(self._model.output_shape[-1])
        if _can_fit_all(terms * numbers, free):
            warnings.warn(
                f"Model '{self._model.name}' has {free:,} trainable weights without a "
                "ridge that is learned. Expected at most 90 % as many as the "
                f"{terms * numbers:,} numbers in the labels ({terms:,} labels, {numbers} "
                "for each). It may fit its training data whatever the ridges, and then the "
                "strengths that AdaptiveStrengths finds are not to be trusted. Make all "
                "layers with `kernel_regularizer=keras.regularizers.L2(1e-3)` and give "
                "`include='all'`.",
                stacklevel=4,
            )

    def _warn_once(self, reason: str, message: str) -> None:
        """Warn, unless this training was warned for the same reason."""
        if reason not in self._warned:
            warnings.warn(message, stacklevel=5)
        self._warned.add(reason)


def _can_fit_all(labels: int, weights: float) -> bool:
    """Whether too few labels are left to tell their noise from what is learned."""
    return weights > (1 - LEAST_SHARE_OF_NOISE) * labels
