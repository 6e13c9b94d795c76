"""Telling handwritten digits apart, a task at which penalties on weights matter little.

    python experiments/digit_classes.py [--quick] [--seeds 5] [--write]

Networks with one hidden layer, of 3x3 windows and 8 filters, learn from N of
scikit-learn's 8x8 digits, with and without 2x2 max pooling. % of the last 597 digits that
are mistaken, and differences in percentage points: mean and standard error over draws.
Strengths and the time to stop are chosen for each draw by the cross-entropy of max(50,
N/4) validation images, 200 for N = 1000.

Differences are in bold if Student's t tells them from 0 at 5 %; of twenty that are none,
one is so by chance. Standard errors over draws leave out that all draws have the test
digits in common, of which one is 0.17 %, and with N = 1000 most training digits too.

The released networks are controls. One that is first trained as a convolution, and then as
SoftConv2D, has a warm start, with penalties and without, at the same rate as all others:
what the penalties are worth is the difference of these two, the last row.
"""

import argparse
from itertools import product

from classification import Draw, Task
from classifiers import (
    BASELINES,
    CONVOLUTION,
    DECAYED,
    LOCAL,
    RELEASED,
    RELEASED_TIED,
    SOFT,
    Grids,
    Trained,
    compared,
    minus,
    strengths,
    table,
)
from comparison import Found
from study import Study, search

# From next to none to next to a convolution; in between the error hardly depends on them.
TIES = OFF_TEMPLATE = (0.1, 3.0, 100.0)
GRIDS = Grids(strengths(-2, 1), tuple(product(TIES, OFF_TEMPLATE)))
QUICK = Grids((0.1,), ((1.0, 1.0),))
DIFFERENCES = {
    f"{SOFT} minus the best of the first four": ((SOFT,), BASELINES),
    **dict([
        minus(SOFT, DECAYED),
        minus(SOFT, CONVOLUTION),
        minus(SOFT, LOCAL),
        minus(SOFT, RELEASED),
        minus(RELEASED_TIED, RELEASED),
    ]),
}  # fmt: skip


def measure(options: argparse.Namespace) -> Found:
    sizes = (100,) if options.quick else (100, 300, 1000)
    tasks = {
        f"N = {examples}" + ", pooling" * pooled: Task(examples, pooled)
        for pooled in ((False,) if options.quick else (False, True))
        for examples in sizes
    }

    def methods(task: Task) -> list[Trained]:
        return compared(QUICK if options.quick else GRIDS, task.pooled, options.quick)

    return search(tasks, Draw, methods, options.seeds)


def render(found: Found) -> dict[str, str]:
    return {"digit classes": table(found, DIFFERENCES)}


if __name__ == "__main__":
    Study("digit_classes", __doc__, measure, render).main()
