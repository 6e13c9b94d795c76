"""No random search finds anything better than a proximal step."""

from functools import cache

import independent_penalties as independent
import numpy as np
import pytest
from backends import BACKEND, at_once, gradients, with_xla
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from independent_penalties import PENALTIES, Place, elastic_net
from keras import ops
from keras.ops import convert_to_numpy as to_numpy
from keras.regularizers import L1, L1L2, L2
from rivals import assert_nothing_is_better

from keras_softconv.regularizers import (
    DistanceWeighted,
    FamilyStrengths,
    FusedTies,
    GaussianMixture,
    GroupLasso,
    Huber,
    Layout,
    PairwiseL1,
    StudentT,
    proximal_step,
)
from keras_softconv.regularizers.elastic_net import as_structured

SHAPE = (3, 2, 4)
PROXIMAL = {
    "lasso": (L1(0.3), elastic_net(0.3, 0)),
    "ridge": (L2(0.3), elastic_net(0, 0.3)),
    "elastic": (L1L2(0.3, 0.2), elastic_net(0.3, 0.2)),
    # So narrow that the objective has two valleys.
    "narrow": (StudentT(2.0, 0.05, 1.0), independent.student_t(2.0, 0.05, 1.0)),
    **{
        name: PENALTIES[name]
        for name in ("huber", "student_t", "group_lasso", "group_lasso_of_positions",
                     "pairwise_l1")
    },
}  # fmt: skip
POWERS = st.floats(-4, 4)


def all_different(dtype, elements):
    return arrays(dtype, SHAPE, elements=elements, fill=st.nothing())


VALUES = st.floats(-8, 8, width=32)
# Else Hypothesis repeats one of them at most places: with ties and zeros, and without.
WEIGHTS = arrays("float32", SHAPE, elements=VALUES) | all_different("float32", VALUES)


@cache
def stepping(name):
    """Compiled, where hundreds of examples would wait for each operation."""
    step_of = as_structured(PROXIMAL[name][0]).proximal_step
    compiled = with_xla if BACKEND == "tensorflow" else at_once
    return compiled(lambda weights, step: step_of(weights, step, Layout((0, 1))))


def check_step(name, weights, step):
    step = np.float32(10.0**step)
    solution = to_numpy(stepping(name)(*map(ops.convert_to_tensor, (weights, step))))
    assert solution.dtype == "float32"
    definition, place = PROXIMAL[name][1], Place((0, 1))
    assert_nothing_is_better(definition, place, weights, step, solution, rounds=2)


@pytest.mark.random
@pytest.mark.parametrize("name", PROXIMAL)
@given(WEIGHTS, POWERS)
def test_steps_of_one_size(name, weights, power):
    check_step(name, weights, np.array(power))


@pytest.mark.random
@pytest.mark.parametrize("name", [name for name in PROXIMAL if name != "pairwise_l1"])
@given(WEIGHTS, all_different("float64", POWERS))
def test_steps_of_a_size_for_each_weight(name, weights, powers):
    check_step(name, weights, powers)


def test_the_search_finds_what_is_not_the_best(rng):
    weights = rng.normal(size=SHAPE)
    for _, definition in PROXIMAL.values():
        with pytest.raises(AssertionError):
            assert_nothing_is_better(definition, Place((0, 1)), weights, 1.0, weights)


@pytest.mark.parametrize("name", PROXIMAL)
def test_steps_as_users_take_them(name, rng):
    weights = rng.normal(size=SHAPE)  # in float64
    taken = to_numpy(proximal_step(PROXIMAL[name][0], weights, 0.5))
    assert taken.dtype == "float32"
    told = map(ops.convert_to_tensor, (weights.astype("float32"), np.float32(0.5)))
    np.testing.assert_allclose(taken, to_numpy(stepping(name)(*told)), rtol=1e-5, atol=1e-7)


