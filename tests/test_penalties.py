"""The values of a layer's penalties and their gradients."""

import independent
import keras
import numpy as np
import oracle
from backends import KERAS_2, at_once, gradients
from conv_cases import CASES
from covering import each_penalty
from keras import regularizers
from keras.ops import convert_to_numpy as to_numpy
from oracle import within_halo
from soft_models import (
    call,
    dense_deviations,
    dense_form,
    names,
    numpy_weights,
    random_layer,
    read,
)

from keras_softconv import SoftConv2D
from keras_softconv.regularizers import l1_l2_factors


@keras.saving.register_keras_serializable(package="tests")
class Cauchy(regularizers.Regularizer):
    """Not one of Keras's: goes by the general way. It keeps what it was given."""

    def __init__(self, scale=1.0):
        self.scale = scale
        self.given = []

    def __call__(self, x):
        dtype = keras.backend.standardize_dtype(x.dtype)
        self.given.append((tuple(x.shape), dtype))
        return keras.ops.sum(keras.ops.log1p(keras.ops.square(x / self.scale)))

    def get_config(self):
        return {"scale": self.scale}


# Regularizer and the same function of flat float64 NumPy weights.
PENALTIES = {
    "none": (None, lambda x: 0.0),
    "ridge": (regularizers.L2(0.3), lambda x: 0.3 * (x**2).sum()),
    "lasso": (regularizers.L1(0.2), lambda x: 0.2 * np.abs(x).sum()),
    "elastic": (
        regularizers.L1L2(0.2, 0.3),
        lambda x: 0.2 * np.abs(x).sum() + 0.3 * (x**2).sum(),
    ),
    "general": (Cauchy(2.0), lambda x: np.log1p((x / 2) ** 2).sum()),
}


def penalized_layer(case, pair, rng, **arguments):
    tie, off = pair
    layer = random_layer(
        case,
        rng,
        tie_regularizer=PENALTIES[tie][0],
        off_template_regularizer=PENALTIES[off][0],
        **arguments,
    )
    layer.tie_strength.assign(0.5)
    layer.off_template_strength.assign(3.0)
    return layer


def expected_penalties(case, pair, weights):
    functions = [PENALTIES[name][1] for name in pair]
    return independent.penalties(
        weights, oracle.family_ids(case), *functions, strengths=(0.5, 3.0)
    )


@each_penalty(names, [None, 1], list(PENALTIES))
def test_values_equal_an_independent_computation_in_float64(name, halo, pair, rng):
    case = CASES[name]
    layer = penalized_layer(case, pair, rng, halo=halo)
    weights = numpy_weights(layer) | {"deviations": dense_deviations(layer)}
    expected = expected_penalties(case, pair, weights)
    for name, value in read(layer, SoftConv2D.penalties).items():
        assert value.dtype == "float32"
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6)
    _, losses = call(layer, np.zeros((1, *case[0], case[1]), "float32"))
    given = [v for v, name in zip(expected.values(), pair, strict=True) if name != "none"]
    if KERAS_2:  # by variable there, not by penalty
        losses, given = sum(losses), sum(given)
    np.testing.assert_allclose(losses, given, rtol=1e-5, atol=1e-6)


@each_penalty(
    ["origin", "many_filters", "groups", "explicit_past_kernel"], [None, 0], list(PENALTIES)
)
def test_gradients_agree_with_finite_differences(name, halo, pair, rng):
    case = CASES[name]
    layer = penalized_layer(case, pair, rng, halo=halo)
    weights = numpy_weights(layer) | {"deviations": dense_deviations(layer)}
    variables = [layer.deviations, layer.bias_deviations]

    def total(*values):
        with keras.StatelessScope(zip(variables, values, strict=True)):
            return sum(layer.penalties().values())

    stored, of_biases = gradients(total, variables)
    sharing = layer.weight_sharing
    without_void = at_once(sharing.without_void)(stored)
    np.testing.assert_array_equal(to_numpy(without_void), to_numpy(stored))
    found = {
        "deviations": dense_form(sharing, stored),
        "bias_deviations": to_numpy(of_biases),
    }
    kept = (
        np.ones(found["deviations"].shape, bool)
        if halo is None
        else within_halo(case, halo)
    )
    for weight_name, gradient in found.items():
        gradient = gradient.ravel()
        flat = weights[weight_name].flat
        entries = np.arange(len(flat))
        if weight_name == "deviations":
            entries = np.flatnonzero(kept)
        for entry in rng.choice(entries, min(entries.size, 40), replace=False):
            value, sides = flat[entry], []
            for step in (1e-4, -1e-4):
                flat[entry] = value + step
                sides.append(sum(expected_penalties(case, pair, weights).values()))
            flat[entry] = value
            slope = (sides[0] - sides[1]) / 2e-4
            np.testing.assert_allclose(gradient[entry], slope, rtol=1e-4, atol=1e-5)


def test_regularizers_are_given_what_the_documentation_says(rng):
    tie, off = Cauchy(), Cauchy()
    layer = SoftConv2D(
        6, (2, 3), groups=2, tie_regularizer=tie, off_template_regularizer=off,
        dtype="mixed_bfloat16",
    )  # fmt: skip
    layer(rng.normal(size=(1, 4, 5, 4)).astype("float32"))
    assert layer.losses  # Keras 2 does not ask before
    assert tie.given == [((3, 3, 2 * 3 * 2 * 6), "float32"), ((3, 3, 6), "float32")]
    assert off.given == [((4, 5, 4, 3, 3, 6), "float32")]


def test_weak_penalties_are_not_lost_beside_large_weights(rng):
    # As a difference of two sums over everything, 1e-6 would drown in 1e6.
    layer = SoftConv2D(
        2, 3, padding="same", tie_regularizer=None, use_bias=False,
        off_template_regularizer=regularizers.L2(1e-3),
    )  # fmt: skip
    layer.build((None, 6, 6, 1))
    on_template = layer.template_mask()
    layer.deviations.assign(np.where(on_template, 1e3, 1e-4))
    expected = 1e-3 * 1e-8 * (~on_template).sum()
    value = layer.penalties()["off_template_penalty"]
    np.testing.assert_allclose(to_numpy(value), expected, rtol=1e-5)


def test_factors_of_keras_own_regularizers():
    class Special(regularizers.L2):
        pass

    np.testing.assert_allclose(l1_l2_factors(regularizers.L1(0.2)), (0.2, 0), rtol=1e-6)
    np.testing.assert_allclose(l1_l2_factors(regularizers.L2(0.3)), (0, 0.3), rtol=1e-6)
    assert l1_l2_factors(regularizers.L1L2(0.5, 0.25)) == (0.5, 0.25)
    assert l1_l2_factors(None) == (0, 0)
    assert l1_l2_factors(Special(0.3)) is None
    assert l1_l2_factors(lambda x: 0.0) is None
    moving = regularizers.L2(0.3)
    moving.l2 = keras.Variable(0.3)
    assert l1_l2_factors(moving) is None
