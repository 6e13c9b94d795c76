"""Error and structure along a path of strengths."""

import warnings
from collections.abc import Callable, Sequence
from math import isfinite, nan
from typing import Any

import numpy as np

from keras_softconv.compat import keras
from keras_softconv.path.beginning import own_random_numbers
from keras_softconv.path.checks import (
    check_callbacks,
    check_data,
    check_epochs,
    check_make_model,
    check_model,
    check_numbers,
    standardize_strengths,
    standardize_validation_data,
)
from keras_softconv.path.points import Validation, check_targets, point_of
from keras_softconv.path.results import RegularizationPath
from keras_softconv.path.trainings import (
    FairTrainings,
    Training,
    Trainings,
    WarmTrainings,
)

Strengths = float | tuple[float, float]
BATCH_SIZE = 32  # Keras's own.
WARM_PATIENCE = 5
LEAST_GAIN = 0.01  # From this share on a repetition counts as better.
TINY = 1e-12  # Losses below are zero but for rounding.


def regularization_path(
    make_model: Callable[[], keras.Model],
    data: Any,
    strengths: Sequence[Strengths],
    validation_data: tuple[Any, Any],
    *,
    warm_start: bool = False,
    patience: int | None = None,
    tolerance: float = 1e-4,
    seed: int = 0,
    keep_weights: bool = False,
    verbose: bool = True,
    **fit_arguments: Any,
) -> RegularizationPath:
    """Train with each of several strengths, and compare them on validation examples.

    Every strength begins with the same weights and the same state of everything else:
    optimizer, learning rate, statistics of normalisation, random numbers of dropout and
    shuffling. It has the same budget, `epochs`, and is judged at its best epoch, by the
    loss of the validation examples without penalties. So equal strengths have equal
    losses, and the order of the strengths does not matter.

    `warm_start=True` is for convex problems, as a linear model with convex penalties is:
    each strength goes on from the weights of the last one, from strong to weak, until it
    has converged (Friedman, Hastie and Tibshirani, "Regularization paths for generalized
    linear models via coordinate descent", Journal of Statistical Software 33, 2010). Where
    trainings end early, or end in different optima, weaker strengths would look better
    because more trainings preceded them. The first strength is therefore trained once more
    at the end, and a warning says so if that made it better by 1 % or more.

    Args:
        make_model: makes a compiled model with SoftConv layers and one output. It is called
            once.
        data: what `fit` is given: a pair of arrays `(x, y)`, or a dataset. It is read
            again at each strength, so that a generator or another iterator will not do. A
            `tf.data.Dataset` that shuffles goes on with random numbers of its own, which
            cannot be reset.
        strengths: numbers, for ties and off-template weights alike, or pairs
            `(tie_strength, off_template_strength)`, in any order. They multiply the
            factors of the layers' regularizers.
        validation_data: arrays `(x, y)`, for the choice of epochs and strengths.
        warm_start: whether each strength begins with the weights of the last one.
        patience: the number of epochs without improvement after which a training ends
            before its budget is used up. Improvement means a smaller validation loss; None
            never ends early. With `warm_start` it means a training loss that is smaller by
            more than `tolerance`; None stands for 5 epochs.
        tolerance: with `warm_start`, the relative improvement of the training loss that
            counts as none.
        seed: of the random numbers by which `fit` shuffles. Python, NumPy and torch have
            their random states back afterwards. The global seeds of Keras and TensorFlow
            cannot be read, and are set to a random number of Python.
        keep_weights: whether to keep the weights of every point.
        verbose: whether to show a progress bar, one step a point.
        fit_arguments: for `fit`: `epochs`, `batch_size`, `callbacks`, ... The callbacks are
            given to every training, and may monitor `validation_loss` (with `mode="min"`).
            A `validation_split` only takes examples from the training data.

    Returns:
        A `RegularizationPath`; the points as plain data in `.points`.

    Raises:
        ValueError: before the first training, for a model that is not compiled or has no
            SoftConv layers, strengths that are negative or not finite, no strengths, data
            that can be read only once, validation data other than a pair of arrays,
            arrays of targets that do not fit the loss, and callbacks that move strengths.

    Examples:
        ```python
        path = regularization_path(make_model, (x, y), [0.01, 0.1, 1, 10], (x_val, y_val),
                                   epochs=5)
        path.points[path.one_standard_error]["tie_strength"]
        path.plot()
        ```
    """
    pairs = standardize_strengths(strengths)
    check_make_model(make_model)
    check_data(data)
    x, y = standardize_validation_data(validation_data)
    validation = Validation(x, y, fit_arguments.get("batch_size") or BATCH_SIZE)
    check_epochs(**fit_arguments)
    check_numbers(patience, tolerance, seed)
    check_callbacks(fit_arguments)
    model = make_model()
    check_model(model)
    with own_random_numbers():
        check_targets(model, data, validation)
        trainings = Trainings(model, data, fit_arguments, seed)
        if not warm_start:
            fair = FairTrainings(trainings, validation, patience)
            walk = _Walk(model, fair.train, validation)
            walk.along(pairs, keep_weights, verbose)
        else:
            warm = WarmTrainings(trainings, tolerance, patience or WARM_PATIENCE)
            walk = _Walk(model, warm.train, validation)
            walk.along(pairs, keep_weights, verbose)
            _warn_of_late_ends(walk, warm)
            _warn_of_order(walk)
    return RegularizationPath(walk.points, walk.weights)


