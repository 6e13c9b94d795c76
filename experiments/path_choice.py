"""Whether `regularization_path` chooses the strength that fits one by one choose.

    python experiments/path_choice.py [--quick] [--seeds 10] [--write]

Two classifiers with one soft layer, `halo=0` and ridges `L2(0.001)`: digits (SoftConv2D, 8
filters of 3x3) and series of sensors (SoftConv1D, 8 filters of 9 steps), each with 400
examples for training and 100 for validation. Strengths are 100, 10, 1 and 0.1. Trainings
have up to 16 epochs, and end when the validation loss has not become smaller for 3.

*Fits one by one* are written without the path: a new model for each strength, stopped early
by Keras's validation loss, which here has no penalties. They have the same first weights
and order of examples as the path. *Other first weights* are the same fits with first
weights and orders of their own, and show how often chance alone changes the choice. *Warm
start* is the path that goes on from the weights of the last strength.

A choice is compared with that of the fits one by one. It is *within a standard error* if
the fit with that strength has a validation loss within one standard error of the best.
"""

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import classification
import keras
import numpy as np
import sensors
from comparison import Found, errors, mean_and_error, tuned
from study import Study, search

from keras_softconv import SoftConv1D, SoftConv2D, regularization_path
from keras_softconv.diagnostics.tables import markdown_table

RIDGE = keras.regularizers.L2(1e-3)
STRENGTHS = (100.0, 10.0, 1.0, 0.1)
EXAMPLES, EPOCHS, PATIENCE, RATE = 400, 16, 3, 1e-2
ONE_BY_ONE, OTHERS = "fits one by one", "other first weights"
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@dataclass(frozen=True)
class Classifier:
    """A task and its network.

    Args:
        draw: from a seed to `train`, `validation` and `test` data.
        layers: from the soft layer on.
    """

    draw: Callable[[int], Any]
    layers: Callable[[], list[keras.Layer]]

    def model(self, draw: Any, seed: int) -> keras.Model:
        """Compiled, with first weights that the seed draws."""
        keras.utils.set_random_seed(seed)
        inputs = keras.Input(draw.train[0].shape[1:])
        model = keras.Sequential([inputs, *self.layers()])
        entropy = keras.metrics.SparseCategoricalCrossentropy("entropy", from_logits=True)
        model.compile(keras.optimizers.Adam(RATE), LOSS, metrics=[entropy])
        return model


def digit_layers() -> list[keras.Layer]:
    soft = SoftConv2D(8, 3, halo=0, tie_regularizer=RIDGE, name="soft")
    return [soft, keras.layers.ReLU(), keras.layers.Flatten(), keras.layers.Dense(10)]


def sensor_layers() -> list[keras.Layer]:
    soft = SoftConv1D(8, 9, halo=0, tie_regularizer=RIDGE, name="soft")
    pooling = keras.layers.GlobalMaxPooling1D()
    return [soft, keras.layers.ReLU(), pooling, keras.layers.Dense(5)]


DIGITS = Classifier(
    lambda seed: classification.Draw(classification.Task(EXAMPLES), seed), digit_layers
)
SENSORS = Classifier(
    lambda seed: sensors.Draw(sensors.Task(EXAMPLES, steps=64, channels=8), seed),
    sensor_layers,
)


def mistaken(model: keras.Model, draw: Any) -> float:
    """How many test examples, in %."""
    inputs, classes = draw.test
    found = model.predict(inputs, batch_size=256, verbose=0).argmax(axis=-1)
    return float(100 * np.mean(found != classes))


