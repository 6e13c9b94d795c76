"""Linear layers with every penalty, each method with its own grid."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from math import inf
from typing import Any

import keras
import numpy as np
from closed_form import RidgeProblem, Weights
from training import HeldAtZero, Learned, Pair, Trained, soft_layers

from keras_softconv import SoftConv2D
from keras_softconv.regularizers import (
    FamilyStrengths,
    FusedTies,
    GaussianMixture,
    GroupLasso,
    Huber,
    PairwiseL1,
    StudentT,
)

L1, L2 = keras.regularizers.L1, keras.regularizers.L2
STRONG = 1e5  # nothing stays off the template


def powers(begin: float, end: float, per_decade: int = 2) -> list[float]:
    """Powers of ten from `begin` to `end`, by their logarithms."""
    count = round((end - begin) * per_decade) + 1
    return [10 ** (begin + index / per_decade) for index in range(count)]


# Trained to the optimum in closed form: the penalties are ridges.


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


# Trained by Adam, with proximal steps.


def plain_dense(rounds: int) -> Trained:
    """Dense without any penalty, stopped early, from Keras's own initial weights."""

    def layers(draw: Any) -> list[keras.Layer]:
        shape = draw.train[1].shape[1:]
        units = keras.layers.Dense(
            int(np.prod(shape)), use_bias=draw.convolution.get("use_bias", True)
        )
        return [keras.layers.Flatten(), units, keras.layers.Reshape(shape)]

    return Trained("Dense", layers, rounds=rounds)


def soft(
    name: str,
    tie: keras.Regularizer | None,
    ties: Sequence[float],
    off_template: Sequence[float],
    rounds: int,
    **arguments: Any,
) -> Trained:
    """A SoftConv2D with penalties of factor 1 and strengths on a grid."""
    pairs = list(product(ties, off_template))
    return Trained(name, soft_layers(tie, **arguments), pairs, rounds)


def locally_connected_by_adam(
    rounds: int, decays: Sequence[float], name: str = "Locally connected"
) -> Trained:
    """The same as `locally_connected`, stopped early."""
    pairs: list[Pair] = [(decay, 1.0) for decay in decays]
    without_sharing = {"kernel_constraint": HeldAtZero(), "halo": 0}
    return Trained(name, soft_layers(L2(1.0), **without_sharing), pairs, rounds)


def dense_by_adam(rounds: int, decays: Sequence[float], name: str) -> Trained:
    """The same as `dense`, stopped early, and begun at zero."""
    pairs: list[Pair] = [(decay, decay) for decay in decays]
    layers = soft_layers(L2(1.0), kernel_constraint=HeldAtZero())
    return Trained(name, layers, pairs, rounds)


def convolution_by_adam(rounds: int) -> Trained:
    """Keras's own, stopped early; its few weights are not in need of decay."""

    def layers(draw: Any) -> list[keras.Layer]:
        return [keras.layers.Conv2D(**draw.convolution, kernel_initializer="zeros")]

    return Trained("Conv2D", layers, rounds=rounds)


def penalties(rounds: int) -> list[Trained]:
    """Template only (`halo=0`), so that the ties alone are compared."""
    kinds = {
        "L2": (L2(1.0), powers(0, 2.5)),
        "L1": (L1(1.0), powers(-0.5, 2)),
        "GroupLasso, family": (GroupLasso(1.0), powers(0, 2)),
        "GroupLasso, position": (GroupLasso(1.0, per="position"), powers(0, 2)),
        "Huber": (Huber(1.0, delta=0.1), powers(0.5, 2.5)),
        "StudentT": (StudentT(1.0, scale=0.05, degrees_of_freedom=1.0), powers(-1.5, 0.5)),
        "PairwiseL1": (PairwiseL1(1.0), powers(-1.5, 0.5)),
        "FusedTies, L2": (FusedTies(L2(1.0)), powers(0, 2.5)),
        "FusedTies, L1": (FusedTies(L1(1.0)), powers(0, 2)),
        "GaussianMixture": (
            GaussianMixture(1.0, components=3, spread=0.5, per_family=True),
            powers(-2, 0),
        ),
    }
    return [
        soft(name, tie, ties, [STRONG], rounds, halo=0)
        for name, (tie, ties) in kinds.items()
    ]


def learned(name: str, tie: keras.Regularizer, rounds: int, **arguments: Any) -> Learned:
    """A SoftConv layer with ridges whose strengths are learned, at first 10.

    One long run, with an update after each round, in place of a grid of shorter ones.
    """
    pair = (10.0, STRONG if "halo" in arguments else 10.0)
    return Learned(name, soft_layers(tie, **arguments), [pair], 5 * rounds // 2)


def learned_ties(rounds: int) -> list[Learned]:
    """Of the template only."""
    return [
        learned("L2, learned", L2(1.0), rounds, halo=0),
        learned("FamilyStrengths, learned", FamilyStrengths(L2(1.0)), rounds, halo=0),
    ]
