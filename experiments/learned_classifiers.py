"""Strengths of classifiers learned from the training data, and when not to trust them.

    python experiments/learned_classifiers.py [--quick] [--seeds 5] [--write]

Test log-loss, mean and standard error, of the networks and data in likelihood_tasks.py. Of
a grid of strengths, half a decade apart for the ties, *best fixed* is that with the least
mean test error and *best of each seed* the best for each data set, which nobody can know;
*tuned* is chosen by validation data. The fits of the grid are stopped early by validation
data. What is learned takes as many steps with the same rate, and neither validation data
nor early stopping. It is the strengths of the deviations and of the readout, and in a
second row those of the shared kernel, too. The grid has decays of all of these.

The second table has networks with a dense readout without a ridge, which has more weights
than there are labels, beside the same with a ridge that is learned, too.
"""

import argparse
from collections.abc import Iterable
from dataclasses import replace
from itertools import product

import numpy as np
from comparison import Found, errors, mean_and_error, tuned
from keras import layers
from likelihood_fits import READOUT, SHARED_KERNEL, Fixed, Learned, Network
from likelihood_tasks import (
    NOISE_VARIANCE,
    Setting,
    Task,
    digits,
    hidden_2d,
    hidden_of_series,
    logits,
    planted,
    regression,
    series,
)
from strengths import best_fixed
from study import Method, Study, powers, search

from keras_softconv.diagnostics.tables import markdown_table

GRID, LEARNED, FREE = "grid", "learned", "learned, readout without ridge"
ALL_LEARNED = "learned, shared kernel too"
# What is learned beside the strengths of the deviations.
VARIANTS = {LEARNED: (READOUT,), ALL_LEARNED: (SHARED_KERNEL, READOUT)}
FREE_GRID = "grid, readout without ridge"
TASKS = {
    "digits, N = 300": Task(
        digits(300),
        hidden_2d(8, padding="same"),
        lambda: [layers.Flatten()],
        outputs=10,
        ties=powers(-3, 1),
        decays=((0, 0.1), (0, 0.3), (0, 1), (0, 3), (0.1, 0.3), (0.1, 1)),
    ),
    "sensors, N = 500": Task(
        series(500),
        hidden_of_series,
        lambda: [layers.GlobalMaxPooling1D()],
        outputs=5,
        ties=powers(1.5, 4.5),
        decays=(
            *((0, 1), (0, 10), (10, 0.1), (10, 0.3)),
            *((30, 0.1), (30, 0.3), (100, 0.1), (100, 0.3)),
        ),
        rounds=40,
        round_steps=50,
    ),
    "planted convolution, N = 300": Task(
        planted(300, own_kernels=False),
        logits,
        list,
        outputs=0,
        ties=powers(2, 5),
        off_template=(1e3, 1e4, 1e5),
    ),
    "planted kernels of their own, N = 300": Task(
        planted(300, own_kernels=True),
        logits,
        list,
        outputs=0,
        ties=powers(-1, 2),
        off_template=(300.0, 1000.0, 3000.0, 10000.0),
    ),
}
TASKS["digits, N = 300, 2000 steps"] = replace(
    TASKS["digits, N = 300"], rounds=40, round_steps=50
)
REGRESSION = "regression, N = 100"
FAILING = {
    "digits, N = 300": TASKS["digits, N = 300"],
    REGRESSION: Task(
        regression(100),
        hidden_2d(4),
        lambda: [layers.Flatten()],
        outputs=1,
        ties=powers(-2, 2, 1),
        decays=((0, 1), (0, 3), (0, 10), (0, 30), (0, 100)),
        is_classifier=False,
    ),
}


def methods(task: Task, quick: bool) -> list[Method]:
    rounds = 2 if quick else task.rounds
    ties = task.ties[::3] if quick else task.ties
    fixed = Network(task, rounds)

    def settings(decays: Iterable[tuple[float, float]]) -> list[Setting]:
        return [(*one, *pair) for *one, pair in product(ties, task.off_template, decays)]

    made: list[Method] = [Fixed(GRID, fixed, settings(task.decays))]
    for name, learned in VARIANTS.items():
        made.append(Learned(name, Network(task, rounds, learned)))
    if task in FAILING.values():
        made += [
            Fixed(FREE_GRID, fixed, settings([(0, 0)])),
            Learned(FREE, Network(task, rounds, [])),
        ]
    return made


def measure(options: argparse.Namespace) -> Found:
    tasks = TASKS | FAILING
    if options.quick:
        tasks = {name: tasks[name] for name in (list(TASKS)[2], REGRESSION)}
    return search(
        tasks,
        lambda task, seed: task.draw(seed),
        lambda task: methods(task, options.quick),
        options.seeds,
    )


def render(found: Found) -> dict[str, str]:
    return {
        "learned classifiers": render_learned(found),
        "fitted entirely": render_failures(found),
    }


def render_learned(found: Found) -> str:
    head = ["task", "shared kernel's ridge", "best fixed", "best of each seed", "tuned"]
    rows = [[*head, "learned", "learned / best fixed", "learned / best of each seed"]]
    for task in (name for name in found if name in TASKS):
        grid = found[task][GRID]
        fixed = errors(tuned(best_fixed(grid)))
        best = np.array([errors(fits).min() for fits in grid])
        for ridge, name in (("none", LEARNED), ("learned", ALL_LEARNED)):
            learned = errors(tuned(found[task][name]))
            cells = map(mean_and_error, (fixed, best, errors(tuned(grid)), learned))
            ratios = (f"{learned.mean() / one.mean():.3f}" for one in (fixed, best))
            rows.append([task, ridge, *cells, *ratios])
    return markdown_table(rows)


def render_failures(found: Found) -> str:
    """What is found with and without a ridge of the readout."""
    head = ["task", "ridge of the readout", "best fixed", "learned", "training error"]
    head += ["best fixed ties", "learned ties", "effective weights", "noise variance"]
    rows = [head]
    for task in (name for name in found if name in FAILING):
        for ridge, grid, name in (("no", FREE_GRID, FREE), ("learned", GRID, LEARNED)):
            fits, fixed = tuned(found[task][name]), best_fixed(found[task][grid])
            numbers = [
                errors(tuned(fixed)),
                errors(fits),
                np.array([fit["training"] for fit in fits]),
            ]
            ties = f"{fixed[0][0]['setting'][0]:.2g}"
            rows.append([task, ridge, *map(mean_and_error, numbers), ties, *last(fits)])
    return markdown_table(rows)


def last(fits: list[dict]) -> list[str]:
    """Medians of the last updates: strength and weights of the ties, and noise."""
    cells = []
    for ending in ("/tie_strength", "/tie_effective_weights", "noise_variance"):
        values = [v for fit in fits for k, v in fit["found"].items() if k.endswith(ending)]
        cells.append(f"{np.median(values):.2g}" if values else "")
    if cells[-1]:
        cells[-1] += f" (truth {NOISE_VARIANCE})"
    return cells


if __name__ == "__main__":
    Study("learned_classifiers", __doc__, measure, render).main()
