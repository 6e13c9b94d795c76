"""One linear layer with strengths from the training data alone, beside conv and dense.

    python experiments/learned_strengths.py [--quick] [--seeds 5] [--write]

70 inputs, 68 outputs, and for each of these a kernel of size 3, mixed of one kernel (a
convolution), of two or of five; noise of variance 0.01. Test error beyond the noise, for N
examples. Strengths that are learned see no validation data: they are updated after every 50
steps of the training. Those of the other columns are chosen by 50 validation examples, from
a grid, and solved in closed form; by the same examples `released`, a convolution that is
trained on without penalties, is stopped, and its rate chosen. Gains are those of the
learned SoftConv1D.
"""

import argparse

from comparison import RELEASED_1D, Found, comparison_table
from signals import LENGTH, Draw, Task
from solved_methods import convolution, dense, locally_connected, ridge_ties
from study import Method, Study, powers, search
from trained_methods import L2, convolution_by_adam, learned, released
from training import HeldAtZero

from keras_softconv import SoftConv1D
from keras_softconv.compat import keras

RIVALS = {
    "Conv1D": ["Conv1D"],
    "locally connected, learned": ["Locally connected, learned"],
    "dense, learned": ["Dense, learned"],
    "locally connected, tuned": ["Locally connected"],
    RELEASED_1D: [RELEASED_1D],
}
MINE = "SoftConv1D, learned"


class DenseDraw:
    """The same examples, for a layer with one output position: nothing off the template."""

    def __init__(self, draw: Draw) -> None:
        outputs = draw.train[1].shape[1]
        self.convolution = {"filters": outputs, "kernel_size": LENGTH, "use_bias": False}
        self.train, self.validation = (
            (inputs, targets.reshape(len(targets), 1, outputs))
            for inputs, targets in (draw.train, draw.validation)
        )
        self.error = draw.error


class LearnedDense:
    """A dense layer whose weight decay is learned as the strengths of the others are.

    With a kernel as long as the signal all weights are of one template, and with the shared
    kernel held at zero the ties are weight decay.
    """

    name = "Dense, learned"

    def __init__(self, rounds: int) -> None:
        self._learned = without_sharing(self.name, rounds)

    def fits(self, draw: Draw) -> list[dict]:
        return self._learned.fits(DenseDraw(draw))


def without_sharing(name: str, rounds: int) -> Method:
    """No shared kernel, and nothing off the template."""
    alone = {"halo": 0, "kernel_constraint": HeldAtZero()}
    return learned(name, L2(1.0), rounds, rank_layer=SoftConv1D, **alone)


def methods(quick: bool) -> list[Method]:
    layer = {"layer": SoftConv1D}
    fine, rounds = (1, 2) if quick else (2, 16)
    conv = convolution_by_adam(rounds, keras.layers.Conv1D)
    return [
        convolution(name="Conv1D", **layer),
        dense(powers(-4, 3, fine), **layer),
        locally_connected(powers(-4, 3, fine), **layer),
        released(rounds, conv, rank_layer=SoftConv1D),
        ridge_ties(powers(-3, 4, 1), powers(-3, 5, 1), "SoftConv1D", **layer),
        LearnedDense(rounds),
        without_sharing("Locally connected, learned", rounds),
        learned(MINE, L2(1.0), rounds, rank_layer=SoftConv1D),
    ]


def measure(options: argparse.Namespace) -> Found:
    cases = [(1, 2), (2, 2), (5, 2), (2, 3), (2, 5), (5, 5)]
    tasks = {
        f"{rank} kernel{'s' * (rank > 1)}, N = {examples}": Task(examples, rank)
        for rank, examples in (cases[:2] if options.quick else cases)
    }
    return search(tasks, Draw, methods(options.quick), options.seeds)


def render(found: Found) -> dict[str, str]:
    return {"learned strengths": comparison_table(found, (MINE, [MINE]), RIVALS)}


if __name__ == "__main__":
    Study("learned_strengths", __doc__, measure, render).main()
