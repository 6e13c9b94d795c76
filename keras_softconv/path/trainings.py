"""One training for each strength: from the same state, or from where the last one ended."""

from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any

import numpy as np

from keras_softconv.compat import keras, ops
from keras_softconv.diagnostics import soft_layers
from keras_softconv.path.beginning import Beginning
from keras_softconv.path.points import Validation

Pair = tuple[float, float]


@dataclass(frozen=True)
class Training:
    """What one call of `fit` did.

    Args:
        losses: training loss of every epoch, with penalties.
        epoch: how many epochs the weights that were kept were trained for.
        has_converged: whether the training loss stood still. It is False where that was
            not looked for.
    """

    losses: list[float]
    epoch: int
    has_converged: bool = False

    @property
    def has_diverged(self) -> bool:
        """Whether the training loss became infinite, or no number."""
        return not isfinite(self.losses[-1])

    @property
    def loss(self) -> float:
        """Training loss at the epoch whose weights were kept."""
        return self.losses[-1] if self.has_diverged else self.losses[self.epoch - 1]

    def late_improvement(self, epochs: int) -> float:
        """The share by which the training loss fell in the last epochs."""
        before = self.losses[max(len(self.losses) - 1 - epochs, 0)]
        return (before - self.losses[-1]) / abs(before) if before else 0.0


@dataclass
class Trainings:
    """What all trainings of a path share.

    Args:
        model: is trained again and again.
        data: for `fit`.
        fit_arguments: for `fit`.
        seed: of the random numbers by which `fit` shuffles.
    """

    model: keras.Model
    data: Any
    fit_arguments: dict[str, Any]
    seed: int
    _beginning: Beginning = field(init=False)

    def __post_init__(self) -> None:
        self._beginning = Beginning(self.model, self.seed)

    def begin(self, pair: Pair, weights: list[np.ndarray] | None = None) -> None:
        """Give the model its first state, or other weights, and the strengths."""
        self._beginning.restore()
        if weights is not None:
            self.model.set_weights(weights)
        for layer in soft_layers(self.model).values():
            layer.tie_strength.assign(pair[0])
            layer.off_template_strength.assign(pair[1])

    def fit(self, *callbacks: keras.callbacks.Callback) -> dict[str, list[float]]:
        """Train with callbacks that come before those of the user; the history."""
        given = self.data if isinstance(self.data, (tuple, list)) else (self.data,)
        # Where a model is trained for the first time Keras reads a batch to build its
        # metrics, so that the random numbers are reset again after that.
        seeds = keras.callbacks.LambdaCallback(
            on_train_begin=lambda logs: self._beginning.restore_random_numbers()
        )
        of_user = list_of_callbacks(self.fit_arguments)
        callbacks = [seeds, Guard(self.data), *callbacks, *of_user]
        arguments = {"verbose": 0, **self.fit_arguments, "callbacks": callbacks}
        try:
            return self.model.fit(*given, **arguments).history
        except (StopIteration, UnboundLocalError) as error:
            # Keras's training on JAX fails so if there is no batch.
            raise no_batches(self.data) from error


def no_batches(data: Any) -> ValueError:
    """The error of data that have come to their end."""
    return ValueError(
        "`data` must have batches whenever they are read: in every epoch, at each "
        f"strength. Received: a {type(data).__name__} without any batch left. Give "
        "arrays, or a dataset that can be read again, with a generator function that "
        "begins again."
    )


