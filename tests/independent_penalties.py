"""The penalties in float64, from their mathematical definitions.

Slow, obvious and written without the package, of which only the regularizers that are to
be compared with them are named here. Arrays hold NaN where there is no weight.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import keras
import numpy as np
from keras.regularizers import L1, L1L2, L2
from oracle import family_ids, found_once, geometry_of, within_halo

from keras_softconv.regularizers import (
    FamilyStrengths,
    FusedTies,
    GaussianMixture,
    GroupLasso,
    Huber,
    PairwiseL1,
    StudentT,
    SumOfPenalties,
)


@dataclass(frozen=True)
class Place:
    """Which axes run over the output positions, whether these lie on a torus, and how far
    each weight is from its receptive field."""

    positions: tuple[int, ...]
    wraps: bool = False
    distances: np.ndarray | None = None


def present(weights: np.ndarray) -> np.ndarray:
    return weights[~np.isnan(weights)]


def groups(weights: np.ndarray, axes: tuple[int, ...]) -> list[np.ndarray]:
    """The weights along some axes, one group for each place on the others."""
    front = np.moveaxis(weights, axes, range(len(axes)))
    table = front.reshape(prod(front.shape[: len(axes)]), -1)
    return [present(group) for group in table.T]


# Each is a function of the weights and their place.


def elastic_net(l1, l2):
    def penalty(weights, place):
        x = present(weights)
        return l1 * np.abs(x).sum() + l2 * (x**2).sum()

    return penalty


def quartic(factor):
    return lambda weights, place: factor * (present(weights) ** 4).sum()


def huber(factor, delta):
    def penalty(weights, place):
        sizes = np.abs(present(weights))
        near = sizes[sizes <= delta]
        far = sizes[sizes > delta]
        return factor * ((near**2 / 2).sum() + (delta * (far - delta / 2)).sum())

    return penalty


def student_t(factor, scale, freedom):
    def penalty(weights, place):
        ratio = 1 + present(weights) ** 2 / (freedom * scale**2)
        return -factor * np.log(ratio ** (-(freedom + 1) / 2)).sum()

    return penalty


def group_lasso(factor, per):
    def penalty(weights, place):
        axes = place.positions
        if per == "position":
            axes = tuple(set(range(weights.ndim)) - set(axes))
        return factor * sum(np.linalg.norm(group) for group in groups(weights, axes))

    return penalty


def pairwise_l1(factor):
    def penalty(weights, place):
        total = 0.0
        for family in groups(weights, place.positions):
            for i in range(len(family)):
                for j in range(i):
                    total += abs(family[i] - family[j])
        return factor * total

    return penalty


def neighbours(size: int, wraps: bool) -> set[tuple[int, int]]:
    """Pairs along a line or a circle, each once."""
    pairs = {(p, (p + 1) % size) for p in range(size if wraps else size - 1)}
    return {tuple(sorted(pair)) for pair in pairs if pair[0] != pair[1]}


def fused_ties(term):
    def penalty(weights, place):
        total = 0.0
        for axis in place.positions:
            layers = np.moveaxis(weights, axis, 0)
            for p, q in neighbours(len(layers), place.wraps):
                total += term(layers[q] - layers[p], place)
        return total

    return penalty


def gaussian_mixture(factor, minimum_variance):
    def penalty(weights, place, logits, means, log_variances):
        total = 0.0
        for family in range(weights.shape[-1]):
            row = family if len(logits) > 1 else 0
            x = present(weights[..., family])
            density = np.zeros(x.shape)
            for j in range(logits.shape[1]):
                proportion = np.exp(logits[row, j]) / np.exp(logits[row]).sum()
                variance = minimum_variance + np.exp(log_variances[row, j])
                bell = np.exp(-((x - means[row, j]) ** 2) / (2 * variance))
                density += proportion * bell / np.sqrt(2 * np.pi * variance)
            total -= np.log(density).sum()
        return factor * total

    return penalty


def family_strengths(l1, l2):
    def penalty(weights, place, family_strengths):
        return sum(
            strength * elastic_net(l1, l2)(weights[..., family], place)
            for family, strength in enumerate(family_strengths)
        )

    return penalty


def sum_of_penalties(*terms):
    def penalty(weights, place, term_strengths):
        return sum(
            strength * term(weights, place)
            for strength, term in zip(term_strengths, terms, strict=True)
        )

    return penalty


def distance_weighted(of, power):
    def penalty(weights, place):
        return of(weights * np.maximum(place.distances, 1) ** power, place)

    return penalty


# Where the weights of a case of `conv_cases` stand.


@found_once
def tie_entries(case) -> np.ndarray:
    """For each output position and family the entry of the raveled dense kernel, or -1."""
    geometry, ids = geometry_of(case), family_ids(case)
    rank = len(geometry.output_grid)
    entries = np.full((*geometry.output_grid, prod(geometry.shared_kernel_shape)), -1)
    for entry, place in enumerate(np.ndindex(ids.shape)):
        if ids[place] >= 0:
            entries[(*place[rank + 1 : 2 * rank + 1], ids[place])] = entry
    return entries


@found_once
def off_template_entries(case, halo, by_slot) -> np.ndarray:
    """The same of the off-template weights: in the dense kernel's shape or, as a halo
    stores them, by how far the input is from the first tap of the output."""
    ids = family_ids(case)
    entries = np.arange(ids.size).reshape(ids.shape)
    entries = np.where(ids < 0, entries, -1)
    if halo is not None:
        entries = np.where(within_halo(case, halo), entries, -1)
    return _by_slot(geometry_of(case), entries) if by_slot else entries


def _by_slot(geometry, entries: np.ndarray) -> np.ndarray:
    slots, places = {}, []
    for i in np.ndindex(geometry.input_grid):
        for p in np.ndindex(geometry.output_grid):
            steps = np.subtract(i, np.multiply(p, geometry.strides))
            if geometry.padding == "circular":
                steps %= geometry.input_grid
            places.append((i, p, slots.setdefault(tuple(steps), len(slots))))
    channels_and_filters = geometry.in_channels, geometry.filters
    found = np.full((*geometry.output_grid, len(slots), *channels_and_filters), -1)
    for i, p, slot in places:
        found[(*p, slot)] = entries[i][(slice(None), *p)]
    return found


@found_once
def distances(case) -> np.ndarray:
    """Of each entry of the dense kernel from its receptive field: a look at every tap."""
    geometry = geometry_of(case)
    steps = np.zeros((*geometry.input_grid, *geometry.output_grid))
    rank = len(geometry.input_grid)
    strides, dilation, pads = geometry.strides, geometry.dilation_rate, geometry.pads
    for place in np.ndindex(steps.shape):
        of_axes = []
        for axis, size in enumerate(geometry.input_grid):
            to_taps = []
            for tap in range(geometry.kernel_size[axis]):
                first = place[rank + axis] * strides[axis] - pads[axis][0]
                distance = abs(place[axis] - first - tap * dilation[axis])
                if geometry.padding == "circular":
                    distance = min(distance % size, -distance % size)
                to_taps.append(distance)
            of_axes.append(min(to_taps))
        steps[place] = max(of_axes)
    steps = steps.reshape(*geometry.input_grid, 1, *geometry.output_grid, 1)
    return np.broadcast_to(steps, geometry.kernel_shape).copy()


def chosen(values: np.ndarray, entries: np.ndarray) -> np.ndarray:
    """Values of the dense kernel at some entries, NaN at -1."""
    return np.where(entries < 0, np.nan, values.ravel()[entries])


# What is compared.


@keras.saving.register_keras_serializable(package="tests")
class Quartic(keras.regularizers.Regularizer):
    """Not one of Keras's or of the package's."""

    def __init__(self, factor=0.1):
        self.factor = factor

    def __call__(self, x):
        return self.factor * keras.ops.sum(keras.ops.square(keras.ops.square(x)))

    def get_config(self):
        return {"factor": self.factor}


# By name, a regularizer of ties and its definition.
PENALTIES: dict[str, tuple[Callable, Callable]] = {
    "huber": (Huber(0.3, 0.5), huber(0.3, 0.5)),
    "student_t": (StudentT(0.3, 0.4, 2.5), student_t(0.3, 0.4, 2.5)),
    "group_lasso": (GroupLasso(0.3), group_lasso(0.3, "family")),
    "group_lasso_of_positions": (
        GroupLasso(0.3, per="position"),
        group_lasso(0.3, "position"),
    ),
    "pairwise_l1": (PairwiseL1(0.1), pairwise_l1(0.1)),
    "fused_ridge": (FusedTies(L2(0.2)), fused_ties(elastic_net(0, 0.2))),
    "fused_lasso": (FusedTies(L1(0.2)), fused_ties(elastic_net(0.2, 0))),
    "fused_huber": (FusedTies(Huber(0.2, 0.5)), fused_ties(huber(0.2, 0.5))),
    "fused_quartic": (FusedTies(Quartic(0.1)), fused_ties(quartic(0.1))),
    "mixture": (
        GaussianMixture(0.2, components=2, minimum_variance=0.01),
        gaussian_mixture(0.2, 0.01),
    ),
    "mixture_per_family": (
        GaussianMixture(0.2, spread=1.0, per_family=True, minimum_variance=0.01),
        gaussian_mixture(0.2, 0.01),
    ),
    "family_strengths": (
        FamilyStrengths(L1L2(0.2, 0.3)),
        family_strengths(0.2, 0.3),
    ),
    "ridge_and_drift": (
        SumOfPenalties([L1L2(0.1, 0.2), FusedTies(L2(0.3))]),
        sum_of_penalties(elastic_net(0.1, 0.2), fused_ties(elastic_net(0, 0.3))),
    ),
}
