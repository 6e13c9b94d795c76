"""Which penalty for which departure from a convolution: the table of docs/penalties.md.

    python experiments/departures.py [--quick] [--seeds 5] [--write]

Excess risk in % of the signal variance, 50 examples, mean and standard error. What is
trained takes its strength from a grid of its own, and its stopping time, by the error on 50
validation examples; what is learned takes neither. `Dense + weight decay` is solved in
closed form; all others have the template alone. `released` is the convolution, trained on
without penalties, its rate, or none, chosen as the strengths are.
"""

import argparse

import numpy as np
from comparison import Found, errors, mean_and_error, tuned
from solved_methods import dense
from study import Method, Study, powers, search
from synthetic import Draw, Task
from trained_methods import (
    convolution_by_adam,
    learned_ties,
    locally_connected_by_adam,
    penalties,
    released,
)

from keras_softconv.diagnostics.tables import markdown_table

TASKS = {
    "a few problem children": Task("children", 0.1, examples=50),
    "whole families": Task("families", 0.2, examples=50),
    "slow drift": Task("drift", 0.3, examples=50),
    "two regions": Task("regions", 1.0, examples=50),
    "none at all": Task("children", 0.0, examples=50),
}


def methods(rounds: int) -> list[Method]:
    return [
        dense(powers(0, 4, 4)),
        convolution_by_adam(rounds),
        released(rounds, halo=0),
        locally_connected_by_adam(rounds, powers(-1, 1.5)),
        *penalties(rounds),
        *learned_ties(rounds),
    ]


def measure(options: argparse.Namespace) -> Found:
    tasks = dict(list(TASKS.items())[: 1 if options.quick else None])
    made = methods(1 if options.quick else 14)
    return search(tasks, Draw, made, options.seeds)


def render(found: Found) -> dict[str, str]:
    """A row for each method; the least error of each column in bold."""
    rows = [["ties", *found]]
    for method in next(iter(found.values())):
        row = [method]
        for fits in found.values():
            of_each = {name: errors(tuned(some)) for name, some in fits.items()}
            text = mean_and_error(of_each[method])
            is_best = method == min(of_each, key=lambda name: np.mean(of_each[name]))
            row.append(f"**{text}**" if is_best else text)
        rows.append(row)
    return {"departures": markdown_table(rows)}


if __name__ == "__main__":
    Study("departures", __doc__, measure, render).main()
