"""Linear regression with a truth that is almost a convolution.

Gaussian 8x8x1 images, a 3x3 'valid' filter bank and Gaussian noise: the truth is a dense
kernel whose every output has signal variance 1 in the mean. A departure from convolution of
size v is made in one of five ways. What is reported is the excess risk, the mean squared
error of the signal of new images in % of its variance: exactly, from the distance of the
kernels, because the inputs are independent and of variance 1.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tensorflow as tf

from keras_softconv import SoftConv2D
from keras_softconv.compat import keras
from keras_softconv.optimizers import ProximalAdam

NOISE = 0.5
ROUND = 50  # steps, after which the validation error is looked at


@dataclass(frozen=True)
class Task:
    """Where the truth departs from a convolution.

    Args:
        departure: 'children', a share `violation` of the positions has kernels of its own;
            'dense', a random dense kernel is mixed in; 'families', a share of the taps has
            members that are all different; 'drift', kernels change linearly along rows and
            columns; 'regions', the right half has another kernel.
        violation: of the variance, for 'children' and 'families' of the places.
        examples: to train on.
        side, filters: of the images and of the kernel.
    """

    departure: str
    violation: float
    examples: int = 100
    side: int = 8
    filters: int = 2

    @property
    def grid(self) -> int:
        """Outputs along one axis."""
        return self.side - 2

    @property
    def outputs(self) -> int:
        return self.grid**2 * self.filters

    @cached_property
    def family_ids(self) -> np.ndarray:
        """`(inputs, rows, columns, filters)`."""
        layer = SoftConv2D(self.filters, 3)
        layer.build((None, self.side, self.side, 1))
        ids = layer.family_ids()
        return ids.reshape(-1, self.grid, self.grid, self.filters)

    def taps(self, rng: np.random.Generator) -> np.ndarray:
        """Kernels of all positions, `(rows, columns, families)`."""
        families = 9 * self.filters
        grid = (self.grid, self.grid)
        shared = rng.normal(size=families) / 3
        fresh = rng.normal(size=(*grid, families)) / 3
        taps = np.broadcast_to(shared, fresh.shape).copy()
        v = self.violation
        if self.departure == "children":
            children = rng.permutation(self.grid**2)[: round(v * self.grid**2)]
            rows, columns = np.unravel_index(children, grid)
            taps[rows, columns] = fresh[rows, columns]
        elif self.departure == "families":
            chosen = rng.permutation(families)[: round(v * families)]
            taps[..., chosen] = fresh[..., chosen]
        elif self.departure == "drift":
            ramp = np.linspace(-1, 1, self.grid) * np.sqrt(1.5)
            slopes = fresh[0, :2]
            drift = ramp[:, None, None] * slopes[0] + ramp[:, None] * slopes[1]
            taps = np.sqrt(1 - v) * taps + np.sqrt(v) * drift
        elif self.departure == "regions":
            other = np.sqrt(1 - v) * shared + np.sqrt(v) * fresh[0, 0]
            taps[:, self.grid // 2 :] = other
        return taps

    def truth(self, rng: np.random.Generator) -> np.ndarray:
        """The dense kernel, as a matrix from inputs to outputs."""
        ids = self.family_ids
        taps = self.taps(rng)
        rows, columns = np.indices(ids.shape)[1:3]
        kernel = np.where(ids >= 0, taps[rows, columns, ids], 0.0)
        if self.departure == "dense":
            dense = rng.normal(size=ids.shape) / self.side
            kernel = np.sqrt(1 - self.violation) * kernel
            kernel += np.sqrt(self.violation) * dense
        return kernel.reshape(self.side**2, -1)


class Draw:
    """A truth with examples to train and to validate on."""

    def __init__(self, task: Task, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.task, self.seed = task, seed
        self.kernel = task.truth(rng)
        self.train = self._examples(task.examples, rng)
        self.validation = self._examples(max(50, task.examples // 4), rng)

    def _examples(self, number: int, rng: np.random.Generator) -> tuple:
        task = self.task
        x = rng.normal(size=(number, task.side, task.side, 1))
        y = x.reshape(number, -1) @ self.kernel
        y += NOISE * rng.normal(size=y.shape)
        y = y.reshape(number, task.grid, task.grid, task.filters)
        return x.astype("float32"), y.astype("float32")

    def risk(self, model: keras.Model) -> float:
        """Excess risk in % of the signal variance."""
        images = np.eye(self.task.side**2, dtype="float32")
        images = images.reshape(-1, self.task.side, self.task.side, 1)
        kernel = model.predict(images, verbose=0).reshape(len(images), -1)
        error = ((kernel - self.kernel) ** 2).sum()
        return 100 * error / (self.kernel**2).sum()


class Contender:
    """A compiled model that is trained over and over, from its first weights.

    Args:
        name: what the tables call it.
        layers: makes them; the last SoftConv layer's strengths are what is tuned.
        strengths: pairs of tie and off-template strength to try, in units of
            1 / (examples * outputs), in which a ridge's best strength does not depend on
            the sizes.
        rounds: how often `ROUND` steps are made, with a rate that falls to 0.
    """

    def __init__(
        self,
        name: str,
        layers: Callable[[], list[keras.Layer]],
        strengths: Sequence[tuple[float, float]] = ((1.0, 1.0),),
        rounds: int = 16,
    ) -> None:
        self.name, self.strengths, self.rounds = name, strengths, rounds
        self.layers = layers
        # For images and kernels of each size a model, and what it begins with.
        self._models: dict[tuple[int, int], tuple[keras.Model, list[np.ndarray]]] = {}

    def _model(self, task: Task) -> tuple[keras.Model, list[np.ndarray]]:
        key = task.side, task.filters
        if key not in self._models:
            model = keras.Sequential([keras.Input((task.side, task.side, 1))])
            for layer in self.layers():
                model.add(layer)
            rate = keras.optimizers.schedules.CosineDecay(2e-2, ROUND * self.rounds)
            model.compile(
                ProximalAdam(rate), "mse", metrics=["mse"], steps_per_execution=ROUND
            )
            model.optimizer.build(model.trainable_variables)
            variables = (*model.weights, *model.optimizer.variables)
            self._models[key] = model, [variable.numpy() for variable in variables]
        return self._models[key]

    def fit(
        self,
        draw: Draw,
        pair: tuple[float, float],
        callbacks: Sequence = (),
        stop: bool = True,
    ) -> dict[str, float]:
        """Train with one pair of strengths; validation error and excess risk."""
        model, begin = self._model(draw.task)
        variables = (*model.weights, *model.optimizer.variables)
        for variable, value in zip(variables, begin, strict=True):
            variable.assign(value)
        unit = 1 / (draw.task.examples * draw.task.outputs)
        for layer in model.layers:
            if isinstance(layer, SoftConv2D):
                layer.tie_strength.assign(pair[0] * unit)
                layer.off_template_strength.assign(pair[1] * unit)
        early = keras.callbacks.EarlyStopping(
            "val_mse", patience=self.rounds, restore_best_weights=True
        )
        train = tf.data.Dataset.from_tensors(draw.train).cache().repeat()
        validation = tf.data.Dataset.from_tensors(draw.validation).cache()
        history = model.fit(
            train,
            steps_per_epoch=ROUND,
            epochs=self.rounds,
            validation_data=validation if stop else None,
            callbacks=[*callbacks, early] if stop else list(callbacks),
            shuffle=False,
            verbose=0,
        ).history
        validation_error = min(history["val_mse"]) if stop else np.nan
        return {"validation": validation_error, "risk": draw.risk(model)}

    def fits(self, draw: Draw) -> list[dict]:
        """A fit with each pair of strengths."""
        return [{"pair": pair, **self.fit(draw, pair)} for pair in self.strengths]


# By task and method, for each seed all fits.
Found = dict[str, dict[str, list[list[dict]]]]


def search(tasks: dict[str, Task], made: Sequence[Contender], seeds: int) -> Found:
    """Every fit of every method, with progress."""
    progress = keras.utils.Progbar(len(tasks) * seeds * len(made), unit_name="search")
    found: Found = {name: {one.name: [] for one in made} for name in tasks}
    for name, task in tasks.items():
        for seed in range(seeds):
            draw = Draw(task, seed)
            for one in made:
                found[name][one.name].append(one.fits(draw))
                progress.add(1)
    return found


def tuned(seeds: list[list[dict]]) -> list[dict]:
    """The fit of each seed with the least validation error."""
    return [min(fits, key=lambda fit: fit["validation"]) for fits in seeds]


def risks(fits: list[dict]) -> list[float]:
    """Their excess risks."""
    return [fit["risk"] for fit in fits]


def command_line(description: str) -> argparse.Namespace:
    """What the scripts take from the command line."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little training, 2 seeds")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="into docs/penalties.md")
    options = parser.parse_args()
    if options.quick:
        options.seeds = 2
    options.write &= not options.quick
    return options


def mean_and_error(values: Sequence[float]) -> str:
    """Mean and standard error."""
    values = np.asarray(values)
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    digits = 2 if values.mean() < 10 else 1
    return f"{values.mean():.{digits}f} ± {error:.{digits}f}"
