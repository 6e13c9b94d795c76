"""Digits whose pixels change places, so that a convolution is the wrong model.

    python experiments/permuted_pixels.py [--quick] [--seeds 5] [--write]

Networks with one hidden layer, of 3x3 windows and 8 filters, learn from 1000 of
scikit-learn's 8x8 digits, as they are and with the pixels of all images permuted by one
fixed permutation. % of the last 597 digits that are mistaken, and differences in
percentage points: mean and standard error over draws. Strengths, down to next to none,
and the time to stop are chosen for each draw by the cross-entropy of 200 validation
images; for `SoftConv2D, either` so is what it begins as, a convolution or, with
`deviation_initializer="glorot_uniform"`, a dense layer.

To a dense layer permuted pixels are no different. SoftConv2D should be as good as one
with weight decay, within one standard error of the difference: the last row. Differences
in bold are told from 0 by Student's t at 5 %; `digit_classes.py` says what standard
errors leave out, and what the released networks are.
"""

import argparse
from itertools import product

import numpy as np
from classification import ROUNDS, Draw, Network, Task, soft
from classifiers import (
    CONVOLUTION,
    DECAYED,
    RELEASED,
    RELEASED_TIED,
    SOFT,
    Grids,
    Trained,
    compared,
    minus,
    paired,
    strengths,
    table,
)
from comparison import Found, standard_error
from study import Study, search

FROM_DENSE = f"{SOFT}, begun as a dense layer"
EITHER = f"{SOFT}, either"
SOFTS = (SOFT, FROM_DENSE)
GRIDS = Grids(strengths(-2, 1), tuple(product(strengths(-2, 2), strengths(-2, 1))))
QUICK = Grids((0.1,), ((0.1, 0.1),))
EXAMPLES = 1000
DIFFERENCES = dict([
    minus(SOFT, DECAYED),
    minus(FROM_DENSE, DECAYED),
    minus(EITHER, DECAYED, SOFTS),
    minus(EITHER, CONVOLUTION, SOFTS),
    minus(CONVOLUTION, DECAYED),
    minus(RELEASED_TIED, RELEASED),
])  # fmt: skip


def measure(options: argparse.Namespace) -> Found:
    names = ("permuted",) if options.quick else ("intact", "permuted")
    examples = 200 if options.quick else EXAMPLES
    tasks = {name: Task(examples, permuted=name == "permuted") for name in names}
    grids = QUICK if options.quick else GRIDS
    return search(tasks, Draw, methods(grids, options.quick), options.seeds)


def methods(grids: Grids, quick: bool) -> list[Trained]:
    from_dense = soft(kernel_initializer="zeros", deviation_initializer="glorot_uniform")
    network = Network(from_dense, rounds=3 if quick else ROUNDS)
    return [
        *compared(grids, pooled=False, quick=quick),
        Trained(FROM_DENSE, network, grids.pairs),
    ]


def render(found: Found) -> dict[str, str]:
    met = [
        "yes" if is_within_one_error(paired(fits, SOFTS, (DECAYED,))) else "no"
        for fits in found.values()
    ]
    verdict = {f"{EITHER}, as good as {DECAYED} within one standard error": met}
    return {"permuted pixels": table(found, DIFFERENCES, {EITHER: SOFTS}, verdict)}


def is_within_one_error(differences: np.ndarray) -> bool:
    """Whether no more is mistaken than by one standard error of the difference."""
    return bool(differences.mean() <= standard_error(differences))


if __name__ == "__main__":
    Study("permuted_pixels", __doc__, measure, render).main()
