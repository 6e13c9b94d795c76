"""Linear layers with every penalty, trained by Adam, each with its own grid."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import keras
import numpy as np
from study import powers
from training import RATE, Decay, HeldAtZero, Learned, Pair, Released, Trained, soft_layers

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


def plain_dense(rounds: int) -> Trained:
    """Dense without any penalty, stopped early, from Keras's own initial weights."""
    return Trained("Dense", dense_layers, rounds=rounds)


def dense_by_adam(rounds: int, decays: Sequence[float], name: str) -> Trained:
    """Dense with weight decay, stopped early, and begun at zero."""
    pairs: list[Pair] = [(decay, 0.0) for decay in decays]

    def layers(draw: Any) -> list[keras.Layer]:
        decay = Decay()  # a variable of each model
        return dense_layers(draw, kernel_initializer="zeros", kernel_regularizer=decay)

    return Trained(name, layers, pairs, rounds)


def dense_layers(draw: Any, **arguments: Any) -> list[keras.Layer]:
    """Keras's `Dense`, with outputs of the shape of the targets."""
    shape = draw.train[1].shape[1:]
    units = keras.layers.Dense(
        int(np.prod(shape)),
        use_bias=draw.convolution.get("use_bias", True),
        **arguments,
    )
    return [keras.layers.Flatten(), units, keras.layers.Reshape(shape)]


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


def convolution_by_adam(
    rounds: int,
    keras_layer: type = keras.layers.Conv2D,
    rate: float = RATE,
) -> Trained:
    """Keras's own, stopped early; its few weights are not in need of decay."""

    def layers(draw: Any) -> list[keras.Layer]:
        return [keras_layer(**draw.convolution, kernel_initializer="zeros")]

    return Trained(keras_layer.__name__, layers, rounds=rounds, rate=rate)


def released(
    rounds: int,
    before: Trained | None = None,
    rates: Sequence[float] = tuple(powers(-5, -1)),
    **arguments: Any,
) -> Released:
    """A convolution first, then all its weights without penalties, stopped early.

    Args:
        rounds: of the second training.
        before: the convolution; None for `convolution_by_adam`.
        rates: of the second training, to be tuned.
        **arguments: of `soft_layers`; with `halo=0` only the template is released.
    """
    before = before or convolution_by_adam(rounds)
    name, layers = f"{before.name}, released", soft_layers(L2(1.0), **arguments)
    return Released(name, before, Trained(name, layers, rounds=rounds), rates)


def penalties(rounds: int) -> list[Trained]:
    """Template only (`halo=0`), so that the ties alone are compared."""
    kinds = {
        "L2": (L2(1.0), powers(0, 4)),
        "L1": (L1(1.0), powers(-0.5, 2.5)),
        "GroupLasso, family": (GroupLasso(1.0), powers(0.5, 2.5)),
        "GroupLasso, position": (GroupLasso(1.0, per="position"), powers(0.5, 2.5)),
        "Huber": (Huber(1.0, delta=0.1), powers(0.5, 4)),
        "StudentT": (StudentT(1.0, scale=0.05, degrees_of_freedom=1.0), powers(-2, 1)),
        "PairwiseL1": (PairwiseL1(1.0), powers(-1.5, 1)),
        "FusedTies, L2": (FusedTies(L2(1.0)), powers(-0.5, 4)),
        "FusedTies, L1": (FusedTies(L1(1.0)), powers(0, 2.5)),
        "GaussianMixture": (
            GaussianMixture(1.0, components=3, spread=0.5, per_family=True),
            powers(-1.5, 0.5),
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
