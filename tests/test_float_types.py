"""Keras's float type, and layers whose own type is another one.

What is registered has to be of the type in which Keras adds up losses. The penalties
themselves are computed in float32. A convolution with a regularizer shows which settings
Keras itself can train in.
"""

import independent
import keras
import numpy as np
import pytest
from backends import BACKEND, KERAS_2, not_on_keras_2, tensorflow_only
from keras import ops, regularizers
from keras.ops import convert_to_numpy as to_numpy
from soft_models import SOFT_CONVS, dense_deviations, numpy_weights

from keras_softconv import SoftConv2D
from keras_softconv.regularizers import (
    DistanceWeighted,
    FusedTies,
    GaussianMixture,
    GroupLasso,
    PairwiseL1,
)

FACTOR = 0.5
GRIDS = {1: (6,), 2: (5, 4), 3: (3, 2, 3)}
TOLERANCE = {"float16": 2e-3, "bfloat16": 2e-2}

registrations = pytest.mark.parametrize("registration", ["add_loss", "regularizer"])
BFLOAT16 = pytest.param(
    "bfloat16", marks=[pytest.mark.slow, not_on_keras_2("has no such float type")]
)
float_types = pytest.mark.parametrize("floatx", ["float64", "float16", BFLOAT16])
storages = pytest.mark.parametrize("halo", [None, 1], ids=["dense", "halo"])


@pytest.fixture(autouse=True)
def float32_afterwards():
    if BACKEND == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    yield
    set_float_type("float32")
    if BACKEND == "jax":
        jax.config.update("jax_enable_x64", False)


def set_float_type(floatx) -> None:
    """As `keras.config.set_floatx` does before any layer is made."""
    keras.backend.set_floatx(floatx)
    # The type of layers, which Keras fixes where the first one is made.
    if KERAS_2:
        keras.mixed_precision.set_global_policy(floatx)
    else:
        keras.config.set_dtype_policy(floatx)


def soft_layer(rank=2, **arguments) -> keras.Layer:
    arguments = {"deviation_initializer": "glorot_uniform", **arguments}
    penalties = {
        "tie_regularizer": regularizers.L2(FACTOR),
        "off_template_regularizer": regularizers.L2(FACTOR),
    }
    return SOFT_CONVS[rank](3, 2, padding="same", **{**penalties, **arguments})


def model_of(layer, rank=2) -> keras.Model:
    # In float32 whatever the type, so that all models see the same inputs.
    return keras.Sequential([keras.Input((*GRIDS[rank], 2), dtype="float32"), layer])


def examples(rng, rank=2):
    grid = GRIDS[rank]
    return [rng.normal(size=(8, *grid, n)).astype("float32") for n in (2, 3)]


def penalty_by_numpy(layer) -> float:
    weights = {**numpy_weights(layer), "deviations": dense_deviations(layer)}
    numbers = independent.penalties(
        weights, layer.family_ids(), *[lambda x: FACTOR * (x**2).sum()] * 2
    )
    return sum(numbers.values())


def check_that_losses_have_the_penalty(layer, rng, rank=2, rtol=1e-5) -> None:
    """In `fit`, `evaluate` and the losses that a loop of one's own adds up."""
    x, y = examples(rng, rank)
    model = model_of(layer, rank)
    errors = to_numpy(model(x)).astype("float64") - y
    expected = np.mean(errors**2) + penalty_by_numpy(layer)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    # NumPy does not know bfloat16.
    found = float(model.fit(x, y, batch_size=8, verbose=0).history["loss"][0])
    np.testing.assert_allclose(found, expected, rtol=rtol)
    found = float(model.evaluate(x, y, verbose=0))
    np.testing.assert_allclose(found, expected, rtol=rtol)
    model(x)
    in_all = float(to_numpy(ops.cast(sum(model.losses), "float32")))
    np.testing.assert_allclose(in_all, penalty_by_numpy(layer), rtol=rtol)
    for value in layer.penalties().values():
        assert keras.backend.standardize_dtype(value.dtype) == "float32"


@float_types
def test_a_convolution_with_a_regularizer_trains_in_every_float_type(floatx, rng):
    set_float_type(floatx)
    x, y = examples(rng)
    model = model_of(keras.layers.Conv2D(3, 2, padding="same", kernel_regularizer="l2"))
    model.compile("adam", "mse")
    assert np.isfinite(float(model.fit(x, y, verbose=0).history["loss"][0]))


@registrations
@storages
@float_types
def test_every_float_type_of_keras(floatx, halo, registration, rng):
    set_float_type(floatx)
    layer = soft_layer(halo=halo, penalty_registration=registration)
    check_that_losses_have_the_penalty(layer, rng, rtol=TOLERANCE.get(floatx, 1e-5))


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("halo", [None, 0], ids=["dense", "halo"])
def test_every_rank_in_float64(rank, halo, rng):
    set_float_type("float64")
    check_that_losses_have_the_penalty(soft_layer(rank, halo=halo), rng, rank)


