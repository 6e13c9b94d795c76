"""Denoising pieces of photographs, with one fixed strength and with tuned ones.

    python experiments/photographs.py [--quick] [--seeds 5] [--write]

One linear layer with one filter learns from N 8x8 pieces of one photograph and is tested on
4000 pieces of another; noise of standard deviation 0.15. Test error in % of its variance.
`rule` are the strengths of the README's rule of thumb, without any tuning, against the
layers without penalties, beside tuned controls; in the second table everything is tuned but
`learned`. `stopped` layers are trained by Adam with early stopping, as are Dense, lasso
ties and `released`, a convolution that goes on without penalties; the other ridges are
solved in closed form.
"""

import argparse

from comparison import (
    RELEASED,
    Found,
    comparison_table,
    errors,
    gains,
    mean_and_error,
    tuned,
)
from denoising import BASELINES, BIASED, LOCAL, RULE_OF_THUMB, Draw, Task
from solved_methods import (
    convolution,
    convolution_with_biases,
    dense,
    locally_connected,
    ridge_ties,
)
from study import Method, Study, powers, search
from trained_methods import (
    L1,
    L2,
    dense_by_adam,
    learned,
    locally_connected_by_adam,
    plain_dense,
    released,
    soft,
)

from keras_softconv.diagnostics.tables import markdown_table

PLAIN = ("Dense", "plain Conv2D")
TIES = ("ridge ties", "lasso ties")
# Stopping early helps here, and the lasso is stopped: so its rivals are, too.
DECAYED = "Dense + weight decay, stopped"
LOCALS = (LOCAL, "Locally connected, stopped")


def methods(quick: bool) -> list[Method]:
    rounds = 1 if quick else 16
    fine = 1 if quick else 4
    return [
        plain_dense(rounds),
        convolution(name="plain Conv2D"),
        ridge_ties([5.0], [20.0], name=RULE_OF_THUMB),
        dense(powers(-2, 3, fine)),
        convolution((0.0, *powers(-1, 3, 1))),
        convolution_with_biases(powers(-2, 3)),
        locally_connected(powers(-2, 2, fine)),
        released(rounds),
        dense_by_adam(rounds, powers(-1.5, 1.5), DECAYED),
        locally_connected_by_adam(rounds, powers(-1.5, 0.5), LOCALS[1]),
        learned("learned", L2(1.0), rounds),
        ridge_ties(powers(-0.5, 4), powers(-0.5, 2.5)),
        soft("lasso ties", L1(1.0), powers(-0.5, 1.5, 1), powers(0.5, 1.5), rounds),
    ]


def measure(options: argparse.Namespace) -> Found:
    sizes = (50,) if options.quick else (50, 200, 1000)
    tasks = {
        f"{size}x{size}, N = {examples}": Task("photographs", examples, size)
        for size in (3, 5)
        for examples in sizes
    }
    return search(tasks, Draw, methods(options.quick), options.seeds)


def render(found: Found) -> dict[str, str]:
    shown = (*BASELINES, DECAYED, BIASED, *LOCALS, RELEASED, "learned", *TIES)
    tuned_alone = {task: {m: fits[m] for m in shown} for task, fits in found.items()}
    rivals = {
        "the first four": (*BASELINES, DECAYED),
        "locally connected": LOCALS,
        RELEASED: [RELEASED],
    }
    return {
        "photographs, fixed": render_fixed(found),
        "photographs": comparison_table(tuned_alone, ("SoftConv2D", TIES), rivals),
    }


def render_fixed(found: Found) -> str:
    """The rule of thumb against each of the plain layers, and what tuning reaches."""
    names = (*PLAIN, RULE_OF_THUMB, RELEASED, "Dense + weight decay", LOCAL)
    rows = [["task", *names, "gain on Dense", "gain on plain Conv2D"]]
    means = []
    for task, fits in found.items():
        best = {name: tuned(fits[name]) for name in names}
        row = [task, *(mean_and_error(errors(best[name])) for name in names)]
        gain = {name: gains(best[RULE_OF_THUMB], best[name]) for name in PLAIN}
        means.append([gain[name].mean() for name in PLAIN])
        row += [f"{mean_and_error(gain[name], 1)} %" for name in PLAIN]
        rows.append(row)
    smaller = sum(map(min, means)) / len(means)
    rows.append(["mean of the smaller gain", *[""] * (len(names) + 1), f"{smaller:.1f} %"])
    return markdown_table(rows)


if __name__ == "__main__":
    Study("photographs", __doc__, measure, render).main()
