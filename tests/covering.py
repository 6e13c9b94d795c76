"""Covering sets: fewer combinations, in which every pair of values still occurs."""

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
    JAX compiles each of them anew, and takes as many as hold each value.
    """
    indices = [list(range(len(factor))) for factor in factors]
    chosen = _each_value(indices) if BACKEND == "jax" else make(indices)
    return [
        tuple(factor[index] for factor, index in zip(factors, indices, strict=True))
        for indices in sorted(chosen)
    ]


def _each_value(factors: list[list[int]]) -> list[tuple]:
    """Combinations by chance, each value as often as others of its factor."""
    rng = np.random.default_rng(0)
    longest = max(map(len, factors))
    columns = [np.resize(factor, longest) for factor in factors]
    return list(zip(*map(rng.permutation, columns), strict=True))


def each_case(*halos, **options) -> pytest.MarkDecorator:
    """Runs a test with every case and every halo."""
    found = [
        pytest.param(CASES[name], halo, id=f"{name}-{halo}")
        for name, halo in covering(names, halos)
    ]
    return pytest.mark.parametrize(("case", "halo"), found, **options)


def each_name_in_rings(*halos) -> pytest.MarkDecorator:
    """The same by name, for what reads layers and takes long."""
    found = [
        pytest.param(*combination, marks=ring_of(combination[0]))
        for combination in covering(names_to_read, halos)
    ]
    return pytest.mark.parametrize(("name", "halo"), found)


def each_combination(names, halos, pairs) -> pytest.MarkDecorator:
    """Runs a test with cases (by name), halos and pairs of penalties, any two of which
    come together."""
    return parametrized(covering(names, halos, pairs))


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
