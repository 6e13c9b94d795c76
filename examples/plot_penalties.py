"""Draw every penalty as a function of one deviation, and its proximal step.

python examples/plot_penalties.py [--quick] [--output penalties.png]
"""

import argparse
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import matplotlib
import numpy as np
from keras import ops
from keras.regularizers import L1, L2

from keras_softconv import regularizers

matplotlib.use("Agg")
import matplotlib.pyplot as plt

plt.rcParams.update({f"axes.spines.{side}": False for side in ("top", "right")})
plt.rcParams.update({"axes.grid": True, "grid.color": "0.9", "legend.frameon": False})
STEP = 0.3
WEIGHTS = np.linspace(-1, 1, 201, dtype="float32")
# Okabe and Ito's colours, told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73")


@dataclass
class Curve:
    """A penalty as a function of one member of a family; where the others stand."""

    penalty: Callable
    label: str = ""
    others: tuple[float, ...] = ()
    step: Callable | None = None  # where `proximal_step` does not know of it

    def families(self):
        """Each weight in a family of its own, after the first of the others."""
        members = *self.others[:1], WEIGHTS, *self.others[1:]
        return ops.convert_to_tensor(np.stack(np.broadcast_arrays(*members)), "float32")

    def penalties(self) -> list[float]:
        families = ops.split(self.families(), len(WEIGHTS), axis=1)
        return [float(self.penalty(family)) for family in families]

    def steps(self) -> np.ndarray | None:
        step = self.step or partial(regularizers.proximal_step, self.penalty)
        with suppress(ValueError):  # where it is not known
            return ops.convert_to_numpy(step(self.families(), STEP))


def at_distance(steps: int) -> Curve:
    weighted = regularizers.DistanceWeighted(L1(0.3))
    layout = regularizers.Layout((0,), distances=lambda: ops.full((1, 1), float(steps)))
    step = partial(weighted.proximal_step, layout=layout)
    return Curve(partial(weighted.penalty, layout=layout), f"{steps} away", step=step)


def mixture() -> Curve:
    state = {"logits": [0, 0, 0], "means": [-0.6, 0, 0.6], "log_variances": [-4.6] * 3}
    state = {name: ops.convert_to_tensor([of], "float32") for name, of in state.items()}
    penalty, layout = regularizers.GaussianMixture(1).penalty, regularizers.Layout((0,))
    return Curve(partial(penalty, layout=layout, **state), "shades 0, ±0.6")


def panels() -> dict[str, list[Curve]]:
    group, pairs = regularizers.GroupLasso(1), regularizers.PairwiseL1(0.5)
    between = "between 0 and 0.5", (0, 0.5)
    return {
        "L2(1)": [Curve(L2(1.0))],
        "L1(1)": [Curve(L1(1.0))],
        "Huber(2, delta=0.3)": [Curve(regularizers.Huber(2, delta=0.3))],
        "StudentT(0.15, scale=0.1)": [Curve(regularizers.StudentT(0.15, scale=0.1))],
        "GroupLasso(1)": [Curve(group, f"with {x:g}", (x,)) for x in (0, 0.3, 1)],
        "PairwiseL1(0.5)": [Curve(pairs, "with ±0.5", (-0.5, 0.5))],
        "DistanceWeighted(L1(0.3))": [at_distance(steps) for steps in (1, 2, 4)],
        "FusedTies(L2(1))": [Curve(regularizers.FusedTies(L2(1.0)), *between)],
        "FusedTies(L1(1))": [Curve(regularizers.FusedTies(L1(1.0)), *between)],
        "GaussianMixture(1)": [mixture()],
    }


def draw(above: plt.Axes, below: plt.Axes, curves: list[Curve]) -> None:
    for curve, colour in zip(curves, COLOURS, strict=False):
        above.plot(WEIGHTS, curve.penalties(), color=colour, label=curve.label, lw=2)
        if (moved := curve.steps()) is not None:
            below.plot(WEIGHTS, WEIGHTS, color="0.6", ls=":", lw=1.5)
            below.plot(WEIGHTS, moved.T, color="0.6", lw=1, alpha=len(curves) == 1)
            below.plot(WEIGHTS, moved[min(1, len(moved) - 1)], color=colour, lw=2)
    if not below.lines:
        below.set_axis_off()
        below.text(0, 0.6, "no proximal step", ha="center")
    low, high = above.get_ylim()
    room = 1.1 + 0.13 * len(curves) if curves[0].label else 1.05
    above.set(yticks=[0], ylim=(low if low < -0.1 else 0, room * high))
    below.set(yticks=[-1, 0, 1], xlim=above.get_xlim(), ylim=above.get_xlim())
    if curves[0].label:
        above.legend(loc="upper center", handlelength=1, borderpad=0)


def main(path: str) -> None:
    figure, grid = plt.subplots(4, 5, figsize=(13, 9), layout="constrained")
    pairs = grid.reshape(2, 2, 5).swapaxes(1, 2).reshape(-1, 2)  # above, below
    for axes, (title, curves) in zip(pairs, panels().items(), strict=True):
        draw(*axes, curves)
        axes[0].set_title(title)
    plt.setp(pairs[::5, 0], ylabel="penalty")
    plt.setp(pairs[::5, 1], ylabel=f"proximal step of {STEP}")
    plt.setp(grid, xticks=[-1, 0, 1])
    figure.supxlabel("deviation (dotted: no step; grey: where the others go)")
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer points: a smoke test")
    parser.add_argument("--output", default="penalties.png", help="picture to write")
    options = parser.parse_args()
    if options.quick:
        WEIGHTS = WEIGHTS[::10]
    main(options.output)
