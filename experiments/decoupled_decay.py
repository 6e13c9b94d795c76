"""What decoupled weight decay makes of a SoftConv2D: the table of docs/addons.md.

    .venv/keras2/bin/python experiments/decoupled_decay.py [--quick] [--seeds 5] [--write]

TensorFlow Addons' AdamW and SGDW shrink every weight by a share of itself at each step. On
the deviations this is a crude tie, on the shared kernel it is a bias towards zero. Here it
stands beside ridges in the loss: excess risk in % of the signal variance, 50 examples, at
the end of the training (no early stopping, since the question is where the optimum is).
Each method takes its one strength from a grid of its own, by the error on 50 validation
examples; so do the controls: a dense and a locally connected layer with weight decay, in
closed form, and a convolution that is released without penalties and stopped early. "Kept"
is the slope of the learned family means on those of the truth: 1 where nothing is shrunk.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa
from comparison import RELEASED, Found, mean_and_error, tuned
from solved_methods import dense, locally_connected
from study import Method, Study, powers, search
from synthetic import Draw, Task

from keras_softconv import SoftConv2D
from keras_softconv.diagnostics.tables import markdown_table

tf.get_logger().setLevel("ERROR")  # of functions that are traced for each model
keras = tf.keras
Optimizer = keras.optimizers.legacy.Optimizer

ROUND = 50  # steps of one epoch
TASKS = {
    "a few problem children": Task("children", 0.1, examples=50),
    "no departure": Task("children", 0.0, examples=50),
}
STRONG = 1e6  # nothing but the shared kernel is left
RATES = {"AdamW": 5e-3, "SGDW": 0.3}


@dataclass(frozen=True)
class Decayed:
    """One way to keep the weights small.

    Args:
        name: what the table calls it.
        optimizer: from a strength and the number of steps to an Addons optimizer.
        strengths: the grid; of ridges in units of 1 / (examples * outputs).
        rounds: how often `ROUND` steps are made.
        off_template: how many times as strong as the ties a ridge off the template is; None
            if the strength is not that of ridges in the loss.
    """

    name: str
    optimizer: Callable[[float, int], Optimizer]
    strengths: Sequence[float]
    rounds: int
    off_template: float | None = None

    def fits(self, draw: Draw) -> list[dict[str, Any]]:
        """A fit with each strength, for `search`."""
        return [self.fit(draw, strength) for strength in self.strengths]

    def fit(self, draw: Draw, strength: float) -> dict[str, Any]:
        model = fresh_model(draw)
        if self.off_template is not None:
            set_strengths(model, draw, strength, strength * self.off_template)
        optimizer = self.optimizer(strength, self.rounds * ROUND)
        train(model, draw, optimizer, self.rounds)
        return result(model, draw, strength)


@dataclass(frozen=True)
class Released:
    """A convolution that is trained first, then all its weights without penalties.

    Both by Adam, the second keeps the round that is best on validation data: a control.

    Args:
        name: what the table calls it.
        rates: of the second training.
        rounds: of either.
    """

    name: str
    rates: Sequence[float]
    rounds: int

    def fits(self, draw: Draw) -> list[dict[str, Any]]:
        """A fit with each rate, and the convolution itself."""
        model = fresh_model(draw)
        set_strengths(model, draw, STRONG, STRONG)
        train(model, draw, self._adam(RATES["AdamW"]), self.rounds)
        (layer,) = model.layers
        layer.deviations.assign(tf.zeros_like(layer.deviations))
        fits, begin = [result(model, draw, 0.0)], model.get_weights()
        for rate in self.rates:
            model = fresh_model(draw)
            model.set_weights(begin)
            set_strengths(model, draw, 0.0, 0.0)
            stop = keras.callbacks.EarlyStopping(
                "val_mse", patience=self.rounds, restore_best_weights=True
            )
            train(model, draw, self._adam(rate), self.rounds, stop)
            model.set_weights(stop.best_weights)  # Keras 2 does so only if it stops
            fits.append(result(model, draw, rate))
        return fits

    def _adam(self, rate: float) -> Optimizer:
        falling = keras.optimizers.schedules.CosineDecay(rate, self.rounds * ROUND)
        return keras.optimizers.legacy.Adam(falling)


def fresh_model(draw: Draw) -> keras.Model:
    """One SoftConv2D with ridges of strength 0, at zero."""
    keras.backend.clear_session()  # or the models pile up
    layer = SoftConv2D(
        draw.task.filters, 3, use_bias=False, kernel_initializer="zeros",
        tie_regularizer=keras.regularizers.L2(1.0),
        off_template_regularizer=keras.regularizers.L2(1.0),
    )  # fmt: skip
    side = draw.task.side
    model = keras.Sequential([keras.Input((side, side, 1)), layer])
    set_strengths(model, draw, 0.0, 0.0)
    return model


def set_strengths(model: keras.Model, draw: Draw, tie: float, off_template: float) -> None:
    """In units of 1 / (examples * outputs)."""
    (layer,) = model.layers
    size = draw.task.examples * draw.task.outputs
    layer.tie_strength.assign(tie / size)
    layer.off_template_strength.assign(off_template / size)


def train(
    model: keras.Model, draw: Draw, optimizer: Optimizer, rounds: int, *callbacks: Any
) -> None:
    """So many rounds, all examples in each step; with callbacks, validated after each."""
    model.compile(optimizer, "mse", metrics=["mse"], steps_per_execution=ROUND)
    examples = tf.data.Dataset.from_tensors(draw.train).cache().repeat()
    watched = tf.data.Dataset.from_tensors(draw.validation).cache()
    model.fit(
        examples,
        steps_per_epoch=ROUND,
        epochs=rounds,
        validation_data=watched if callbacks else None,
        callbacks=list(callbacks),
        shuffle=False,
        verbose=0,
    )


def result(model: keras.Model, draw: Draw, setting: float) -> dict[str, Any]:
    """Errors, and what is kept of the family means."""
    validation = model.evaluate(*draw.validation, verbose=0, return_dict=True)["mse"]
    return {
        "setting": setting,
        "validation": validation,
        "error": draw.error(lambda inputs: model.predict(inputs, verbose=0)),
        "kept": kept_of(model.layers[0], draw),
    }


def kept_of(layer: SoftConv2D, draw: Draw) -> float:
    """Slope of the family means on those of the truth."""
    ids = layer.family_ids().ravel()
    on_template = ids >= 0
    families = ids[on_template]

    def means(kernel: np.ndarray) -> np.ndarray:
        sums = np.bincount(families, kernel.ravel()[on_template])
        return sums / np.bincount(families)

    truth, found = means(draw.kernel), means(layer.kernel.numpy())
    return float(truth @ found / (truth @ truth))


def decayed(base: type, name: str, only_deviations: bool) -> Callable:
    """Makes an optimizer whose rate and decay fall to 0 together, as Addons advises."""

    def make(strength: float, steps: int) -> Optimizer:
        rate, decay = (
            keras.optimizers.schedules.CosineDecay(begin, steps)
            for begin in (RATES[name], strength)
        )
        momentum = {"momentum": 0.9} if name == "SGDW" else {}
        excluded = ["shared"] if only_deviations else None
        return base(
            weight_decay=decay,
            exclude_from_weight_decay=excluded,
            learning_rate=rate,
            **momentum,
        )

    return make


def undecayed(name: str) -> Callable:
    make = decayed(getattr(tfa.optimizers, name), name, only_deviations=False)
    return lambda _, steps: make(0.0, steps)


def controls(rounds: int) -> list[Method]:
    """The first two are solved in closed form."""
    return [
        dense(powers(0, 4, 4)),
        locally_connected(powers(-1, 3, 4)),
        Released(RELEASED, powers(-5, -1), rounds),
    ]


def methods(rounds: int) -> list[Decayed]:
    adam, sgd = undecayed("AdamW"), undecayed("SGDW")
    # At 1 nothing is left of a weight after one step.
    decays = {"AdamW": powers(-2.5, 0), "SGDW": powers(-2.5, 0)}
    ridges = powers(0.5, 4)
    return [
        Decayed("Conv2D", adam, [STRONG], rounds, off_template=1.0),
        Decayed("no penalty", adam, [0.0], rounds),
        Decayed("ridges in the loss, Adam", adam, ridges, rounds, off_template=4.0),
        Decayed("one ridge in the loss, Adam", adam, ridges, rounds, off_template=1.0),
        Decayed("one ridge in the loss, SGD", sgd, ridges, rounds, off_template=1.0),
        *(
            Decayed(
                f"{name}, {'deviations alone' if alone else 'all weights'}",
                decayed(getattr(tfa.optimizers, name), name, alone),
                strengths,
                rounds,
            )
            for name, strengths in decays.items()
            for alone in (False, True)
        ),
    ]


def measure(options: argparse.Namespace) -> Found:
    rounds = 1 if options.quick else 16
    made = methods(rounds)
    if options.quick:
        made = [replace(one, strengths=one.strengths[::4]) for one in made]
    tasks = dict(list(TASKS.items())[: 1 if options.quick else None])
    return search(tasks, Draw, [*controls(rounds), *made], options.seeds)


def render(found: Found) -> dict[str, str]:
    """A row for each method: risk and what is kept, for each task."""
    columns = {"risk": "error", "kept": "kept"}
    rows = [["", *(f"{task}: {column}" for task in found for column in columns)]]
    for method in next(iter(found.values())):
        row = [method]
        for fits in found.values():
            best = tuned(fits[method])
            row += [
                mean_and_error([fit[name] for fit in best]) if name in best[0] else ""
                for name in columns.values()
            ]
        rows.append(row)
    return {"decoupled decay": markdown_table(rows)}


if __name__ == "__main__":
    Study("decoupled_decay", __doc__, measure, render).main()
