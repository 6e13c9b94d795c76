"""Proximal steps where layers have void members, distances and strengths."""

import independent_penalties as independent
import numpy as np
import pytest
from backends import at_once
from conv_cases import CASES
from independent_penalties import PENALTIES, Place, chosen, elastic_net
from keras import ops
from keras.ops import convert_to_numpy as to_numpy
from keras.regularizers import L1, L1L2, L2
from rivals import assert_nothing_is_better
from soft_models import dense_form, random_layer

from keras_softconv.penalties import off_template_layout, tie_layout
from keras_softconv.regularizers import (
    DistanceWeighted,
    FamilyStrengths,
    Layout,
    PairwiseL1,
)

LINE = ((6,), 1, 2, {"kernel_size": 2, "padding": "same"})
WEIGHTED = {
    "lasso": (L1(0.3), elastic_net(0.3, 0)),
    "ridge": (L2(0.3), elastic_net(0, 0.3)),
    **{
        name: PENALTIES[name]
        for name in ("huber", "student_t", "group_lasso", "group_lasso_of_positions")
    },
}


def step_sizes(kind, shape, rng) -> np.ndarray:
    powers = rng.uniform(-4, 4, shape) if kind == "each" else np.array(0.5)
    return (10.0**powers).astype("float32")


@pytest.mark.parametrize("kind", ["one", "each"])
@pytest.mark.parametrize("halo", [None, 2])
@pytest.mark.parametrize("name", WEIGHTED)
def test_distance_weighted(name, halo, kind, rng):
    inner, definition = WEIGHTED[name]
    sharing = random_layer(LINE, rng, halo=halo).weight_sharing
    layout = off_template_layout(sharing)
    weighted = DistanceWeighted(inner, power=1.5)
    stored = rng.normal(size=sharing.geometry.deviations_shape).astype("float32")
    stored = sharing.off_template(ops.convert_to_tensor(stored))
    step = step_sizes(kind, stored.shape, rng)
    stepped = at_once(lambda w, s: weighted.proximal_step(w, s, layout))
    found = stepped(stored, ops.convert_to_tensor(step))
    is_weight = to_numpy(layout.mask(stored)) > 0
    np.testing.assert_array_equal(to_numpy(found)[~is_weight], 0)

    entries = independent.off_template_entries(LINE, halo, halo is not None)
    positions = (2,) if halo is None else (0,)
    distances = chosen(independent.distances(LINE), entries)
    assert np.nanmax(distances) > 1
    place = Place(positions, distances=distances)
    weights, solution, sizes = (
        chosen(dense_form(sharing, x), entries)
        for x in (stored, found, np.broadcast_to(step, stored.shape))
    )
    definition = independent.distance_weighted(definition, 1.5)
    assert_nothing_is_better(definition, place, weights, sizes, solution)


@pytest.mark.parametrize("kind", ["one", "each"])
def test_family_strengths(kind, rng):
    regularizer = FamilyStrengths(L1L2(0.2, 0.3))
    strengths = np.array([0.0, 0.1, 1.0, 30.0], "float32")
    weights = rng.normal(size=(3, 2, 4)).astype("float32")
    step = step_sizes(kind, weights.shape, rng)

    def stepped(weights, step, strengths):
        return regularizer.proximal_step(weights, step, Layout((0, 1)), strengths)

    tensors = map(ops.convert_to_tensor, (weights, step, strengths))
    solution = to_numpy(at_once(stepped)(*tensors))
    assert_nothing_is_better(
        independent.family_strengths(0.2, 0.3),
        Place((0, 1)),
        weights,
        step,
        solution,
        family_strengths=strengths.astype("float64"),
    )


@pytest.mark.parametrize("name", ["same_strided", "signal"])
def test_pairs_without_the_void_and_with_lawful_steps(name, rng):
    case = CASES[name]
    sharing = random_layer(case, rng).weight_sharing
    layout = tie_layout(sharing)
    deviations = ops.convert_to_tensor(rng.normal(size=sharing.geometry.kernel_shape))
    weights = sharing.template(ops.cast(deviations, "float32"))
    steps = ops.convert_to_tensor(step_sizes("each", weights.shape, rng))
    regularizer = PairwiseL1(0.1)
    lawful = regularizer.lawful_steps(steps, layout)
    found = regularizer.proximal_step(weights, lawful, layout)
    is_member = independent.tie_entries(case) >= 0
    assert not is_member.all()
    np.testing.assert_array_equal(to_numpy(found)[~is_member], 0)

    steps, lawful, weights, solution = (
        np.where(is_member, to_numpy(x), np.nan) for x in (steps, lawful, weights, found)
    )
    axes = layout.position_axes
    least = np.nanmin(steps, axis=axes, keepdims=True)
    np.testing.assert_array_equal(lawful, np.where(is_member, least, np.nan))
    definition = independent.pairwise_l1(0.1)
    assert_nothing_is_better(definition, Place(axes), weights, lawful, solution)


def test_lawful_steps_of_weighted_pairs(rng):
    # Alike for a family after the weights are scaled, and none larger than asked for.
    sharing = random_layer(LINE, rng).weight_sharing
    layout = off_template_layout(sharing)
    weighted = DistanceWeighted(PairwiseL1(0.1), power=1.5)
    steps = step_sizes("each", sharing.geometry.deviations_shape, rng)
    lawful = to_numpy(weighted.lawful_steps(ops.convert_to_tensor(steps), layout))
    is_weight = to_numpy(layout.mask(lawful)) > 0
    scaled = lawful * np.maximum(independent.distances(LINE), 1) ** 3.0
    scaled = np.where(is_weight, scaled, np.nan)
    np.testing.assert_allclose(*(f(scaled, axis=2) for f in (np.nanmin, np.nanmax)), 1e-6)
    ratios = np.where(is_weight, lawful / steps, np.nan)
    np.testing.assert_allclose(np.nanmax(ratios, axis=2), 1, rtol=1e-5)
