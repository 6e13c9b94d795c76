"""How many members would score highly if all families were normally distributed."""

from functools import lru_cache
from math import exp, lgamma, log, pi

import numpy as np

# Beyond so many standard deviations the probability is taken as none.
FURTHEST = 1e4


def expected_beyond(count: int, spreads: np.ndarray, distances: np.ndarray) -> float:
    """Expected number of members that are further than told from their median.

    Members are taken as normally distributed and independent. The spread of a group of n
    is estimated, so that distance over spread has Student's t distribution rather than
    the normal. Its degrees of freedom are `(n + 4)^2 / (2.72 n)`: the variance of a median
    absolute deviation is about `1.36 sigma^2 / n`, and the spread of the layer counts for
    four members (Smyth, "Linear models and empirical Bayes methods", 2004, has the same t
    with variances). A member is nearer to the median of its group than to the true one by
    the factor `sqrt(1 - 1 / n)`.

    Args:
        count: n, how many members each group has.
        spreads: estimated standard deviations of the groups.
        distances: how far is far in each group, at least the spread.
    """
    has_spread = spreads > 0
    if count < 2 or not has_spread.any():
        return 0.0
    shrink = (1 - 1 / count) ** 0.5
    ratios = np.log(distances[has_spread] / (shrink * spreads[has_spread]))
    positions, tails = _log_tails(count)
    logarithms = np.interp(ratios, positions, tails, right=-np.inf)
    return float(count * np.exp(logarithms).sum())


@lru_cache(maxsize=1024)
def _log_tails(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of some numbers from 1, and of the chance to be beyond them."""
    freedom = (count + 4) ** 2 / (2.72 * count)
    numbers = np.geomspace(1, FURTHEST, 2001)
    log_factor = lgamma((freedom + 1) / 2) - lgamma(freedom / 2) - log(freedom * pi) / 2
    density = np.exp(-(freedom + 1) / 2 * np.log1p(numbers**2 / freedom))
    steps = (density[1:] + density[:-1]) / 2 * np.diff(numbers)
    # Sums from the far end, so that small tails are no differences of large ones.
    tails = 2 * exp(log_factor) * np.cumsum(steps[::-1])[::-1]
    return np.log(numbers[:-1]), np.log(np.maximum(tails, np.finfo("float64").tiny))
