"""Penalties that know where their weights stand, in layers: with void members, halos and
weights of their own."""

import independent_penalties as independent
import keras
import numpy as np
import pytest
from backends import gradients
from conv_cases import CASES
from covering import each_combination
from independent_penalties import PENALTIES, Place, Quartic, chosen, elastic_net
from keras.ops import convert_to_numpy as to_numpy
from keras.regularizers import L1, L2
from oracle import within_halo
from soft_models import (
    call,
    dense_deviations,
    dense_form,
    names,
    random_layer,
    read,
)

from keras_softconv import SoftConv2D
from keras_softconv.compat import name_of
from keras_softconv.regularizers import (
    DistanceWeighted,
    FusedTies,
    GaussianMixture,
    GroupLasso,
    PairwiseL1,
)

distance_weighted = independent.distance_weighted
OFF_TEMPLATE = {
    **{
        name: PENALTIES[name]
        for name in ("huber", "student_t", "group_lasso", "group_lasso_of_positions",
                     "pairwise_l1", "mixture", "mixture_per_family", "family_strengths")
    },
    "distant_lasso": (
        DistanceWeighted(L1(0.2), power=1),
        distance_weighted(elastic_net(0.2, 0), 1),
    ),
    "distant_ridge": (
        DistanceWeighted(L2(0.2), power=0.5),
        distance_weighted(elastic_net(0, 0.2), 0.5),
    ),
    "distant_quartic": (
        DistanceWeighted(Quartic(0.1), power=0.7),
        distance_weighted(independent.quartic(0.1), 0.7),
    ),
    "distant_groups": (
        DistanceWeighted(GroupLasso(0.3), power=2),
        distance_weighted(PENALTIES["group_lasso"][1], 2),
    ),
}  # fmt: skip
# On the template, off the template.
PAIRS = [
    ("huber", "student_t"),
    ("student_t", "huber"),
    ("group_lasso", "group_lasso"),
    ("group_lasso_of_positions", "group_lasso_of_positions"),
    ("pairwise_l1", "distant_groups"),
    ("fused_ridge", "distant_ridge"),
    ("fused_lasso", "distant_lasso"),
    ("fused_quartic", "distant_quartic"),
    ("mixture", "mixture"),
    ("mixture_per_family", "mixture_per_family"),
    ("family_strengths", "family_strengths"),
    ("fused_huber", "pairwise_l1"),
]
STRENGTHS = {"tie": 0.5, "bias_tie": 0.5, "off_template": 3.0}


def penalized_layer(case, pair, rng, **arguments):
    tie, off = pair
    layer = random_layer(
        case,
        rng,
        tie_regularizer=PENALTIES[tie][0],
        off_template_regularizer=OFF_TEMPLATE[off][0],
        **arguments,
    )
    layer.tie_strength.assign(STRENGTHS["tie"])
    layer.off_template_strength.assign(STRENGTHS["off_template"])
    for weight in layer.non_trainable_weights:
        if "family_strengths" in name_of(weight):
            weight.assign(rng.uniform(size=weight.shape))
    return layer


def weights_of(layer) -> dict[str, np.ndarray]:
    """By name, in float64, the deviations in the dense kernel's shape."""
    weights = {name_of(w): to_numpy(w).astype("float64") for w in layer.weights}
    return weights | {"deviations": dense_deviations(layer)}


def state_of(weights, place) -> dict[str, np.ndarray]:
    names = ("logits", "means", "log_variances", "family_strengths")
    return {n: weights[f"{place}_{n}"] for n in names if f"{place}_{n}" in weights}


