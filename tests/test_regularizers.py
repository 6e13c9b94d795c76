"""Penalties called by themselves: values, gradients and limits."""

import independent_penalties as independent
import keras
import numpy as np
import pytest
from backends import BACKEND, at_once, gradients
from independent_penalties import PENALTIES, Place
from keras import ops
from keras.ops import convert_to_numpy as to_numpy
from keras.regularizers import L1, L1L2, L2

from keras_softconv.regularizers import (
    FamilyStrengths,
    FusedTies,
    GaussianMixture,
    GroupLasso,
    Huber,
    Layout,
    PairwiseL1,
    StructuredRegularizer,
    StudentT,
)

# Output grids of one to three axes, and one where nothing has a neighbour.
SHAPES = [(3, 2, 4), (5, 3), (2, 1, 3, 2), (1, 1)]
each_shape = pytest.mark.parametrize("shape", SHAPES[:1] if BACKEND == "jax" else SHAPES)
each_penalty = pytest.mark.parametrize("name", PENALTIES)


def value_of(regularizer, weights) -> float:
    """The penalty, a float32 scalar."""
    value = to_numpy(at_once(regularizer)(ops.convert_to_tensor(weights, "float32")))
    assert value.dtype == "float32"
    assert value.shape == ()
    return float(value)


def gradient_of(regularizer, weights) -> np.ndarray:
    weights = ops.convert_to_tensor(weights, "float32")
    return to_numpy(gradients(regularizer, [weights])[0])


def initial_state(regularizer, families) -> dict[str, np.ndarray]:
    if not isinstance(regularizer, StructuredRegularizer):
        return {}
    return {
        name: to_numpy(of.initializer(of.shape, dtype="float32")).astype("float64")
        for name, of in regularizer.state(families).items()
    }


def expected_value(name, weights) -> float:
    regularizer, definition = PENALTIES[name]
    place = Place(tuple(range(weights.ndim - 1)))
    return definition(weights, place, **initial_state(regularizer, weights.shape[-1]))


def slopes(function, weights, step=1e-6) -> np.ndarray:
    """Central finite differences, in float64."""
    found = np.zeros(weights.shape)
    for entry in np.ndindex(weights.shape):
        sides = [weights.copy(), weights.copy()]
        sides[0][entry] += step
        sides[1][entry] -= step
        found[entry] = (function(sides[0]) - function(sides[1])) / (2 * step)
    return found


@each_shape
@each_penalty
class TestDefinition:
    def test_value(self, name, shape, rng):
        weights = rng.normal(size=shape)
        value = value_of(PENALTIES[name][0], weights)
        np.testing.assert_allclose(value, expected_value(name, weights), rtol=1e-5)

    def test_gradient(self, name, shape, rng):
        weights = rng.normal(size=shape)
        expected = slopes(lambda x: expected_value(name, x), weights)
        gradient = gradient_of(PENALTIES[name][0], weights)
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 2), (2, 3, 2), (1, 4, 2)])
@pytest.mark.parametrize("name", ["fused_ridge", "fused_lasso"])
def test_neighbours_on_a_torus(name, shape, rng):
    # Two on a circle are neighbours once, one is none of its own.
    weights = rng.normal(size=shape)
    positions = tuple(range(len(shape) - 1))
    regularizer, definition = PENALTIES[name]
    expected = definition(weights, Place(positions, wraps=True))
    assert expected != definition(weights, Place(positions))
    layout = Layout(positions, wraps=True)
    value = value_of(lambda x: regularizer.penalty(x, layout), weights)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@each_penalty
def test_at_zero_nothing_pulls(name):
    # Not even on JAX, whose own |x| has gradient 1 there. A mixture has even numbers of
    # components on either side.
    gradient = gradient_of(PENALTIES[name][0], np.zeros((3, 2, 4)))
    np.testing.assert_allclose(gradient, 0, atol=1e-6 if "mixture" in name else 0)


@each_penalty
def test_weights_may_be_given_in_any_form(name, rng):
    regularizer = PENALTIES[name][0]
    weights = rng.normal(size=(3, 2, 4))
    expected = value_of(regularizer, weights)
    for form in (weights, weights.tolist(), keras.Variable(weights, dtype="float32")):
        value = to_numpy(regularizer(form))
        assert value.dtype == "float32"
        np.testing.assert_allclose(value, expected, rtol=1e-6)


