"""How often a member would score highly if its family were normally distributed."""

from collections.abc import Sequence
from functools import lru_cache
from math import erfc

import numpy as np

from keras_softconv.diagnostics.spreads import (
    FEWEST_MEMBERS,
    PRIOR_MEMBERS,
    spread_of,
)

# How many families are drawn for the mean over their estimated scales.
DRAWS = 4096

# Up to so many members their spread is that of random numbers, for more an approximation.
MOST_DRAWN = 50

# The variance of the median absolute deviation of n normal numbers, times n, if it is
# scaled to estimate their standard deviation (1 / (2 * 0.3675), its efficiency).
VARIANCE_OF_SPREAD = 1.36


def expected_in_families(counts: Sequence[int], families: int, limit: float) -> float:
    """Expected number of scores above a limit.

    All members are taken as independent and normal, those of a family with one variance,
    which is known for the layer. A score is then a normal number over an *estimated*
    standard deviation, so that its tails are heavier than the normal ones:

        P(score > limit) = E[2 (1 - Phi(limit sigma / a_g))]
        sigma^2 = max_g (n_g s_g^2 + 4) / (n_g + 4)

    with s_g the spread of n_g standard normal numbers (see `diagnostics.scores`), and a_g
    the standard deviation of a member from the median of its group, `sqrt(1 - 0.43 / n_g)`.
    Of more than 50 members `s_g^2` is taken as `chi^2_nu / nu (1 + 1.36 / n_g)` with
    `nu = n_g / 2.72`: the efficiency of the median absolute deviation is 37 %. With one
    group and the mean square in its place this is the moderated t of Smyth, "Linear models
    and empirical Bayes methods", 2004. The mean E is taken over draws of a fixed seed.

    Args:
        counts: n_g, how many members of a family are in each group.
        families: how many such families there are.
        limit: of the scores.
    """
    if not families:
        return 0.0
    chances = _chances(tuple(counts), limit)
    return families * sum(n * chance for n, chance in zip(counts, chances, strict=True))


@lru_cache(maxsize=4096)
def _chances(counts: tuple[int, ...], limit: float) -> list[float]:
    """The chance of a member of each group."""
    rng = np.random.default_rng(0)
    squares = [_squares(count, rng) for count in counts if count >= FEWEST_MEMBERS]
    sigmas = np.sqrt(np.max(squares, axis=0)) if squares else np.ones(1)
    peers = [count if count >= FEWEST_MEMBERS else sum(counts) for count in counts]
    return [_chance(limit * sigmas, count) for count in peers]


def _squares(count: int, rng: np.random.Generator) -> np.ndarray:
    """Draws of the moderated square of a group."""
    if count <= MOST_DRAWN:
        spreads = spread_of(rng.normal(size=(count, DRAWS)))
        squares = spreads**2
    else:
        freedom = count / (2 * VARIANCE_OF_SPREAD)
        squares = rng.chisquare(freedom, DRAWS) / freedom
        squares = squares * (1 + VARIANCE_OF_SPREAD / count)
    return (count * squares + PRIOR_MEMBERS) / (count + PRIOR_MEMBERS)


def _chance(limits: np.ndarray, count: int) -> float:
    """Of a member that is compared with the median of so many members."""
    if count < 2:
        return 0.0  # it is its own median
    variance = 1 - 0.43 / count if count >= FEWEST_MEMBERS else 0.5
    scaled = limits / np.sqrt(2 * variance)
    return float(np.mean([erfc(one) for one in scaled]))