class _Walk:
    """Trains with strengths, one after another, and judges the model after each.

    Args:
        model: is trained.
        train: trains it with a pair of strengths.
        validation: the examples that the model is judged by.
    """

    def __init__(
        self,
        model: keras.Model,
        train: Callable[[tuple[float, float]], Training],
        validation: Validation,
    ) -> None:
        self.model, self._train, self._validation = model, train, validation
        self.points: list[dict[str, Any]] = []
        self.weights: list[list[np.ndarray]] = []
        self.trainings: list[Training] = []

    def along(
        self, pairs: list[tuple[float, float]], keep_weights: bool, verbose: bool
    ) -> None:
        """Collect the points, the trainings and, if wanted, the weights."""
        progress = keras.utils.Progbar(
            len(pairs),
            verbose=int(verbose),
            stateful_metrics=["validation_loss"],
            unit_name="strength",
        )
        for number, pair in enumerate(pairs, start=1):
            point, training = self.step(pair)
            self.points.append(point)
            self.trainings.append(training)
            if keep_weights:
                self.weights.append(self.model.get_weights())
            progress.update(number, [("validation_loss", point["validation_loss"])])

    def step(self, pair: tuple[float, float]) -> tuple[dict[str, Any], Training]:
        """One strength: its point and its training."""
        training = self._train(pair)
        losses = self._validation.losses(self.model)
        if training.has_diverged:
            losses = np.full_like(losses, nan)
        point = {
            **point_of(self.model, pair, losses),
            "loss": training.loss,
            "epoch": training.epoch,
            "epochs": len(training.losses),
        }
        return point, training


def _warn_of_late_ends(walk: _Walk, warm: WarmTrainings) -> None:
    """Warn where a training used up its epochs before it had converged."""
    late = [
        (point, training)
        for point, training in zip(walk.points, walk.trainings, strict=True)
        if not (training.has_converged or training.has_diverged)
    ]
    if not late:
        return
    point, training = max(late, key=lambda one: one[1].late_improvement(warm.patience))
    improvement = training.late_improvement(warm.patience)
    warnings.warn(
        f"{len(late)} of {len(walk.points)} strengths had not converged when their "
        f"trainings ended: with strengths {_pair_of(point)} the training loss still fell "
        f"by {improvement:.2%} in the last {min(warm.patience, point['epochs'])} of "
        f"{point['epochs']} epochs, where a warm start supposes less than "
        f"tolerance={warm.tolerance:.2%}. Give more `epochs`, or leave out "
        "`warm_start=True`: then every strength begins with the same weights.",
        stacklevel=3,
    )


def _warn_of_order(walk: _Walk) -> None:
    """Train the first strength once more, and warn if it became better by coming last."""
    good = [point for point in walk.points if isfinite(point["validation_loss"])]
    if not good:
        return
    first, again = good[0], walk.step(_pair_of(good[0]))[0]
    gains = {
        name: (first[name] - again[name]) / max(abs(first[name]), TINY)
        for name in ("loss", "validation_loss")
    }
    if max(gains.values()) <= LEAST_GAIN:
        return
    warnings.warn(
        f"With strengths {_pair_of(first)} the validation loss was "
        f"{first['validation_loss']:.4g} (training loss {first['loss']:.4g}) where the "
        f"path began, and is {again['validation_loss']:.4g} ({again['loss']:.4g}) after "
        "all others. The points are not comparable, because more trainings preceded the "
        "later ones. Leave out `warm_start=True`: then every strength begins with the same "
        "weights. If the loss is convex, a smaller `tolerance`, a larger `patience` and "
        "more `epochs` will do.",
        stacklevel=3,
    )


def _pair_of(point: dict[str, Any]) -> tuple[float, float]:
    return point["tie_strength"], point["off_template_strength"]
