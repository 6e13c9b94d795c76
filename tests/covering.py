"""Covering sets: fewer combinations, in which pairs of values still occur."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from backends import BACKEND
from conv_cases import CASES
from covertable import make
from soft_models import names, names_to_read, ring_of


def covering(*factors: Sequence[Any]) -> list[tuple]:
    """Combinations of one value of each factor, in the order of their product.

    Any two values of two different factors are in one of the combinations. With three
    factors of n, m and two values that takes about n * m combinations instead of 2 n m.
    On JAX, which compiles every combination, there are fewer: each value of the first
    factor is in one, and the pairs of values are those of the other factors.
    """
    indices = [list(range(len(factor))) for factor in factors]
    chosen = _few(*indices) if BACKEND == "jax" else make(indices)
    return [
        tuple(factor[index] for factor, index in zip(factors, indices, strict=True))
        for indices in sorted(chosen)
    ]


def _few(first: list[int], *others: list[int]) -> list[tuple]:
    """Pairs of the other factors' values, with values of the first at random."""
    pairs = make(list(others)) if len(others) > 1 else [(index,) for index in others[0]]
    count = max(len(first), len(pairs))
    drawn = np.random.default_rng(0).permutation(np.resize(first, count))
    return [(index, *pairs[n % len(pairs)]) for n, index in enumerate(drawn)]


def each_case(*halos, **options) -> pytest.MarkDecorator:
    """Runs a test with cases and halos that cover each other."""
    found = [
        pytest.param(CASES[name], halo, id=f"{name}-{halo}")
        for name, halo in covering(names, halos)
    ]
    return pytest.mark.parametrize(("case", "halo"), found, **options)


def each_in_rings(arguments, names, *factors) -> pytest.MarkDecorator:
    """Runs a test with a covering set of cases (by name) and other factors; with most of
    the cases in the slow ring."""
    found = [
        pytest.param(*combination, marks=ring_of(combination[0]))
        for combination in covering(names, *factors)
    ]
    return pytest.mark.parametrize(arguments, found)


def each_name_in_rings(*halos) -> pytest.MarkDecorator:
    """The same with names of cases and halos, for what only reads layers."""
    return each_in_rings(("name", "halo"), names_to_read, halos)


def each_combination(names, halos, pairs) -> pytest.MarkDecorator:
    """Runs a test with a covering set of cases (by name), halos and pairs of penalties."""
    return parametrized(covering(names, halos, pairs))


def each_penalty(names, halos, penalties) -> pytest.MarkDecorator:
    """Runs a test with a covering set of cases (by name), halos, penalties of the ties and
    penalties off the template."""
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
