"""The basis in which fused ridges are a sum of squares."""

import numpy as np
import pytest
from conv_cases import CASES
from keras import ops
from keras.ops import convert_to_numpy as to_numpy
from keras.regularizers import L1, L2
from soft_models import names_to_read, random_layer

from keras_softconv.penalties import bias_layout, tie_layout
from keras_softconv.regularizers import (
    DriftBasis,
    FamilyStrengths,
    FusedTies,
    GroupLasso,
    RidgeTerm,
    SumOfPenalties,
    ridge_terms_of,
)


@pytest.mark.parametrize("name", names_to_read)
def test_squared_coefficients_are_the_penalty_and_the_ridge(name, rng):
    layer = random_layer(CASES[name], rng)
    sharing = layer.weight_sharing
    for layout, weights in (
        (tie_layout(sharing), sharing.template(ops.convert_to_tensor(layer.deviations))),
        (bias_layout(sharing), ops.convert_to_tensor(layer.bias_deviations)),
    ):
        basis = DriftBasis(layout, tuple(weights.shape))
        squares = to_numpy(basis.coefficients(weights)).astype("float64") ** 2
        penalty = to_numpy(FusedTies(L2(1.0)).penalty(weights, layout))
        np.testing.assert_allclose(basis.eigenvalues @ squares, penalty, rtol=1e-5)
        of_weights = (to_numpy(weights).astype("float64") ** 2).sum()
        np.testing.assert_allclose(squares.sum(), of_weights, rtol=1e-5, atol=1e-12)


def test_each_family_has_a_mean_that_costs_nothing(rng):
    layer = random_layer(CASES["same"], rng)
    sharing = layer.weight_sharing
    shape = (*sharing.geometry.output_grid, sharing.geometry.families)
    eigenvalues = DriftBasis(tie_layout(sharing), shape).eigenvalues
    assert (eigenvalues == 0).sum() == sharing.geometry.families
    assert len(eigenvalues) == sharing.geometry.template_size


@pytest.mark.parametrize(
    ("regularizer", "terms"),
    [
        (None, []),
        (L2(0.5), [RidgeTerm(0.5)]),
        (FamilyStrengths(L2(0.5)), [RidgeTerm(0.5)]),
        (FusedTies(L2(0.5)), [RidgeTerm(0.5, of_differences=True)]),
        (
            SumOfPenalties([L2(0.5), FusedTies(L2(0.25))]),
            [RidgeTerm(0.5), RidgeTerm(0.25, of_differences=True)],
        ),
        (L1(0.5), None),
        (L2(0.0), None),
        (FusedTies(L1(0.5)), None),
        (FamilyStrengths(L1(0.5)), None),
        (GroupLasso(0.5), None),
        (SumOfPenalties([L2(0.5), L1(0.5)]), None),
        (lambda weights: 0.0, None),
    ],
)
def test_ridges_are_known(regularizer, terms):
    assert ridge_terms_of(regularizer) == terms
