"""Strengths learned and transferred: two tables of docs/penalties.md.

    python experiments/strengths.py [--quick] [--seeds 5] [--write]

Excess risk in % of the signal variance, mean and standard error. *learned*: ridge strengths
from the training data alone, against those that validation examples choose from a grid
(`tuned`) and the pair of the grid with the least mean risk, which nobody can know
(`best fixed`). *sizes*: whether a good strength stays good when the sizes change. All but
the learned ones are solved in closed form.
"""

import argparse
from itertools import product

import numpy as np
from closed_form import RidgeProblem
from comparison import Found, errors, mean_and_error, tuned
from solved_methods import Solved, ridge_ties
from study import Study, powers, search
from synthetic import Draw, Task
from trained_methods import L2, learned

from keras_softconv.diagnostics.tables import markdown_table

TASKS = {
    "children, v = 0": Task("children", 0.0),
    "children, v = 0.1": Task("children", 0.1),
    "children, v = 0.3": Task("children", 0.3),
    "dense, v = 0": Task("dense", 0.0),
    "dense, v = 0.1": Task("dense", 0.1),
    "dense, v = 0.3": Task("dense", 0.3),
    "dense, v = 1": Task("dense", 1.0),
    "dense, v = 1, 1000 examples": Task("dense", 1.0, examples=1000),
}
RIDGE, LEARNED, SCALED, FIXED = "ridge ties", "learned", "multiples", "best fixed"
MULTIPLES = powers(-0.5, 2)
SIZES = tuple(product((8, 12), (2, 8), (50, 150, 500)))


def scaled_task(side: int, filters: int, examples: int) -> Task:
    return Task("dense", 0.3, examples, side, filters)


def measure(options: argparse.Namespace) -> Found:
    quick = options.quick
    grid = powers(0.5, 3.5, 1 if quick else 2)
    to_learn = [
        ridge_ties(grid, powers(0.5, 3.5, 1 if quick else 2)),
        learned(LEARNED, L2(1.0), 2 if quick else 16),
    ]
    # Ties 5 and off-template 20, the rule of thumb, and multiples of both.
    pairs = [(5 * multiple, 20 * multiple) for multiple in MULTIPLES]
    to_scale = [Solved(SCALED, pairs, RidgeProblem.solve)]
    tasks = dict(list(TASKS.items())[: 2 if quick else None])
    sizes = {
        " | ".join(map(str, size)): scaled_task(*size)
        for size in (SIZES[:2] if quick else SIZES)
    }
    found = search(tasks, Draw, to_learn, options.seeds)
    found |= search(sizes, Draw, to_scale, options.seeds)
    for fits in found.values():
        fits[FIXED] = best_fixed(fits[RIDGE if RIDGE in fits else SCALED])
    return found


def render(found: Found) -> dict[str, str]:
    return {"learned": render_learned(found), "sizes": render_scaling(found)}


def render_learned(found: Found) -> str:
    rows = [["task", "best fixed", "tuned", "learned", "learned / best fixed"]]
    for task, fits in found.items():
        if LEARNED in fits:
            columns = [errors(tuned(fits[name])) for name in (FIXED, RIDGE, LEARNED)]
            ratio = columns[-1].mean() / columns[0].mean()
            rows.append([task, *map(mean_and_error, columns), f"{ratio:.2f}"])
    return markdown_table(rows)


def best_fixed(seeds: list[list[dict]]) -> list[list[dict]]:
    """The fit of each seed at the strengths with the least mean error."""
    best = np.mean([errors(fits) for fits in seeds], axis=0).argmin()
    return [[fits[best]] for fits in seeds]


def render_scaling(found: Found) -> str:
    head = ["side", "filters", "examples", *(f"x {m:.2g}" for m in MULTIPLES), "best"]
    rows = [head]
    for size, fits in found.items():
        if SCALED in fits:
            means = np.mean([errors(seed) for seed in fits[SCALED]], axis=0)
            best = f"{MULTIPLES[means.argmin()]:.2g}"
            rows.append([*size.split(" | "), *(f"{mean:.1f}" for mean in means), best])
    return markdown_table(rows)


if __name__ == "__main__":
    Study("strengths", __doc__, measure, render).main()
