"""The members that stand out of their family."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from keras_softconv.compat import ops
from keras_softconv.diagnostics.chance import expected_in_families
from keras_softconv.diagnostics.spreads import (
    Layout,
    Spreads,
    spread_of_layer,
    spreads_of,
)
from keras_softconv.diagnostics.structure import Members
from keras_softconv.geometry import Geometry

# Where a modified z-score begins to be remarkable.
REMARKABLE = 3.5

# Of the size of the weights: a difference that is none.
NEGLIGIBLE = 0.01


def scores(members: Members) -> np.ndarray:
    """How far each member stands out, `(*output_grid, families)`; 0 for padding.

        score   = |w - median_g| / sigma
        sigma^2 = max_g (n_g s_g^2 + 4 s_layer^2) / (n_g + 4) + (r / 350)^2
        s_g     = 1.4826 c_g MAD_g,   c_g = n_g / (n_g - 0.8)
        s_layer = median over the families of max_g s_g

    - A family has two groups g: its border members, whose output sees padding, and all
      others. What stands at a border lacks a part of its neighbours and differs for that
      reason already, so that a member is compared with the median of its own group. MAD
      is the median absolute deviation from it, and n the number of members.
    - Both groups have one scale, that of the wider group. Where the inputs at a border are
      nearly dead, border members hardly differ, and by their own scale the least
      unevenness would stand out.
    - This is the modified z-score of Iglewicz and Hoaglin ("How to detect and handle
      outliers", 1993). c takes the bias from the MAD of few members (Croux and Rousseeuw,
      "Time-efficient algorithms for two highly robust estimators of scale", 1992).
    - The spread of a family is moderated by that of the layer (as Smyth, "Linear models
      and empirical Bayes methods", 2004, does with variances). Otherwise a family that is
      nearly tied would make problem children of its least unevenness.
    - A group of one or two members has no spread of its own, and is left out of the
      maximum. Its members are compared with the median of the whole family. Where a
      family has no larger group, s_layer^2 is in the place of the maximum.
    - Where s_layer is 0, because most families are exactly tied, it is 1.2533 times the
      mean of all `c |w - median|`.
    - r is the root mean square of the layer's template weights. What is less than a
      hundredth of it away is no problem, however closely the others are tied, and scores
      below 3.5.
    - Families with a member that is not finite are left out, and score 0.
    """
    values = by_tap(ops.convert_to_numpy(members.deviations), members.geometry)
    spreads = spreads_of(values, Layout.of(members.geometry))
    weights = by_tap(ops.convert_to_numpy(members.weights), members.geometry)
    scale = Scale.of([spreads], sum_of_squares(weights), members.geometry)
    found = Scores(values, spreads, scale).scores
    return found.reshape(*members.geometry.output_grid, -1)


@dataclass(frozen=True)
class Scale:
    """What the scores of a layer's members have in common.

    Args:
        spread: of the layer.
        negligible: the least scale.
    """

    spread: float
    negligible: float

    @classmethod
    def of(cls, parts: list[Spreads], squares: float, geometry: Geometry) -> "Scale":
        """The scale of a layer.

        Args:
            parts: the spreads of all families.
            squares: sum of the squared template weights.
            geometry: of the layer.
        """
        mean_square = squares / max(geometry.template_size, 1)
        negligible = NEGLIGIBLE / REMARKABLE * mean_square**0.5
        return cls(spread_of_layer(parts), negligible)


class Scores:
    """The scores of some families.

    Args:
        values: of members, `(positions, taps, families of a tap)`.
        spreads: of the families.
        scale: of the layer.

    Attributes:
        scores: `(positions, families)`, 0 for padding and what is not finite.
        expected: how many of these scores would be above 3.5 by chance.
    """

    def __init__(self, values: np.ndarray, spreads: Spreads, scale: Scale) -> None:
        layout = spreads.layout
        squares = spreads.widest(spreads.moderated(scale.spread))
        sigmas = np.sqrt(squares + scale.negligible**2)
        found = np.empty_like(values)
        for rows, medians in zip(layout.rows, spreads.medians, strict=True):
            found[rows] = values[rows] - medians
        np.abs(found, out=found)
        found /= np.where(sigmas > 0, sigmas, np.inf)
        found[~layout.is_member] = 0
        if not np.isfinite(found.sum()):
            found[~np.isfinite(found)] = 0
        self.scores = found.reshape(len(found), -1)
        # Families that hardly spread have no member that is not negligibly near.
        spreading = (squares > scale.negligible**2).sum(axis=1)
        self.expected = sum(
            expected_in_families(counts.tolist(), int(families), REMARKABLE)
            for counts, families in zip(layout.counts.T, spreading, strict=True)
        )


def by_tap(members: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Numbers of members as `(positions, taps, families of a tap)`."""
    return members.reshape(prod(geometry.output_grid), prod(geometry.kernel_size), -1)


def sum_of_squares(weights: np.ndarray) -> float:
    """Sum of the squared weights of those families that are finite; positions first."""
    squares = np.square(weights).sum(axis=0, dtype="float64")
    return float(squares[np.isfinite(squares)].sum())


def problem_children(members: Members, found: np.ndarray, limit: int) -> list[dict]:
    """The members of the highest scores above 0, the most deviant first.

    Args:
        members: of a layer.
        found: their `scores`.
        limit: how many at most.

    Returns:
        Dicts of `family` (tap indices, in a Conv kernel), `position` (in the output grid),
        `value` (the weight), `mean` (of its family) and `score`.
    """
    families = np.arange(members.geometry.families)
    highest = Highest(limit)
    highest.add(found.reshape(-1, len(families)), members, families)
    return highest.children(members.geometry)


class Highest:
    """The members of the highest scores above 0, of parts of a layer.

    Args:
        limit: how many at most.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # Score, position, family, weight and mean of its family.
        self._columns = [np.zeros(0) for _ in range(5)]

    def add(self, found: np.ndarray, members: Members, families: np.ndarray) -> None:
        """Take the members of a part into account.

        Args:
            found: their scores, `(positions, families)`.
            members: of the part.
            families: their numbers in the layer.
        """
        chosen = self._candidates(found.ravel())
        if not chosen.size:
            return
        weights, means = map(ops.convert_to_numpy, (members.weights, members.means))
        position, family = np.unravel_index(chosen, found.shape)
        columns = [found.ravel()[chosen], position, families[family]]
        columns += [weights.ravel()[chosen], means[family]]
        both = zip(self._columns, columns, strict=True)
        score, position, family, *others = map(np.concatenate, both)
        first = np.lexsort((family, position, -score))[: self._limit]
        self._columns = [column[first] for column in (score, position, family, *others)]

    def _candidates(self, scores: np.ndarray) -> np.ndarray:
        """Where scores are that can be among the highest."""
        if self._limit == 0:
            return np.zeros(0, int)
        known = self._columns[0]
        if len(known) == self._limit:
            return np.flatnonzero(scores >= known[-1])
        count = min(self._limit, np.count_nonzero(scores))
        return np.argpartition(-scores, count - 1)[:count] if count else np.zeros(0, int)

    def children(self, geometry: Geometry) -> list[dict]:
        """They as plain data, the most deviant first; see `problem_children`."""
        rows = zip(*(column.tolist() for column in self._columns), strict=True)
        shapes = geometry.shared_kernel_shape, geometry.output_grid
        children = []
        for score, position, family, value, mean in rows:
            tap, place = (
                as_tuple(np.unravel_index(int(index), shape))
                for index, shape in zip((family, position), shapes, strict=True)
            )
            child = {"family": tap, "position": place, "value": value, "mean": mean}
            children.append({**child, "score": score})
        return children


def as_tuple(indices: Any) -> tuple[int, ...]:
    """Indices as Python's own integers."""
    return tuple(map(int, indices))
