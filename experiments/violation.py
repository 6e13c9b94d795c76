"""Error against the amount of violation, from exactly convolutional to no structure at all.

    python experiments/violation.py [--quick] [--seeds 5] [--write]

Excess risk in % of the signal variance, learnt from 100 examples. *children*: a share v of
the positions has kernels of its own; *dense*: a share v of the variance is a random dense
kernel. Every method is tuned on 50 validation examples (250 where 1000 are trained on) over
a grid of its own. Ridges are solved in closed form and once more trained by Adam; `learned`
takes no validation data. `released` is a convolution that is trained on without penalties,
at a rate that is tuned, and stopped early, as Dense and lasso ties are.
"""

import argparse
from pathlib import Path

import numpy as np
from comparison import RELEASED, Found, best_of, comparison_table, errors, standard_error
from solved_methods import convolution, dense, locally_connected, ridge_ties
from study import Method, Study, powers, search
from synthetic import Draw, Task
from trained_methods import L1, L2, learned, plain_dense, released, soft

AMOUNTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
TABULATED = (0.0, 0.1, 0.3, 1.0)
BASELINES = ("Dense", "Dense + weight decay", "Conv2D", "Locally connected")
TIES = ("ridge ties", "lasso ties")
MANY = "dense, v = 1, 1000 examples"


def methods(quick: bool) -> list[Method]:
    rounds = 1 if quick else 16
    fine = 1 if quick else 4
    lasso = powers(0, 2.5, 1 if quick else 2)
    return [
        plain_dense(rounds),
        dense(powers(0, 4, fine)),
        convolution((0.0, *powers(0, 2, 1))),
        locally_connected(powers(-1, 3, fine)),
        released(rounds),
        ridge_ties(powers(-0.5, 5, fine), powers(0.5, 5, fine)),
        soft("ridge ties, Adam", L2(1.0), powers(0.5, 4.5, 1), powers(1, 4, 1), rounds),
        soft("lasso ties", L1(1.0), lasso, powers(0.5, 3.5, 1), rounds),
        learned("learned", L2(1.0), rounds),
    ]


def measure(options: argparse.Namespace) -> Found:
    amounts = (0.0, 1.0) if options.quick else AMOUNTS
    tasks = {
        task_name(departure, v): Task(departure, v)
        for departure in ("children", "dense")
        for v in amounts
    }
    tasks[MANY] = Task("dense", 1.0, examples=200 if options.quick else 1000)
    every = methods(options.quick)
    pictured = [one for one in every if one.name in (*BASELINES[1:], *TIES)]

    def of_task(task: Task) -> list[Method]:
        return every if task.violation in TABULATED else pictured

    return search(tasks, Draw, of_task, options.seeds)


def task_name(departure: str, violation: float) -> str:
    return f"{departure}, v = {violation:g}"


def render(found: Found) -> dict[str, str]:
    shown = {
        name: fits
        for name, fits in found.items()
        if name == MANY or float(name.rpartition(" ")[2]) in TABULATED
    }
    rivals = {"the best of the first four": BASELINES, RELEASED: [RELEASED]}
    return {"violation": comparison_table(shown, ("SoftConv2D", TIES), rivals)}


def picture(found: Found, path: Path) -> None:
    """Mean and standard error over v; Conv2D, the locally connected and the dense layer,
    and SoftConv2D with the ties and strengths that validation data choose."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="tight")
    titles = {
        "children": "some positions have kernels of their own",
        "dense": "blended with a random dense kernel",
    }
    for panel, (departure, title) in zip(panels, titles.items(), strict=True):
        for label, color, names in CURVES:
            of_each = {
                v: errors(best_of(found[name], names))
                for v in AMOUNTS
                if (name := task_name(departure, v)) in found
            }
            draw_curve(panel, of_each, label, color)
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("violation v: 0 is a convolution, 1 has no shared part")
        panel.set_yscale("log")
    panels[0].set_ylabel("excess risk, % of the signal variance")
    panels[0].legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


# Okabe and Ito's colours.
CURVES = (
    ("Dense + weight decay", "#0072B2", BASELINES[1:2]),
    ("Conv2D", "#D55E00", BASELINES[2:3]),
    ("Locally connected + weight decay", "#009E73", BASELINES[3:]),
    ("SoftConv2D, strengths by validation", "#000000", TIES),
)


def draw_curve(panel, of_each: dict, label: str, color: str) -> None:
    means = np.array([error.mean() for error in of_each.values()])
    spread = [standard_error(error) for error in of_each.values()]
    is_mine = label.startswith("SoftConv")
    style = {"linewidth": 2.5, "zorder": 3} if is_mine else {"linewidth": 1.5}
    panel.errorbar([*of_each], means, spread, label=label, color=color, capsize=2, **style)


if __name__ == "__main__":
    Study("violation", __doc__, measure, render, picture=picture).main()
