"""Which penalty for which departure from a convolution: the table of docs/penalties.md.

    python benchmarks/departures.py [--quick] [--seeds 5] [--write]

Excess risk in % of the signal variance, 50 examples, mean and standard error. Each method
takes its strength from a grid of its own, and its stopping time, by the error on 50
validation examples; those that are learned take neither.
"""

from pathlib import Path

import numpy as np
from methods import convolution, learned_ties, locally_connected, penalties, powers
from reports import table, write
from synthetic import (
    Contender,
    Found,
    Task,
    command_line,
    mean_and_error,
    risks,
    search,
    tuned,
)

DOCUMENT = Path(__file__).parents[1] / "docs" / "penalties.md"
TASKS = {
    "a few problem children": Task("children", 0.1, examples=50),
    "whole families": Task("families", 0.2, examples=50),
    "slow drift": Task("drift", 0.3, examples=50),
    "two regions": Task("regions", 1.0, examples=50),
    "none at all": Task("children", 0.0, examples=50),
}


def contenders(rounds: int) -> list[Contender]:
    return [
        convolution(rounds),
        locally_connected(rounds, powers(-1, 1.5)),
        *penalties(rounds),
        *learned_ties(rounds),
    ]


def render(found: Found) -> str:
    """A row for each method; the least risk of each column in bold."""
    rows = []
    for method in next(iter(found.values())):
        row = [method]
        for fits in found.values():
            of_each = {name: risks(tuned(some)) for name, some in fits.items()}
            text = mean_and_error(of_each[method])
            is_best = method == min(of_each, key=lambda name: np.mean(of_each[name]))
            row.append(f"**{text}**" if is_best else text)
        rows.append(row)
    return table(["ties", *found], rows)


def edges(found: Found, made: list[Contender]) -> list[str]:
    """Where the best strength stood at an end of its grid, more often than not."""
    grids = {one.name: sorted({tie for tie, _ in one.strengths}) for one in made}
    notes = []
    for task, fits in found.items():
        for method, some in fits.items():
            ends = {grids[method][0], grids[method][-1]}
            pairs = [fit["pair"] for fit in tuned(some)]
            at_end = [pair is not None and pair[0] in ends for pair in pairs]
            if len(grids[method]) > 1 and np.mean(at_end) > 0.5:
                notes.append(f"{task}, {method}")
    return notes


def main() -> None:
    options = command_line(__doc__)
    made = contenders(rounds=2 if options.quick else 14)
    found = search(TASKS, made, options.seeds)
    text = render(found)
    print(f"\n{text}\n\nBest at an end of the grid: {edges(found, made)}")
    if options.write:
        write(DOCUMENT, "departures", text)


if __name__ == "__main__":
    main()
