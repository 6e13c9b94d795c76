"""Covering sets: fewer combinations, in which every pair of values still occurs."""

from collections.abc import Sequence
from typing import Any

import pytest
from covertable import make


def covering(*factors: Sequence[Any]) -> list[tuple]:
    """Combinations of one value of each factor, in the order of their product.

    Any two values of two different factors are in one of the combinations. With three
    factors of n, m and two values that takes about n * m combinations instead of 2 n m.
    """
    chosen = sorted(make([list(range(len(factor))) for factor in factors]))
    return [
        tuple(factor[index] for factor, index in zip(factors, indices, strict=True))
        for indices in chosen
    ]


def each_combination(names, halos, pairs, step=1) -> pytest.MarkDecorator:
    """Runs a test with cases by name, halos and pairs of penalties that cover all pairs
    of values; with a `step`, with every so many of them."""
    return parametrized(covering(names, halos, pairs)[::step])


def each_penalty(names, halos, penalties) -> pytest.MarkDecorator:
    """The same with penalties of the ties and off the template that are chosen apart."""
    found = covering(names, halos, penalties, penalties)
    return parametrized([(name, halo, pair) for name, halo, *pair in found])


def parametrized(found) -> pytest.MarkDecorator:
    ids = [f"{name}-{halo}-{tie}-{off}" for name, halo, (tie, off) in found]
    return pytest.mark.parametrize(("name", "halo", "pair"), found, ids=ids)
