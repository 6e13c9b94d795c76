"""Problem children: are they found, and do they spoil the shared kernel?

    python experiments/planted_children.py [--quick] [--seeds 10] [--write]

A signal of 70 inputs, convolved to 68 outputs; at five positions, drawn at random, a kernel
of variance 9 is added; noise of variance 0.01. From three or five examples the template is
learnt (`halo=0`) by Adam, stopped early; strengths are chosen by 50 validation examples,
and so is the rate at which the convolution is trained on without penalties (`released`).
The other layers are solved in closed form. `found`: how often the five positions that the
report ranks first are the five. `shared kernel`: its largest error.
"""

import argparse
from typing import Any

import numpy as np
from comparison import RELEASED_1D, Found, errors, gain_and_worst, mean_and_error, tuned
from signals import PLANTED, Draw, Task
from solved_methods import convolution, dense, locally_connected
from study import Method, Study, powers, search
from trained_methods import L1, L2, convolution_by_adam, released
from training import Trained, soft_layers

from keras_softconv import SoftConv1D, structure_report
from keras_softconv.compat import keras
from keras_softconv.diagnostics.tables import markdown_table
from keras_softconv.regularizers import GroupLasso

RIDGE, LOCAL = "ridge ties", "Locally connected"
RATE = 0.1  # as kernels of variance 9 are far from where the training begins
TASKS = {"N = 3": Task(3, planted=PLANTED), "N = 5": Task(5, planted=PLANTED)}


class Inspected(Trained):
    """Says of each fit what the report found, and how far the shared kernel is off."""

    def __init__(self, name: str, tie: keras.Regularizer, ties: list, rounds: int) -> None:
        layers = soft_layers(tie, rank_layer=SoftConv1D, halo=0)
        super().__init__(name, layers, [(one, 1.0) for one in ties], rounds, RATE)

    def fit(self, draw: Draw, *arguments: Any, **options: Any) -> dict:
        found = super().fit(draw, *arguments, **options)
        layer = self.model(draw).layers[0]
        children = structure_report(layer)["problem_children"]
        first = list(dict.fromkeys(child["position"] for child in children))[:PLANTED]
        wrong = keras.ops.convert_to_numpy(layer.shared_kernel).ravel() - draw.shared_kernel
        return {
            **found,
            "found": sorted(position for (position,) in first) == draw.planted.tolist(),
            "shared kernel": float(np.abs(wrong).max()),
        }


def methods(quick: bool) -> list[Method]:
    rounds, layer = 10 if quick else 40, {"layer": SoftConv1D}
    conv = convolution_by_adam(rounds, keras.layers.Conv1D, RATE)
    return [
        convolution(name="Conv1D", **layer),
        dense(powers(-4, 3), **layer),
        locally_connected(powers(-4, 3), **layer),
        released(rounds, conv, powers(-4, 0), rank_layer=SoftConv1D, halo=0),
        Inspected(RIDGE, L2(1.0), powers(-2.5, -0.5), rounds),
        Inspected("lasso ties", L1(1.0), powers(-1.5, 0), rounds),
        Inspected("group lasso", GroupLasso(1.0, per="position"), powers(-1.5, 0), rounds),
    ]


def measure(options: argparse.Namespace) -> Found:
    tasks = dict(list(TASKS.items())[-1:]) if options.quick else TASKS
    return search(tasks, Draw, methods(options.quick), options.seeds)


def render(found: Found) -> dict[str, str]:
    rivals = LOCAL, RELEASED_1D
    head = ["task", "method", "test error", *(f"gain on {one}" for one in rivals), "found"]
    rows = [[*head, "shared kernel", "times as exact as with ridges"]]
    for task, fits in found.items():
        for name, seeds in fits.items():
            best = tuned(seeds)
            row = [task, name, mean_and_error(errors(best), 4)]
            if "found" in best[0]:
                row += [gain_and_worst(best, tuned(fits[rival])) for rival in rivals]
                row += inspected(best, tuned(fits[RIDGE]))
            rows.append([*row, *[""] * (len(rows[0]) - len(row))])
    return {"planted children": markdown_table(rows)}


def inspected(fits: list[dict], ridge: list[dict]) -> list[str]:
    """What the report found, and how exact the shared kernel is."""
    mine, theirs = ([fit["shared kernel"] for fit in some] for some in (fits, ridge))
    found = sum(fit["found"] for fit in fits)
    ratio = np.mean(theirs) / np.mean(mine)
    return [f"{found} of {len(fits)}", mean_and_error(mine, 4), f"{ratio:.1f}"]


if __name__ == "__main__":
    Study("planted_children", __doc__, measure, render, seeds=10).main()
