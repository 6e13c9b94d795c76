"""Strengths tuned, learned and transferred: three tables of docs/penalties.md.

    python benchmarks/strengths.py [--quick] [--seeds 5] [--write]

Excess risk in % of the signal variance, 100 examples, mean and standard error. Tuned
methods take strengths, and when to stop, by validation examples. `best fixed` are the
strengths with the least mean risk, which nobody can know; `learned` uses the training data
alone.
"""

from itertools import product
from pathlib import Path

import keras
import numpy as np
from methods import L1, L2, convolution, dense, learned, locally_connected, powers, soft
from reports import table, write
from synthetic import (
    Contender,
    Draw,
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
    "children, v = 0": Task("children", 0.0),
    "children, v = 0.1": Task("children", 0.1),
    "children, v = 0.3": Task("children", 0.3),
    "dense, v = 0": Task("dense", 0.0),
    "dense, v = 0.1": Task("dense", 0.1),
    "dense, v = 0.3": Task("dense", 0.3),
    "dense, v = 1, 1000 examples": Task("dense", 1.0, examples=1000),
}
RIDGE, LASSO, LEARNED = "ridge ties", "lasso ties", "learned"


def contenders(rounds: int) -> list[Contender]:
    off_template = powers(1.5, 3.5)
    return [
        dense(rounds, powers(1, 3)),
        convolution(rounds),
        locally_connected(rounds, powers(-1, 1.5)),
        soft(RIDGE, L2(1.0), powers(0.5, 3.5), off_template, rounds),
        soft(LASSO, L1(1.0), powers(0.5, 2.5), off_template[::2], rounds),
        learned(LEARNED, L2(1.0), rounds),
    ]


def best_fixed(seeds: list[list[dict]]) -> list[float]:
    """The risk of each seed at the strengths with the least mean risk."""
    of_each = np.array([risks(fits) for fits in seeds])
    return of_each[:, of_each.mean(axis=0).argmin()].tolist()


def render_baselines(found: Found) -> str:
    methods = [name for name in next(iter(found.values())) if name != LEARNED]
    rows = [
        [task, *(mean_and_error(risks(tuned(fits[method]))) for method in methods)]
        for task, fits in found.items()
    ]
    return table(["task", *methods], rows)


def render_learned(found: Found) -> str:
    rows = []
    for task, fits in found.items():
        found_by = (fits[method] for method in (RIDGE, LEARNED))
        columns = [best_fixed(fits[RIDGE]), *(risks(tuned(some)) for some in found_by)]
        ratio = np.mean(columns[2]) / np.mean(columns[0])
        rows.append([task, *map(mean_and_error, columns), f"{ratio:.2f}"])
    head = ["task", "best fixed", "tuned", "learned", "learned / best fixed"]
    return table(head, rows)


def measure_scaling(seeds: int, rounds: int, sizes: tuple, multiples: list) -> dict:
    """Mean risk at multiples of the rule of thumb, by side, filters and examples."""
    found = {}
    progress = keras.utils.Progbar(len(list(product(*sizes))), unit_name="size")
    for side, filters, examples in product(*sizes):
        task = Task("dense", 0.3, examples, side, filters)
        one = soft(RIDGE, L2(1.0), [1.0], [1.0], rounds, filters=filters)
        of_each = [
            [one.fit(Draw(task, seed), (5 * m, 20 * m))["risk"] for m in multiples]
            for seed in range(seeds)
        ]
        found[side, filters, examples] = np.mean(of_each, axis=0)
        progress.add(1)
    return found


def render_scaling(found: dict, multiples: list) -> str:
    head = ["side", "filters", "examples", *(f"x {m:.2g}" for m in multiples), "best"]
    rows = []
    for size, means in found.items():
        best = f"{multiples[means.argmin()]:.2g}"
        rows.append([*map(str, size), *(f"{mean:.1f}" for mean in means), best])
    return table(head, rows)


def main() -> None:
    options = command_line(__doc__)
    rounds = 2 if options.quick else 16
    sizes = ((8,), (2,), (50,)) if options.quick else ((8, 12), (2, 8), (50, 150, 500))
    multiples = powers(-0.5, 2)
    found = search(TASKS, contenders(rounds), options.seeds)
    scaling = measure_scaling(min(options.seeds, 3), rounds, sizes, multiples)
    texts = {
        "baselines": render_baselines(found),
        "learned": render_learned(found),
        "scaling": render_scaling(scaling, multiples),
    }
    for name, text in texts.items():
        print(f"\n{text}")
        if options.write:
            write(DOCUMENT, name, text)


if __name__ == "__main__":
    main()
