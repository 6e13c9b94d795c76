"""Which penalty for which departure from a convolution: the table of docs/penalties.md.

    python benchmarks/departures.py [--quick] [--seeds 5] [--write]

Excess risk in % of the signal variance, 50 examples, mean and standard error. Each method
takes its strength from a grid of its own, and its stopping time, by the error on 50
validation examples; those that are learned take neither.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from methods import convolution, learned_ties, locally_connected, penalties, powers
from reports import table, write
from synthetic import Contender, Draw, Task, mean_and_error

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


def measure(seeds: int, rounds: int) -> dict[str, dict[str, list[dict]]]:
    """By task and method, what was found with each seed."""
    made = contenders(rounds)
    progress = keras.utils.Progbar(len(TASKS) * seeds * len(made), unit_name="search")
    found = {name: {one.name: [] for one in made} for name in TASKS}
    for name, task in TASKS.items():
        for seed in range(seeds):
            draw = Draw(task, seed)
            for one in made:
                found[name][one.name].append(one.tuned(draw))
                progress.add(1)
    return found


def render(found: dict[str, dict[str, list[dict]]]) -> str:
    """A row for each method; the least risk of each column in bold."""
    rows = []
    for method in next(iter(found.values())):
        row = [method]
        for fits in found.values():
            risks = {name: [f["risk"] for f in some] for name, some in fits.items()}
            text = mean_and_error(risks[method])
            is_best = method == min(risks, key=lambda name: np.mean(risks[name]))
            row.append(f"**{text}**" if is_best else text)
        rows.append(row)
    return table(["ties", *found], rows)


def edges(found: dict[str, dict[str, list[dict]]], made: list[Contender]) -> list[str]:
    """Where the best strength stood at an end of its grid, more often than not."""
    grids = {one.name: sorted({tie for tie, _ in one.strengths}) for one in made}
    notes = []
    for task, fits in found.items():
        for method, some in fits.items():
            ends = {grids[method][0], grids[method][-1]}
            at_end = [f["pair"] is not None and f["pair"][0] in ends for f in some]
            if len(grids[method]) > 1 and np.mean(at_end) > 0.5:
                notes.append(f"{task}, {method}")
    return notes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little training, 2 seeds")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="into docs/penalties.md")
    options = parser.parse_args()
    seeds, rounds = (2, 2) if options.quick else (options.seeds, 14)
    found = measure(seeds, rounds)
    text = render(found)
    print(f"\n{text}\n\nBest at an end of the grid: {edges(found, contenders(rounds))}")
    if options.write and not options.quick:
        write(DOCUMENT, "departures", text)


if __name__ == "__main__":
    main()
