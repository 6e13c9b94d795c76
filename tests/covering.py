"""Covering sets: fewer combinations, in which every pair of values still occurs."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
from covertable import make
from soft_models import ring_of


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


def each_combination(names, halos, pairs) -> pytest.MarkDecorator:
    """Runs a test with cases (by name), halos and pairs of penalties, any two of which
    come together."""
    return parametrized(covering(names, halos, pairs))


def each_value(names, halos, pairs, step) -> pytest.MarkDecorator:
    """Runs a test with every so many of all combinations, among which each value is."""
    found = list(product(names, halos, pairs))[::step]
    for factor, values in zip((names, halos, pairs), zip(*found, strict=True), strict=True):
        assert set(factor) == set(values)
    return parametrized(found)


def each_penalty(names, halos, penalties) -> pytest.MarkDecorator:
    """Runs a test with cases, halos, penalties of the ties and penalties off the template,
    any two of which come together."""
    found = covering(names, halos, penalties, penalties)
    return parametrized([(name, halo, pair) for name, halo, *pair in found])


def parametrized(found) -> pytest.MarkDecorator:
    combinations = [
        pytest.param(
            name, halo, pair, id=f"{name}-{halo}-{'-'.join(pair)}", marks=ring_of(name)
        )
        for name, halo, pair in found
    ]
    return pytest.mark.parametrize(("name", "halo", "pair"), combinations)
