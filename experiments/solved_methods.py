"""Linear layers with ridges, solved in closed form, each with its own grid."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from math import inf
from typing import Any

from closed_form import RidgeProblem, Weights

from keras_softconv import SoftConv2D


@dataclass(frozen=True)
class Solved:
    """A linear layer at the optimum of each setting.

    Args:
        name: what the tables call it.
        settings: to try, each the arguments of `solve`.
        solve: from the problem and strengths in units of the loss to weights.
        layer: whose structure it has.
    """

    name: str
    settings: Iterable[tuple[float, ...]]
    solve: Callable[..., Weights]
    layer: type = SoftConv2D

    def fits(self, draw: Any) -> list[dict]:
        inputs, targets = draw.train
        layer = self.layer(**draw.convolution)
        layer.build((None, *inputs.shape[1:]))
        problem = RidgeProblem(layer, inputs, targets)
        unit = 1 / (len(inputs) * targets[0].size)
        fits = []
        for setting in self.settings:
            weights = self.solve(problem, *(strength * unit for strength in setting))
            fits.append({
                "setting": setting,
                "validation": weights.error(*draw.validation),
                "error": draw.error(weights),
            })  # fmt: skip
        return fits


def dense(decays: Sequence[float], **layer: type) -> Solved:
    """`Dense` with weight decay."""
    settings = [(decay, decay) for decay in decays]
    name = "Dense + weight decay"
    return Solved(name, settings, RidgeProblem.solve_without_sharing, **layer)


def locally_connected(decays: Sequence[float], **layer: type) -> Solved:
    """The template alone, with weight decay and no shared kernel."""
    settings = [(decay, inf) for decay in decays]
    name = "Locally connected"
    return Solved(name, settings, RidgeProblem.solve_without_sharing, **layer)


def convolution(
    decays: Sequence[float] = (0.0,), name: str = "Conv2D", **layer: type
) -> Solved:
    """`Conv2D`, with weight decay."""
    settings = [(decay,) for decay in decays]
    return Solved(name, settings, RidgeProblem.solve_convolution, **layer)


def convolution_with_biases(ties: Sequence[float]) -> Solved:
    """`Conv2D` with a bias for each output, tied softly: a control."""
    settings = [(tie,) for tie in ties]
    return Solved("Conv2D + biases", settings, RidgeProblem.solve_with_biases)


def ridge_ties(
    ties: Sequence[float],
    off_template: Sequence[float],
    name: str = "ridge ties",
    **layer: type,
) -> Solved:
    """A SoftConv layer with ridges."""
    settings = list(product(ties, off_template))
    return Solved(name, settings, RidgeProblem.solve, **layer)
