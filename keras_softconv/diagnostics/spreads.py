"""How widely the members of each family spread, robustly; for the scores of outliers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from math import prod

import numpy as np

from keras_softconv.geometry import Geometry

# What the median absolute and the mean absolute deviation of a normal distribution have
# to be multiplied with to give its standard deviation.
MEDIAN_TO_SIGMA, MEAN_TO_SIGMA = 1.4826, 1.2533

# The median absolute deviation of two members is half their distance, whatever it is.
FEWEST_MEMBERS = 3

# How many members the spread of the whole layer counts for in that of a group.
PRIOR_MEMBERS = 4


# Up to so many members whole rows are compared, as NumPy sorts short columns slowly.
FEW_MEMBERS = 8


@dataclass(frozen=True)
class Layout:
    """Which output positions have a member for which tap, in groups of positions.

    Groups are the positions that see padding, and all others; those without any position
    are left out.

    Args:
        is_member: `(positions, taps)`.
        rows: for each group, which positions are in it.
    """

    is_member: np.ndarray
    rows: list[np.ndarray]

    @classmethod
    def of(cls, geometry: Geometry) -> "Layout":
        """The layout of a convolution."""
        sees_padding = geometry.sees_padding.ravel()
        rows = [np.flatnonzero(sees_padding == border) for border in (True, False)]
        return cls(is_member(geometry), [some for some in rows if some.size])

    def members(self, group: int, tap: int) -> np.ndarray:
        """The positions of a group with a member for a tap."""
        rows = self.rows[group]
        return rows[self.is_member[rows, tap]]

    @cached_property
    def counts(self) -> np.ndarray:
        """How many members each group has for each tap, `(groups, taps)`."""
        return np.stack([self.is_member[rows].sum(axis=0) for rows in self.rows])


def is_member(geometry: Geometry) -> np.ndarray:
    """`WeightSharing.is_member` in NumPy, `(positions, taps)`: False for padding."""
    rank = len(geometry.kernel_size)
    mesh = reduce(np.logical_and.outer, geometry.has_member)  # output, tap, output, tap...
    mesh = mesh.transpose(*range(0, 2 * rank, 2), *range(1, 2 * rank, 2))
    return mesh.reshape(prod(geometry.output_grid), -1)


@dataclass(frozen=True)
class Spreads:
    """Medians and spreads of some families, by group.

    See `diagnostics.scores` for the formulas. Families with a member that is not finite
    have a median of NaN and no spread.

    Args:
        layout: of the members.
        medians: of the groups, `(groups, taps, families of a tap)`.
        spreads: 1.4826 c times the median absolute deviations, of the same shape; 0 for
            fewer than three members.
        total, count: sum of all `c |w - median|`, and how many there are.
    """

    layout: Layout
    medians: np.ndarray
    spreads: np.ndarray
    total: float
    count: int

    @property
    def has_spread(self) -> np.ndarray:
        """Which groups have three members or more for a tap, `(groups, taps, 1)`."""
        return self.layout.counts[..., None] >= FEWEST_MEMBERS

    def of_families(self) -> np.ndarray:
        """The spread of the wider group of each family that has one and is finite."""
        widest = self.spreads.max(axis=0)[self.has_spread.any(axis=(0, 2))]
        return widest[np.isfinite(widest)]

    def moderated(self, of_layer: float) -> np.ndarray:
        """Squared spreads of the groups, moderated by the spread of the layer."""
        counts = self.layout.counts[..., None].astype(self.spreads.dtype)
        counts = np.where(self.has_spread, counts, 0)
        weighted = counts * np.square(self.spreads)
        weighted += PRIOR_MEMBERS * of_layer**2
        return weighted / (counts + PRIOR_MEMBERS)

    def widest(self, moderated: np.ndarray) -> np.ndarray:
        """The largest of the moderated squares of each family, of groups with a spread.

        Families without such a group get that of the layer.
        """
        has_spread = self.has_spread
        return np.where(has_spread | ~has_spread.any(axis=0), moderated, 0).max(axis=0)


def spreads_of(values: np.ndarray, layout: Layout) -> Spreads:
    """The spreads of families.

    Args:
        values: `(positions, taps, families of a tap)`; any number for padding entries.
        layout: of the members.
    """
    shape = (len(layout.rows), *values.shape[1:])
    medians, spreads = np.zeros(shape, values.dtype), np.zeros(shape, values.dtype)
    total, number = 0.0, 0
    for group, tap in zip(*np.nonzero(layout.counts), strict=True):
        members = values[layout.members(group, tap), tap]  # a copy
        peers = members
        if len(members) < FEWEST_MEMBERS:
            peers = values[layout.is_member[:, tap], tap]
        correction, has_others = _correction(len(peers)), len(peers) > 1
        median = _median(peers.copy())
        # Infinite members would leave a median that is finite.
        median[~np.isfinite(peers.sum(axis=0))] = np.nan
        medians[group, tap] = median
        away = np.abs(np.subtract(members, median, out=members), out=members)
        sums = away.sum(axis=0, dtype="float64")
        is_finite = np.isfinite(sums)
        total += has_others * correction * float(sums[is_finite].sum())
        number += has_others * len(members) * int(is_finite.sum())
        if len(members) >= FEWEST_MEMBERS:
            spreads[group, tap] = MEDIAN_TO_SIGMA * correction * _median(away)
    return Spreads(layout, medians, spreads, total, number)


def spread_of(members: np.ndarray) -> np.ndarray:
    """1.4826 c times the median absolute deviation of each column; two members or more."""
    away = np.abs(members - _median(members.copy()))
    return MEDIAN_TO_SIGMA * _correction(len(members)) * _median(away)


def _correction(count: int) -> float:
    """c, which takes the bias from the median absolute deviation of few members."""
    return count / (count - 0.8)


def _median(values: np.ndarray) -> np.ndarray:
    """The median of each column; the values may be put into another order."""
    low, high = (len(values) - 1) // 2, len(values) // 2
    if len(values) > FEW_MEMBERS:
        ordered = np.partition(values.T, (low, high), axis=1)
        return (ordered[:, low] + ordered[:, high]) / 2
    # Odd-even transposition: neighbours are put in order, again and again.
    for number in range(len(values)):
        for row in range(number % 2, len(values) - 1, 2):
            lower = np.minimum(values[row], values[row + 1])
            np.maximum(values[row], values[row + 1], out=values[row + 1])
            values[row] = lower
    return (values[low] + values[high]) / 2


def spread_of_layer(parts: Sequence[Spreads]) -> float:
    """The median over the families with a spread of the spread of the wider group.

    It is 1.2533 times the mean of all `c |w - median|` where that is 0, because most
    families are exactly tied, and where no family has a spread.
    """
    spreads = np.empty(sum(part.spreads[0].size for part in parts), parts[0].medians.dtype)
    size = 0
    for part in parts:
        of_part = part.of_families()
        spreads[size : size + of_part.size] = of_part
        size += of_part.size
    found = float(np.median(spreads[:size], overwrite_input=True)) if size else 0.0
    count = sum(part.count for part in parts)
    mean = sum(part.total for part in parts) / count if count else 0.0
    return found or MEAN_TO_SIGMA * mean