def expected_penalties(case, pair, layer, weights) -> dict[str, float]:
    tie, off = PENALTIES[pair[0]][1], OFF_TEMPLATE[pair[1]][1]
    rank, by_slot = layer.rank, layer.weight_sharing.geometry.windows is not None
    wraps = case[3].get("padding") == "circular" and case[3].get("strides", 1) == 1
    grid = Place(tuple(range(rank)), wraps)
    deviations = weights["deviations"]
    members = chosen(deviations, independent.tie_entries(case))
    entries = independent.off_template_entries(case, layer.halo, by_slot)
    positions = tuple(range(rank) if by_slot else range(rank + 1, 2 * rank + 1))
    around = Place(positions, distances=chosen(independent.distances(case), entries))
    values = {
        "tie": tie(members, grid, **state_of(weights, "tie")),
        "bias_tie": tie(weights["bias_deviations"], grid, **state_of(weights, "bias_tie")),
        "off_template": off(
            chosen(deviations, entries), around, **state_of(weights, "off_template")
        ),
    }
    values = {place: STRENGTHS[place] * value for place, value in values.items()}
    return {
        "tie_penalty": values["tie"] + values["bias_tie"],
        "off_template_penalty": values["off_template"],
    }


@each_combination(names, [None, 1], PAIRS)
def test_values_equal_an_independent_computation_in_float64(name, halo, pair, rng):
    case = CASES[name]
    layer = penalized_layer(case, pair, rng, halo=halo)
    expected = expected_penalties(case, pair, layer, weights_of(layer))
    for name, value in read(layer, type(layer).penalties).items():
        assert value.dtype == "float32"
        np.testing.assert_allclose(value, expected[name], rtol=2e-5, atol=1e-6)


@each_combination(["same_strided", "groups", "circular_strided"], [None, 1], PAIRS)
def test_gradients_agree_with_finite_differences(name, halo, pair, rng):
    case = CASES[name]
    layer = penalized_layer(case, pair, rng, halo=halo)
    variables = layer.trainable_weights
    found = penalty_gradients(layer, variables)
    weights = weights_of(layer)
    for variable, gradient in zip(variables, found, strict=True):
        if name_of(variable).startswith("shared"):
            np.testing.assert_array_equal(to_numpy(gradient), 0)
            continue
        gradient = to_numpy(gradient)
        kept = np.ones(gradient.shape, bool)
        if name_of(variable) == "deviations":
            gradient = dense_form(layer.weight_sharing, gradient)
            kept = within_halo(case, np.inf if halo is None else halo)
        entries = np.flatnonzero(kept)
        for entry in rng.choice(entries, min(entries.size, 20), replace=False):
            slope = slope_of(case, pair, layer, weights, name_of(variable), entry)
            slack = 2e-5 * max(1, np.abs(gradient).max())
            np.testing.assert_allclose(gradient.flat[entry], slope, rtol=1e-4, atol=slack)


def penalty_gradients(layer, variables) -> list:
    def total(*values):
        with keras.StatelessScope(zip(variables, values, strict=True)):
            return sum(layer.penalties().values())

    return gradients(total, variables)


def slope_of(case, pair, layer, weights, name, entry, step=1e-6) -> float:
    flat, sides = weights[name].ravel(), []
    for shift in (step, -step):
        shifted = flat.copy()
        shifted[entry] += shift
        moved = weights | {name: shifted.reshape(weights[name].shape)}
        sides.append(sum(expected_penalties(case, pair, layer, moved).values()))
    return (sides[0] - sides[1]) / (2 * step)


SMOOTH_AT_ZERO = [pair for pair in PAIRS if "mixture" not in pair[0]]


@pytest.mark.parametrize("pair", SMOOTH_AT_ZERO, ids=map("-".join, SMOOTH_AT_ZERO))
def test_at_zero_nothing_pulls(pair, rng):
    # Where training begins: an exact convolution.
    layer = penalized_layer(CASES["same_strided"], pair, rng)
    variables = [layer.deviations, layer.bias_deviations]
    for variable in variables:
        variable.assign(np.zeros(variable.shape))
    for gradient in penalty_gradients(layer, variables):
        np.testing.assert_array_equal(to_numpy(gradient), 0)


@pytest.mark.parametrize("registration", ["add_loss", "regularizer"])
@pytest.mark.parametrize("pair", [PAIRS[4], PAIRS[8]], ids=["distances", "weights"])
def test_penalties_are_losses(pair, registration, rng):
    case = CASES["same_strided"]
    layer = penalized_layer(case, pair, rng, penalty_registration=registration)
    _, losses = call(layer, np.zeros((1, *case[0], case[1]), "float32"))
    penalties = read(layer, SoftConv2D.penalties)
    np.testing.assert_allclose(sum(losses), sum(penalties.values()), rtol=1e-5)