@dataclass(frozen=True)
class OneByOne:
    """For each strength a new model, and Keras's own early stopping."""

    classifier: Classifier
    epochs: int
    strengths: tuple[float, ...]
    name: str

    def fits(self, draw: Any) -> list[dict[str, Any]]:
        seeds = [draw.seed] * len(self.strengths)
        if self.name == OTHERS:
            seeds = [1000 + len(seeds) * draw.seed + index for index in range(len(seeds))]
        pairs = zip(self.strengths, seeds, strict=True)
        return [self.fit(draw, strength, seed) for strength, seed in pairs]

    def fit(self, draw: Any, strength: float, seed: int) -> dict[str, Any]:
        model = self.classifier.model(draw, seed)
        model.get_layer("soft").tie_strength.assign(strength)
        model.get_layer("soft").off_template_strength.assign(strength)
        early = keras.callbacks.EarlyStopping(
            "val_entropy", mode="min", patience=PATIENCE, restore_best_weights=True
        )
        keras.utils.set_random_seed(seed)
        model.fit(
            *draw.train,
            epochs=self.epochs,
            validation_data=draw.validation,
            callbacks=[early],
            verbose=0,
        )
        inputs, classes = draw.validation
        logits = keras.ops.log_softmax(model.predict(inputs, verbose=0))
        losses = -keras.ops.convert_to_numpy(logits)[np.arange(len(classes)), classes]
        return {
            "setting": strength,
            "validation": float(losses.mean()),
            "standard_error": float(losses.std(ddof=1) / np.sqrt(len(losses))),
            "error": mistaken(model, draw),
        }


@dataclass(frozen=True)
class Along:
    """`regularization_path`, fair or with a warm start."""

    classifier: Classifier
    epochs: int
    strengths: tuple[float, ...]
    warm_start: bool

    @property
    def name(self) -> str:
        return "warm start" if self.warm_start else "path"

    def fits(self, draw: Any) -> list[dict[str, Any]]:
        model = self.classifier.model(draw, draw.seed)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            path = regularization_path(
                lambda: model,
                draw.train,
                self.strengths,
                draw.validation,
                warm_start=self.warm_start,
                patience=None if self.warm_start else PATIENCE,
                seed=draw.seed,
                epochs=self.epochs,
                keep_weights=True,
                verbose=False,
            )
        warned = any("not comparable" in str(one.message) for one in caught)
        fits = []
        for index, point in enumerate(path.points):
            path.restore(model, index)
            fits.append({
                "setting": point["tie_strength"],
                "validation": point["validation_loss"],
                "standard_error": point["standard_error"],
                "error": mistaken(model, draw),
                "warned": warned,
            })  # fmt: skip
        return fits


def measure(options: argparse.Namespace) -> Found:
    arguments = (1, STRENGTHS[1:3]) if options.quick else (EPOCHS, STRENGTHS)

    def methods(classifier: Classifier) -> list[Any]:
        paths = [Along(classifier, *arguments, warm_start) for warm_start in (False, True)]
        fits = [OneByOne(classifier, *arguments, name) for name in (ONE_BY_ONE, OTHERS)]
        return [*fits, *paths]

    def draw(classifier: Classifier, seed: int) -> Any:
        return classifier.draw(seed)

    tasks = {"digits": DIGITS} if options.quick else {"digits": DIGITS, "sensors": SENSORS}
    return search(tasks, draw, methods, options.seeds)


def render(found: Found) -> dict[str, str]:
    rows = [["choice", "same strength", "within a standard error", "warned", "% mistaken"]]
    for task, of_task in found.items():
        one_by_one = of_task[ONE_BY_ONE]
        for name, seeds in of_task.items():
            agreement = ["", "", ""] if name == ONE_BY_ONE else agree(one_by_one, seeds)
            mean = mean_and_error(errors(tuned(seeds)))
            rows.append([f"{task}, {name}", *agreement, mean])
    return {"path choice": markdown_table(rows)}


def agree(one_by_one: list[list[dict]], seeds: list[list[dict]]) -> list[str]:
    """In how many seeds a path chooses as the fits do, nearly so, and warned."""
    same, near, warned = [], [], []
    for fits, best, chosen in zip(one_by_one, tuned(one_by_one), tuned(seeds), strict=True):
        (fit,) = (fit for fit in fits if fit["setting"] == chosen["setting"])
        same.append(chosen["setting"] == best["setting"])
        near.append(fit["validation"] <= best["validation"] + best["standard_error"])
        warned.append(chosen.get("warned", False))
    return [f"{sum(those)} of {len(those)}" for those in (same, near, warned)]


if __name__ == "__main__":
    Study("path_choice", __doc__, measure, render, seeds=10).main()