class FairTrainings:
    """Trains every strength from the same state, and keeps the weights of its best epoch.

    Args:
        trainings: the model and how it is fitted.
        validation: the examples that tell the best epoch.
        patience: epochs without a better one after which a training ends; None for no such
            end.
    """

    def __init__(
        self, trainings: Trainings, validation: Validation, patience: int | None
    ) -> None:
        self._trainings, self._validation = trainings, validation
        self._patience = patience

    def train(self, pair: Pair) -> Training:
        """Leave the model with the weights of the best epoch."""
        self._trainings.begin(pair)
        early = keras.callbacks.EarlyStopping(
            "validation_loss",
            mode="min",
            patience=inf if self._patience is None else self._patience,
            restore_best_weights=True,
        )
        judge = ValidationLoss(self._validation)
        history = self._trainings.fit(judge, early)
        # Keras restores them itself at the end of a training, but callbacks may come after
        # that, and an old Keras does not if the budget was used up.
        self._trainings.model.set_weights(early.best_weights)
        best = int(np.argmin(history["validation_loss"]))
        return Training(history["loss"], best + 1)


class WarmTrainings:
    """Trains every strength from the weights of the last one, until it has converged.

    Args:
        trainings: the model and how it is fitted.
        tolerance: a relative improvement of the training loss.
        patience: epochs with less improvement than that after which a training ends.
    """

    def __init__(self, trainings: Trainings, tolerance: float, patience: int) -> None:
        self._trainings, self.patience, self.tolerance = trainings, patience, tolerance
        self._weights: list[np.ndarray] | None = None

    def train(self, pair: Pair) -> Training:
        """Leave the model with the weights of the last epoch."""
        self._trainings.begin(pair, self._weights)
        converged = Converged(self.tolerance, self.patience)
        losses = self._trainings.fit(converged)["loss"]
        training = Training(losses, len(losses), converged.has_converged)
        weights = self._trainings.model.get_weights()
        if not training.has_diverged and all(np.isfinite(w).all() for w in weights):
            self._weights = weights
        return training


class Guard(keras.callbacks.Callback):
    """Raises where a training is not like the others, and stops what has diverged.

    Args:
        data: what is trained with.
    """

    def __init__(self, data: Any) -> None:
        super().__init__()
        self._data = data

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._strengths = _strengths_of(self.model)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if "loss" not in logs:
            raise no_batches(self._data)
        found = _strengths_of(self.model)
        if found != self._strengths:
            raise ValueError(
                "The strengths of a path must not be moved while it is made. Received: "
                f"callbacks that moved them from {self._strengths} to {found}. Leave such "
                "callbacks out of `callbacks`."
            )
        if not isfinite(logs["loss"]):
            self.model.stop_training = True


def _strengths_of(model: keras.Model) -> list[Pair]:
    return [
        tuple(
            float(ops.convert_to_numpy(strength))
            for strength in (layer.tie_strength, layer.off_template_strength)
        )
        for layer in soft_layers(model).values()
    ]


class ValidationLoss(keras.callbacks.Callback):
    """Adds `validation_loss` to `logs`: the loss of validation examples, without penalties.

    Args:
        validation: the examples.
    """

    def __init__(self, validation: Validation) -> None:
        super().__init__()
        self._validation = validation

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        loss = float(self._validation.losses(self.model).mean())
        # No epoch would count as better than one whose loss is no number.
        logs["validation_loss"] = loss if isfinite(loss) else inf


class Converged(keras.callbacks.Callback):
    """Ends a training whose loss stands still.

    Args:
        tolerance: the relative improvement that is none.
        patience: how many epochs are waited for a larger one.
    """

    def __init__(self, tolerance: float, patience: int) -> None:
        super().__init__()
        self._tolerance, self._patience = tolerance, patience
        self.has_converged = False
        self._reference, self._waited = inf, 0

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        loss = logs["loss"]
        least_gain = self._tolerance * abs(self._reference)
        if self._reference == inf or loss < self._reference - least_gain:
            self._reference, self._waited = loss, 0
            return
        self._waited += 1
        if self._waited >= self._patience:
            self.has_converged = isfinite(loss)
            self.model.stop_training = True


def list_of_callbacks(fit_arguments: dict[str, Any]) -> list[Any]:
    """The callbacks that a user gives to `fit`: one, a list, Keras's list or None."""
    given = fit_arguments.get("callbacks") or []
    given = getattr(given, "callbacks", given)
    return list(given) if isinstance(given, (list, tuple)) else [given]