@pytest.mark.parametrize("halo", [None, 1])
def test_void_members_are_no_members(halo, rng):
    # All members alike, and zeros in their rows only where there is no member.
    case = CASES["same"]
    mixture = GaussianMixture(0.3, components=1, spread=0.5)
    values = {}
    for regularizer in (PairwiseL1(0.3), FusedTies(L1(0.3)), FusedTies("l2"), mixture):
        layer = random_layer(case, rng, halo=halo, use_bias=False,
                             tie_regularizer=regularizer)  # fmt: skip
        for weight in layer.trainable_weights:
            if name_of(weight).startswith("tie_"):
                weight.assign(np.zeros(weight.shape))
        ones = np.ones(layer.deviations.shape, "float32")
        layer.deviations.assign(to_numpy(layer.weight_sharing.without_void(ones)))
        values[regularizer] = float(read(layer, SoftConv2D.penalties)["tie_penalty"])
    entries = independent.tie_entries(case)
    assert (entries < 0).any()
    variance = 1.0001
    density = np.exp(-1 / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    expected = -0.3 * (entries >= 0).sum() * np.log(density)
    np.testing.assert_allclose(values.pop(mixture), expected, rtol=1e-5)
    assert list(values.values()) == [0, 0, 0]


@pytest.mark.parametrize("halo", [None, 1])
@pytest.mark.parametrize("inner", [L1(0.2), L2(0.3), GroupLasso(0.3), Quartic(0.1)])
def test_distances_to_the_power_of_0_weigh_nothing(inner, halo, rng):
    penalties = []
    for off in (inner, DistanceWeighted(inner, power=0)):
        layer = random_layer(CASES["origin"], np.random.default_rng(0), halo=halo,
                             off_template_regularizer=off)  # fmt: skip
        penalties.append(read(layer, SoftConv2D.penalties)["off_template_penalty"])
    np.testing.assert_allclose(*penalties, rtol=1e-6)


def test_ties_have_no_distance():
    layer = SoftConv2D(2, 3, tie_regularizer=DistanceWeighted("l1"))
    with pytest.raises(ValueError, match=r"weights that have no such distance\. Use it as"):
        layer.build((None, 6, 6, 1))


@pytest.mark.parametrize("off", [FusedTies(), DistanceWeighted(FusedTies())])
def test_off_the_template_are_no_families_to_fuse(off):
    layer = SoftConv2D(2, 3, off_template_regularizer=off)
    with pytest.raises(ValueError, match=r"FusedTies compares the members of families"):
        layer.build((None, 6, 6, 1))


def test_saved_in_a_keras_file(rng, tmp_path):
    inputs = keras.Input((4, 4, 1))
    layers = [
        SoftConv2D(2, 2, tie_regularizer=PENALTIES[tie][0],
                   off_template_regularizer=OFF_TEMPLATE[off][0])
        for tie, off in PAIRS
    ]  # fmt: skip
    model = keras.Model(inputs, [layer(inputs) for layer in layers])
    model.set_weights([rng.uniform(size=w.shape) for w in model.get_weights()])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for layer in layers:
        copy = loaded.get_layer(layer.name)
        assert copy is not layer
        for name in ("tie_regularizer", "off_template_regularizer"):
            theirs, ours = getattr(copy, name), getattr(layer, name)
            assert type(theirs) is type(ours)
            assert theirs.get_config() == ours.get_config()
        for theirs, ours in zip(copy.weights, layer.weights, strict=True):
            assert name_of(theirs) == name_of(ours)
            np.testing.assert_array_equal(to_numpy(theirs), to_numpy(ours))
        penalties = [read(one, SoftConv2D.penalties) for one in (copy, layer)]
        assert penalties[0] == penalties[1]
        assert all(value > 0 for value in penalties[0].values())
