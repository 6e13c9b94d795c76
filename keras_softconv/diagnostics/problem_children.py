"""The members that stand out of their family."""

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_softconv.compat import ops
from keras_softconv.diagnostics.structure import Members

# Where a modified z-score begins to be remarkable.
REMARKABLE = 3.5

# Of the size of the weights: a difference that is none.
NEGLIGIBLE = 0.01

# What the median absolute and the mean absolute deviation of a normal distribution have
# to be multiplied with to give its standard deviation.
MEDIAN_TO_SIGMA, MEAN_TO_SIGMA = 1.4826, 1.2533

# How many members the spread of the whole layer counts for in that of a family.
PRIOR_MEMBERS = 4


def scores(members: Members) -> np.ndarray:
    """How far each member stands out, `(*output_grid, families)`; 0 where void.

        score = |w - median| / sigma
        sigma^2 = (n (1.4826 c MAD)^2 + 4 sigma_layer^2) / (n + 4) + (r / 350)^2
        c = n / (n - 0.8)

    with the median and the MAD (median absolute deviation from it) of the n members of
    the same family: of those whose output sees padding where this one does, of those that
    see none otherwise, since what stands at a border lacks a part of its neighbours and
    differs for that reason already. This is the modified z-score of Iglewicz and Hoaglin
    ("How to detect and handle outliers", 1993); c takes the bias from the MAD of few
    (Croux and Rousseeuw, "Time-efficient algorithms for two highly robust estimators of
    scale", 1992); and the spread of a family is moderated by that of the layer (as Smyth,
    "Linear models and empirical Bayes methods", 2004, does with variances): otherwise a
    family that is all but tied would make problem children of its least unevenness.
    `sigma_layer` is 1.4826 times the median of all `c |w - median|`, or where more than
    half of the members are exactly tied, 1.2533 times their mean. Last, r is the root
    mean square of the layer's template weights: what is less than a hundredth of it away
    is no problem, however closely the others are tied, and scores below 3.5.
    """
    away, sizes = _from_medians(members)
    spreads = away * sizes / (sizes - 0.8)
    of_layer = _spread_of_layer(spreads[np.isfinite(spreads)])
    of_families = MEDIAN_TO_SIGMA * _by_group(_medians, spreads, members)
    weighted = sizes * of_families**2 + PRIOR_MEMBERS * of_layer**2
    negligible = NEGLIGIBLE * _root_mean_square(members) / REMARKABLE
    sigmas = np.sqrt(weighted / (sizes + PRIOR_MEMBERS) + negligible**2)
    found = np.divide(away, sigmas, out=np.zeros_like(away), where=sigmas > 0)
    return np.nan_to_num(found).reshape(members.shades.shape)


def _from_medians(members: Members) -> tuple[np.ndarray, np.ndarray]:
    """How far each member is from the median of its group, and how many are in that.

    Returns:
        Float64 arrays `(positions, families)`, the first NaN where void.
    """
    shades = ops.convert_to_numpy(members.shades).astype("float64")
    shades = shades.reshape(-1, members.geometry.families)
    if members.geometry.sees_padding.any():
        is_member = ops.convert_to_numpy(members.sharing.is_member())
        shades[~is_member.reshape(shades.shape)] = np.nan
    away = np.abs(shades - _by_group(_medians, shades, members))
    return away, _by_group(_counts, shades, members)


def _by_group(of: Callable, values: np.ndarray, members: Members) -> np.ndarray:
    """What `of` says of each column of values, at the border and away from it."""
    found = np.zeros_like(values)
    at_border = members.geometry.sees_padding.ravel()
    for group in (at_border, ~at_border):
        if group.any():
            found[group] = of(values[group])
    return found


def _counts(values: np.ndarray) -> np.ndarray:
    return np.isfinite(values).sum(axis=0)


def _medians(values: np.ndarray) -> np.ndarray:
    """Of each column, of what is finite in it; 0 where nothing is."""
    if np.isfinite(values).all():
        return np.median(values, axis=0)
    ordered, counts = np.sort(values, axis=0), _counts(values)  # NaN last
    halves = [np.maximum(counts - 1, 0) // 2, counts // 2]
    halves = [np.minimum(half, len(values) - 1)[None] for half in halves]
    middle = np.mean([np.take_along_axis(ordered, h, axis=0)[0] for h in halves], axis=0)
    return np.where(counts > 0, middle, 0.0)


def _spread_of_layer(away: np.ndarray) -> float:
    if not away.size:
        return 0.0
    return MEDIAN_TO_SIGMA * np.median(away) or MEAN_TO_SIGMA * away.mean()


def _root_mean_square(members: Members) -> float:
    weights = ops.convert_to_numpy(members.weights).astype("float64")
    return float(np.sqrt((weights**2).sum() / max(members.geometry.template_size, 1)))


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
    geometry = members.geometry
    raveled = found.ravel()
    limit = min(limit, np.count_nonzero(raveled))
    highest = np.argpartition(-raveled, limit - 1)[:limit] if limit else []
    highest = sorted(highest, key=lambda index: (-raveled[index], index))
    weights = ops.convert_to_numpy(members.weights).ravel()
    means = ops.convert_to_numpy(members.means)
    children = []
    for index in highest:
        *position, family = np.unravel_index(index, found.shape)
        children.append(
            {
                "family": as_tuple(np.unravel_index(family, geometry.shared_kernel_shape)),
                "position": as_tuple(position),
                "value": float(weights[index]),
                "mean": float(means[family]),
                "score": float(raveled[index]),
            }
        )
    return children


def as_tuple(indices: Any) -> tuple[int, ...]:
    """Indices as Python's own integers."""
    return tuple(map(int, indices))