class TestSimplerPenalties:
    """What each penalty comes down to at the end of its range."""

    @pytest.fixture
    def weights(self, rng):
        return rng.normal(size=(3, 2, 4)).astype("float32")

    def test_a_mixture_of_one_is_a_ridge(self, weights):
        mixture = GaussianMixture(0.3, components=1, spread=0.5, minimum_variance=0.01)
        ridge = value_of(L2(0.3 / (2 * 0.5**2)), weights)
        constant = 0.3 * weights.size * np.log(0.5 * np.sqrt(2 * np.pi))
        np.testing.assert_allclose(value_of(mixture, weights), ridge + constant, rtol=1e-5)

    def test_a_mixture_for_each_family_begins_as_one_for_all(self, weights):
        values = [
            value_of(GaussianMixture(0.3, per_family=per_family), weights)
            for per_family in (False, True)
        ]
        np.testing.assert_allclose(*values, rtol=1e-6)

    def test_a_pair_is_the_lasso_of_its_difference(self, weights):
        value = value_of(PairwiseL1(0.3), weights[:2, 0])
        difference = weights[0, 0] - weights[1, 0]
        np.testing.assert_allclose(value, value_of(L1(0.3), difference), rtol=1e-6)

    @pytest.mark.parametrize(
        ("robust", "simple"),
        [
            (Huber(0.3, delta=1e3), L2(0.15)),
            (Huber(0.3 / 1e-6, delta=1e-6), L1(0.3)),
            (StudentT(0.3, scale=0.5, degrees_of_freedom=1e6), L2(0.3 / (2 * 0.5**2))),
            (FamilyStrengths(L1L2(0.2, 0.3)), L1L2(0.2, 0.3)),
        ],
        ids=["ridge_of_huber", "lasso_of_huber", "ridge_of_student", "ones"],
    )
    def test_limits(self, robust, simple, weights):
        expected = value_of(simple, weights)
        np.testing.assert_allclose(value_of(robust, weights), expected, rtol=1e-4)

    @pytest.mark.parametrize("per", ["family", "position"])
    def test_groups_of_one_are_the_lasso(self, per, weights):
        shape = (1, 1, weights.size) if per == "family" else (weights.size, 1)
        value = value_of(GroupLasso(0.3, per), weights.reshape(shape))
        np.testing.assert_allclose(value, value_of(L1(0.3), weights), rtol=1e-6)

    def test_constant_families_are_fused_and_paired_for_nothing(self, weights):
        constant = np.broadcast_to(weights[0, 0], weights.shape)
        for regularizer in (FusedTies(L1(0.3)), FusedTies(L2(0.3)), PairwiseL1(0.3)):
            assert value_of(regularizer, constant) == 0
            np.testing.assert_array_equal(gradient_of(regularizer, constant), 0)

    def test_total_variation_of_what_ascends_is_its_range(self, weights):
        line = np.sort(weights.ravel())[:, None]
        value = value_of(FusedTies(L1(0.3)), line)
        np.testing.assert_allclose(value, 0.3 * (line[-1] - line[0]).item(), rtol=1e-5)

    @pytest.mark.parametrize(
        "kind", [Huber, StudentT, GroupLasso, PairwiseL1, GaussianMixture]
    )
    def test_a_factor_of_zero_is_no_penalty(self, kind, weights):
        assert value_of(kind(0), weights) == 0
        np.testing.assert_array_equal(gradient_of(kind(0), weights), 0)


class TestLargeFamilies:
    # With all pairs in one array, the second would take 64 GiB.
    @pytest.mark.parametrize("shape", [(64, 64, 3), (2**17, 1)])
    def test_pairs_need_no_more_than_a_sort(self, shape, rng):
        weights = rng.normal(size=shape).astype("float32")
        columns = np.sort(weights.reshape(-1, shape[-1]).astype("float64"), axis=0)
        n = len(columns)
        expected = 0.01 * ((2 * np.arange(1, n + 1) - n - 1) @ columns).sum()
        value = value_of(PairwiseL1(0.01), weights)
        np.testing.assert_allclose(value, expected, rtol=1e-5)

    @pytest.mark.parametrize("members", [4096, 10_000, 100_003])
    def test_equal_members_do_not_pull_at_one_another(self, members):
        # The sums over ever more members do not fit into float32's 24 bits.
        ones = np.ones((members, 1))
        assert value_of(PairwiseL1(1.0), ones) == 0
        np.testing.assert_array_equal(gradient_of(PairwiseL1(1.0), ones), 0)


def test_definitions_by_hand():
    # Pairs of 1, 2, 4 are 1, 2 and 3 apart, neighbours 3 and 2.
    family = np.array([[1.0], [4.0], [2.0], [np.nan]])
    place = Place((0,))
    assert independent.pairwise_l1(1.0)(family, place) == 6
    assert independent.fused_ties(independent.elastic_net(1, 0))(family, place) == 5
    assert independent.neighbours(3, wraps=True) == {(0, 1), (1, 2), (0, 2)}
    assert independent.neighbours(2, wraps=True) == {(0, 1)}