class TestExactly:
    @pytest.mark.parametrize("regularizer", [L1(0.5), L1L2(0.5, 0.1)])
    def test_small_weights_are_zero(self, regularizer):
        weights = np.array([[-2.0, -0.1, 0.0, 0.25, 1.0]], "float32")
        found = to_numpy(proximal_step(regularizer, weights, 0.5))
        np.testing.assert_array_equal(found != 0, [[True, False, False, False, True]])

    @pytest.mark.parametrize("per", ["family", "position"])
    def test_groups_are_zero_as_a_whole(self, per, rng):
        weights = rng.normal(size=(6, 5)).astype("float32")
        axis = 0 if per == "family" else 1
        norms = np.linalg.norm(weights, axis=axis)
        step = np.median(norms) / 0.5
        found = to_numpy(proximal_step(GroupLasso(0.5, per), weights, step * 1.0001))
        stays = np.broadcast_to(np.expand_dims(norms > np.median(norms), axis), (6, 5))
        assert 0 < stays.sum() < stays.size
        np.testing.assert_array_equal(found != 0, stays)

    def test_groups_solve_their_equation(self, rng):
        # z_i = x_i r / (r + step_i * factor), with r its norm: here by bisection.
        weights = (rng.normal(size=(9, 50)) * 10 ** rng.uniform(-2, 1, (9, 50))).T
        weights = weights.astype("float32")
        step = (10 ** rng.uniform(-4, 4, weights.shape)).astype("float32")
        found = to_numpy(proximal_step(GroupLasso(0.5), weights, step))
        x, threshold = weights.astype("float64"), 0.5 * step.astype("float64")
        low, high = np.zeros(9), np.linalg.norm(x, axis=0)
        for _ in range(100):
            norm = (low + high) / 2
            is_low = ((x / (norm + threshold)) ** 2).sum(axis=0) > 1
            low, high = np.where(is_low, norm, low), np.where(is_low, high, norm)
        assert (low > 0).all()
        np.testing.assert_allclose(found, x * low / (low + threshold), rtol=1e-5)

    def test_members_tie(self):
        weights = np.array([[0.0, 3.0], [0.1, 1.0], [5.0, 2.0], [5.2, 2.0]], "float32")
        found = to_numpy(proximal_step(PairwiseL1(0.1), weights, 1.0))
        assert found[0, 0] == found[1, 0] < found[2, 0] == found[3, 0]
        np.testing.assert_allclose(found[:, 0], [0.25, 0.25, 4.9, 4.9], rtol=1e-6)
        assert found[1, 1] < found[2, 1] == found[3, 1] < found[0, 1]

    @pytest.mark.parametrize("step", [1e2, 1e4, 1e8])
    def test_large_steps_tie_families_at_their_means(self, step, rng):
        # Beside what such steps take from each member, the weights are below float32.
        weights = (0.003 + 0.001 * rng.normal(size=(6, 5))).astype("float32")
        found = to_numpy(proximal_step(PairwiseL1(0.1), weights, step))
        np.testing.assert_array_equal(found, found[:1] + 0 * found)
        np.testing.assert_allclose(found[0], weights.mean(axis=0), rtol=1e-6)

    @pytest.mark.parametrize("regularizer", [Huber(1.0), StudentT(1.0)])
    def test_smooth_penalties_leave_no_zeros(self, regularizer):
        weights = np.array([[-3.0, 1e-3, 0.5]], "float32")
        found = to_numpy(proximal_step(regularizer, weights, 1.0))
        np.testing.assert_array_equal(np.sign(found), np.sign(weights))
        assert (np.abs(found) < np.abs(weights)).all()


@pytest.mark.parametrize(
    "regularizer",
    [FusedTies(), GaussianMixture(), FamilyStrengths(), independent.Quartic(), abs],
)
def test_steps_that_are_not_known(regularizer):
    with pytest.raises(ValueError, match=r"The proximal step of .* is not known\. Expect"):
        proximal_step(regularizer, np.ones((2, 3)), 1.0)


@pytest.mark.parametrize("step", [0.0, -1.0, float("nan"), [[1.0], [0.0]]])
def test_steps_are_positive(step):
    message = r"`step` must be a positive number, or several\. Received: step="
    with pytest.raises(ValueError, match=message):
        proximal_step(L1(0.1), np.ones((2, 3)), step)


def test_pairs_take_one_step():
    with pytest.raises(ValueError, match=r"`step` must be a positive number\. Received"):
        proximal_step(PairwiseL1(0.1), np.ones((2, 3)), [1.0, 2.0, 3.0])


def test_distances_are_known_to_layers_only():
    with pytest.raises(ValueError, match="DistanceWeighted needs to know how far"):
        proximal_step(DistanceWeighted("l1"), np.ones((2, 3)), 1.0)


@pytest.mark.parametrize("name", PROXIMAL)
@pytest.mark.parametrize("form", ["random", "half_zero", "in_pairs", "zero"])
def test_the_gradient_that_optimizers_are_told_is_keras_own(name, form, rng):
    regularizer = as_structured(PROXIMAL[name][0])
    weights = rng.normal(size=SHAPE).astype("float32")
    if form == "half_zero":
        weights[:2] = 0
        weights[..., 0] = 0
    elif form == "in_pairs":
        weights[:1] = weights[2:]
    elif form == "zero":
        weights[:] = 0
    weights = ops.convert_to_tensor(weights)
    told = at_once(lambda x: regularizer.gradient(x, Layout((0, 1))))(weights)
    own = to_numpy(gradients(regularizer, [weights])[0])
    np.testing.assert_allclose(to_numpy(told), own, rtol=1e-5, atol=1e-7)
