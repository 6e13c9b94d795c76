"""Denoising handwritten digits: the table of the README and more.

    python experiments/digits.py [--quick] [--seeds 5] [--write]

One linear 3x3 layer with one filter, learnt from N images with noise of standard deviation
0.5. Test error in % of the variance of the noise. Ridges are solved in closed form and once
more trained by Adam; the other ties, and Dense without penalty, are trained and stopped
early. `released` is a convolution, trained on without penalties, at a rate that is tuned,
and stopped early; `Conv2D + biases` has a bias for each pixel, tied softly, and no other
freedom. The columns `rule` and `learned` take no validation data.
"""

import argparse

from comparison import RELEASED, Found, comparison_table
from denoising import BASELINES, BIASED, LOCAL, RULE_OF_THUMB, Draw, Task
from solved_methods import (
    convolution,
    convolution_with_biases,
    dense,
    locally_connected,
    ridge_ties,
)
from study import Method, Study, powers, search
from trained_methods import L1, L2, learned, plain_dense, released, soft

from keras_softconv.regularizers import FusedTies

TIES = ("ridge ties", "ridge ties, Adam", "lasso ties", "fused ties")


def methods(quick: bool) -> list[Method]:
    rounds = 1 if quick else 16
    fine = 1 if quick else 4
    off_template = [100.0] if quick else powers(1.75, 2.5, 4)
    return [
        plain_dense(rounds),
        dense(powers(-1, 4, fine)),
        convolution((0.0, *powers(-1, 3, 1))),
        convolution_with_biases(powers(-2, 3)),
        locally_connected(powers(-1, 3, fine)),
        released(rounds),
        ridge_ties([5.0], [20.0], name=RULE_OF_THUMB),
        learned("learned", L2(1.0), rounds),
        ridge_ties(powers(-0.5, 2.5), powers(1, 3, fine)),
        soft("ridge ties, Adam", L2(1.0), powers(0.5, 1), off_template, rounds),
        soft("lasso ties", L1(1.0), powers(-0.5, 0.5), off_template, rounds),
        soft("fused ties", FusedTies(L1(1.0)), powers(-0.5, 1), off_template, rounds),
    ]


def measure(options: argparse.Namespace) -> Found:
    sizes = (50,) if options.quick else (50, 200, 1000)
    tasks = {f"N = {size}": Task("digits", size) for size in sizes}
    return search(tasks, Draw, methods(options.quick), options.seeds)


def render(found: Found) -> dict[str, str]:
    """All methods, and the few that the README has."""
    rivals = {
        "the first three": BASELINES,
        "Conv2D + biases": [BIASED],
        "locally connected": [LOCAL],
        RELEASED: [RELEASED],
    }
    mine = ("SoftConv2D", TIES)
    return {
        "digits": comparison_table(found, mine, rivals),
        "digits in short": comparison_table(
            found, mine, rivals, (*BASELINES, BIASED, LOCAL, RELEASED)
        ),
    }


if __name__ == "__main__":
    Study("digits", __doc__, measure, render).main()
