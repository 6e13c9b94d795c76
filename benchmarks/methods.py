"""Baselines and SoftConv layers with every penalty, each with its own grid."""

from collections.abc import Sequence
from itertools import product

import keras
from synthetic import Contender, Draw

from keras_softconv import SoftConv2D
from keras_softconv.callbacks import AdaptiveStrengths
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


def soft(
    name: str,
    tie: keras.Regularizer | None,
    ties: Sequence[float],
    off_template: Sequence[float],
    rounds: int,
    filters: int = 2,
    **arguments: int | None,
) -> Contender:
    """A SoftConv2D with penalties of factor 1 and strengths on a grid."""

    def layers() -> list[keras.Layer]:
        regularizers = {"tie_regularizer": tie, "off_template_regularizer": L2(1.0)}
        layer = SoftConv2D(
            filters,
            3,
            use_bias=False,
            kernel_initializer="zeros",
            **regularizers,
            **arguments,
        )
        return [layer]

    return Contender(name, layers, list(product(ties, off_template)), rounds)


class HeldAtZero(keras.constraints.Constraint):
    """A weight that is not there."""

    def __call__(self, weight: object) -> object:
        return keras.ops.zeros_like(weight)


def locally_connected(rounds: int, decays: Sequence[float]) -> Contender:
    """The template alone, with weight decay and no shared kernel."""

    def layers() -> list[keras.Layer]:
        layer = SoftConv2D(
            2, 3, use_bias=False, halo=0, kernel_initializer="zeros",
            kernel_constraint=HeldAtZero(), tie_regularizer=L2(1.0),
            off_template_regularizer=None,
        )  # fmt: skip
        return [layer]

    return Contender("Locally connected", layers, [(d, 1.0) for d in decays], rounds)


def dense(rounds: int, decays: Sequence[float]) -> Contender:
    """All weights with the same weight decay and no shared kernel: `Dense` with `L2`."""

    def layers() -> list[keras.Layer]:
        layer = SoftConv2D(
            2, 3, use_bias=False, kernel_initializer="zeros",
            kernel_constraint=HeldAtZero(), tie_regularizer=L2(1.0),
            off_template_regularizer=L2(1.0),
        )  # fmt: skip
        return [layer]

    return Contender("Dense", layers, [(decay, decay) for decay in decays], rounds)


def convolution(rounds: int) -> Contender:
    """Keras's own. With early stopping; 18 weights are not in need of decay."""

    def layers() -> list[keras.Layer]:
        return [keras.layers.Conv2D(2, 3, use_bias=False, kernel_initializer="zeros")]

    return Contender("Conv2D", layers, rounds=rounds)


def penalties(rounds: int) -> list[Contender]:
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


class Learned(Contender):
    """Strengths from the training data alone; nothing is tuned and nothing stopped."""

    def fits(self, draw: Draw) -> list[dict]:
        adaptive = AdaptiveStrengths(*draw.train, update_freq=1)
        fit = self.fit(draw, self.strengths[0], [adaptive], stop=False)
        return [{"pair": None, **fit}]


def learned(
    name: str, tie: keras.Regularizer, rounds: int, **arguments: int | None
) -> Learned:
    """A SoftConv2D with ridges whose strengths are learned, at first 10.

    One long run, with an update after each round, in place of a grid of shorter ones.
    """
    off_template = [STRONG] if arguments else [10.0]
    made = soft(name, tie, [10.0], off_template, rounds, **arguments)
    return Learned(name, made.layers, made.strengths, 5 * rounds // 2)


def learned_ties(rounds: int) -> list[Contender]:
    """Of the template only."""
    return [
        learned("L2, learned", L2(1.0), rounds, halo=0),
        learned("FamilyStrengths, learned", FamilyStrengths(L2(1.0)), rounds, halo=0),
    ]