@registrations
@pytest.mark.parametrize(
    ("floatx", "policy"),
    [
        ("float64", "float32"),
        ("float64", "mixed_float16"),
        ("float32", "mixed_float16"),
        ("float32", "bfloat16"),
        ("float32", "float64"),
        ("float16", "float32"),
    ],
)
def test_a_layer_of_another_type_than_that_of_keras(floatx, policy, registration, rng):
    set_float_type(floatx)
    layer = soft_layer(halo=1, dtype=policy, penalty_registration=registration)
    is_half = "16" in floatx + policy
    check_that_losses_have_the_penalty(layer, rng, rtol=2e-2 if is_half else 1e-5)


@not_on_keras_2("casts all losses to the widest type")
@pytest.mark.parametrize("floatx", ["float16", "float64"])
def test_losses_are_of_the_type_of_keras_on_tensorflow_and_float32_elsewhere(floatx):
    set_float_type(floatx)
    model = model_of(soft_layer(dtype="float32"))
    model(np.zeros((1, 5, 4, 2), "float32"))
    types = {keras.backend.standardize_dtype(loss.dtype) for loss in model.losses}
    assert types == {floatx if BACKEND == "tensorflow" else "float32"}


@tensorflow_only
@registrations
@pytest.mark.parametrize("floatx", ["float16", "float64"])
def test_a_loop_of_ones_own_adds_losses_to_those_of_keras(floatx, registration, rng):
    import tensorflow as tf

    set_float_type(floatx)
    x, y = examples(rng)
    layer = soft_layer(penalty_registration=registration)
    convolution = keras.layers.Conv2D(3, 1, kernel_regularizer="l2")
    model = keras.Sequential([keras.Input((5, 4, 2)), layer, convolution])
    mean_squared_error = keras.losses.MeanSquaredError()

    @tf.function
    def gradients(x, y):
        with tf.GradientTape() as tape:
            outputs = model(x)
            loss = mean_squared_error(y, outputs) + tf.add_n(model.losses)
            loss = loss + 0 * sum(model.losses)
        return tape.gradient(loss, model.trainable_variables)

    dtype = layer.variable_dtype
    assert dtype == floatx
    for gradient in gradients(x.astype(floatx), y.astype(floatx)):
        assert np.isfinite(gradient.numpy()).all()


@registrations
@pytest.mark.parametrize("policy", ["mixed_float16", "float16"])
def test_a_penalty_beyond_float16_stays_finite(policy, registration, rng):
    # 65504 is the largest number of float16.
    x, y = examples(rng)
    layer = soft_layer(
        dtype=policy,
        penalty_registration=registration,
        deviation_initializer="zeros",
        tie_regularizer=regularizers.L2(1e7),
        off_template_regularizer=None,
    )
    model = model_of(layer)
    layer.bias_deviations.assign(np.full((5, 4, 3), 0.125))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    loss = model.fit(x, y, batch_size=8, verbose=0).history["loss"][0]
    np.testing.assert_allclose(loss, 1e7 * 60 / 64, rtol=1e-5)


PLACES = {
    "lasso, by distance": ("l1", DistanceWeighted("l1")),
    "fused, groups": (FusedTies("l1"), GroupLasso(per="position")),
    "pairs": (PairwiseL1(), "l1"),
    "mixture": (GaussianMixture(), None),
    "function": (lambda w: 0.1 * ops.sum(ops.square(w)), "l2"),
}


@not_on_keras_2("has its own optimizers")
@pytest.mark.parametrize(
    ("floatx", "place"),
    [
        ("float64", "lasso, by distance"),
        *[pytest.param("float64", p, marks=pytest.mark.slow) for p in list(PLACES)[1:]],
        *[pytest.param("float16", place, marks=pytest.mark.slow) for place in PLACES],
    ],
)
def test_proximal_adam_and_structured_regularizers(floatx, place, rng):
    from keras_softconv.optimizers import ProximalAdam

    losses = []
    for dtype in ("float32", floatx):
        keras.utils.set_random_seed(0)
        set_float_type(dtype)
        ties, off_template = PLACES[place]
        layer = SoftConv2D(
            3, 2, padding="same", halo=1, deviation_initializer="glorot_uniform",
            tie_regularizer=ties, off_template_regularizer=off_template,
        )  # fmt: skip
        model = model_of(layer)
        weights = np.random.default_rng(1)
        for weight in layer.trainable_weights:
            weight.assign(weights.normal(size=weight.shape))
        x, y = examples(np.random.default_rng(2))
        # Squares of gradients are 0 in float16, and Keras's own epsilon is too small then.
        model.compile(ProximalAdam(0.01, epsilon=0.1), "mse")
        history = model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=TOLERANCE.get(floatx, 1e-4))


@pytest.mark.skipif(not KERAS_2, reason="is about Keras 2")
def test_losses_on_keras_2_are_of_the_wider_type():
    from keras_softconv.compat import type_of_losses

    assert type_of_losses("float16") == "float32"
    keras.backend.set_floatx("float16")
    assert type_of_losses("float16") == "float16"
    assert type_of_losses("float32") == "float32"
    keras.backend.set_floatx("float64")
    assert type_of_losses("float32") == "float64"
