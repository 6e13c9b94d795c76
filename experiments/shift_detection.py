"""Nowlan and Hinton's shift detection: which way was a string of bits shifted?

    python experiments/shift_detection.py [--quick] [--seeds 10] [--write]

Ten random bits and the same bits shifted by one, to the left or to the right, in a circle,
coded as +1 and -1; 100 training, 1000 validation and 1300 test cases, drawn with
replacement. Ten hidden tanh units and one output. A SoftConv1D with one filter, four bits
wide, has the template of the network in the paper, whose units see the same four
neighbouring bits of both strings: with biases and readout it has 101 weights. Every method
with penalties, and `released`, has the weight decay of its readout in its grid; all are
tuned by the mistakes on the validation cases. `released` is the convolution, trained on
without penalties but that of the readout, and stopped early. Each seed draws data and
initial weights. Correct test cases in %.

The published numbers are those of Nowlan and Hinton (1992), table 1, all for the network of
101 weights, which here is the locally connected one. They differ in this: one draw of the
data and ten of the initial weights; conjugate gradients; stopped as soon as all training
cases are right, where here the training goes on to the optimum; one mixture for all
weights, where here kernel and biases have one each and the readout has weight decay; the
variance of the data learnt with the mixture, where here it is in the grid. Here the four
strings that look the same whichever way they are shifted are no training cases. Their
coding of the bits, kind of units and initial spread of the mixture are not in print.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import keras
import numpy as np
from comparison import RELEASED_1D, Found, errors, mean_and_error, tuned
from small_networks import (
    MINUS,
    Data,
    Network,
    Released,
    Setting,
    convolution,
    dense,
    differences,
    mixture,
    soft,
    without_sharing,
)
from study import Method, Study, powers, search

from keras_softconv.diagnostics.tables import markdown_table

BITS, WIDTH = 10, 4
TRAIN, VALIDATION, TEST = 100, 1000, 1300
TEMPLATE = {"filters": 1, "kernel_size": WIDTH, "padding": "circular"}
# One position sees all inputs, so that every weight is on the template.
ALL = {"filters": BITS, "kernel_size": BITS}
READOUT = (1.0, 10.0)
SOFT = "SoftConv1D, ties and off-template"
DECAYED, LOCAL, CONV = (
    "Dense + weight decay",
    "Locally connected + weight decay",
    "Conv1D + weight decay",
)
RIVALS = (DECAYED, LOCAL, CONV, RELEASED_1D)
TASK = "shifts of ten bits"
ROUNDS = 30
# Those of the paper are of the same network, but trained in another way, see above.
PUBLISHED = {
    "Locally connected": "67.3 ± 5.7",
    "Locally connected, stopped early": "83.5 ± 5.1",
    LOCAL: "89.8 ± 3.0",
    "Locally connected, mixture of 5": "95.6 ± 2.7",
    "Locally connected, mixture of 10": "97.1 ± 2.1",
}


class Draw:
    """Cases as `(bits, strings)` and +1 for a shift to the left, -1 to the right."""

    def __init__(self, task: str, seed: int) -> None:
        self.seed = seed
        rng = np.random.default_rng(seed)
        first = rng.integers(2, size=(TRAIN + VALIDATION + TEST, BITS))
        left = rng.integers(2, size=len(first)).astype(bool)
        second = np.where(left[:, None], np.roll(first, -1, 1), np.roll(first, 1, 1))
        inputs = 2 * np.stack([first, second], axis=-1).astype("float32") - 1
        targets = 2 * left[:, None].astype("float32") - 1
        train = np.flatnonzero(~is_symmetric(first))[:TRAIN]
        others = np.setdiff1d(np.arange(len(first)), train)
        self.train, self.validation, self.test = (
            (inputs[part], targets[part])
            for part in (train, others[:VALIDATION], others[VALIDATION:])
        )


def is_symmetric(strings: np.ndarray) -> np.ndarray:
    """Whether a string is the same, shifted to the left or to the right."""
    return (np.roll(strings, -1, 1) == np.roll(strings, 1, 1)).all(axis=1)


def mistaken(network: Network | Released, data: Data) -> float:
    """In %."""
    inputs, targets = data
    return float(100 * np.mean(np.sign(network.predict(inputs)) != targets))


@dataclass(frozen=True)
class Trained:
    """A network trained with each setting of a grid, to the end unless `stop`."""

    name: str
    network: Network | Released
    settings: Sequence[Setting] = ((0.0, 0.0, 0.0),)
    stop: bool = False

    def fits(self, draw: Draw) -> list[dict]:
        return [self.fit(draw, setting) for setting in self.settings]

    def fit(self, draw: Draw, setting: Setting) -> dict:
        watched = draw.validation if self.stop else None
        self.network.train(draw.train, setting, draw.seed, watched)
        return {
            "setting": setting,
            "validation": mistaken(self.network, draw.validation),
            "error": mistaken(self.network, draw.test),
            "training": mistaken(self.network, draw.train),
        }


class Wrapped(keras.Layer):
    """Continues the bits in a circle, so that 'valid' is what 'circular' is."""

    def call(self, inputs):
        before = (WIDTH - 1) // 2
        around = [inputs[:, -before:], inputs, inputs[:, : WIDTH - 1 - before]]
        return keras.ops.concatenate(around, axis=1)


def grid(
    strengths: Sequence[float],
    off_template: Sequence[float] = (0.0,),
    readout: Sequence[float] = READOUT,
) -> list[Setting]:
    """Every combination."""
    return list(product(strengths, off_template, readout))


def methods(quick: bool) -> list[Method]:
    rounds = 10 if quick else ROUNDS
    of_dense, of_local, of_conv, of_soft = (
        Network((BITS, 2), hidden, "tanh", rounds)
        for hidden in (
            dense(BITS),
            without_sharing(**TEMPLATE, halo=0),
            convolution([Wrapped()], filters=1, kernel_size=WIDTH),
            soft(**TEMPLATE),
        )
    )
    of_released = Network((BITS, 2), soft(**TEMPLATE), "tanh", rounds)
    released, rates = Released(of_conv, of_released), powers(-5, -1, 1)
    decays = (0.001, 0.01, 0.03, 0.1)
    every = [
        Trained("Dense", of_dense),
        Trained("Dense, stopped early", of_dense, stop=True),
        Trained(DECAYED, of_dense, grid((0.01, 0.03, 0.1, 0.3))),
        Trained("Locally connected", of_local),
        Trained("Locally connected, stopped early", of_local, stop=True),
        Trained(LOCAL, of_local, grid(decays)),
        Trained(CONV, of_conv, grid((0.0, 0.1), readout=(0.1, *READOUT))),
        Trained(RELEASED_1D, released, grid((0.0, 0.1), rates, (0.1, *READOUT)), stop=True),
        *mixtures("Locally connected", {**TEMPLATE, "halo": 0}, decays),
        *mixtures("Dense", ALL, (0.01, 0.03, 0.1, 0.3)),
        Trained("Off-template alone", of_soft, grid((0.0,), (1.0, 3.0, 10.0, 100.0))),
        Trained(SOFT, of_soft, grid((1.0, 10.0), (3.0, 30.0))),
    ]
    return [one for one in every if not quick or one.name in (*RIVALS, SOFT)]


def mixtures(name: str, template: dict, strengths: Sequence[float]) -> list[Method]:
    """With as many components as in the paper."""
    return [
        Trained(
            f"{name}, mixture of {components}",
            Network((BITS, 2), mixture(components, 1.0, **template), "tanh", ROUNDS),
            grid(strengths),
        )
        for components in (5, 10)
    ]


def measure(options: argparse.Namespace) -> Found:
    return search({TASK: None}, Draw, methods(options.quick), options.seeds)


def render(found: Found) -> dict[str, str]:
    """A row for each method; differences are taken draw by draw, in percentage points."""
    (of_task,) = found.values()
    head = ["", "training", "test", *(f"test{MINUS}{rival}" for rival in RIVALS)]
    rows = [[*head, "published"]]
    for name, fits in of_task.items():
        best = tuned(fits)
        correct = [100 - np.array([fit["training"] for fit in best]), 100 - errors(best)]
        cells = [mean_and_error(some, 1) for some in correct]
        # Fewer mistakes are more correct answers.
        cells += differences(of_task, name, RIVALS, digits=1, sign=-1)
        rows.append([name, *cells, PUBLISHED.get(name, "")])
    return {"shift detection": markdown_table(rows)}


if __name__ == "__main__":
    Study("shift_detection", __doc__, measure, render, seeds=10).main()
