"""Derivatives in forward mode, and of higher order, of predictions and penalties."""

import numpy as np
import pytest
from backends import BACKEND, at_once, gradients, not_on_keras_2, tensorflow_only
from conv_cases import CASES
from keras import ops, regularizers
from keras.ops import convert_to_numpy as to_numpy
from soft_models import outputs_and_losses, random_layer

from keras_softconv.geometry import Geometry
from keras_softconv.weight_sharing import ABSOLUTE, SQUARE, weight_sharing_of

# Torch says so of itself, where its forward mode is imported.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
    not_on_keras_2("has no calls with weights that are given"),
]

PENALTIES = {
    "ridge": (regularizers.L2(0.3), regularizers.L2(0.2)),
    "lasso": (regularizers.L1(0.3), regularizers.L1L2(0.1, 0.2)),
}
storages = pytest.mark.parametrize("halo", [None, 0], ids=["dense", "halo"])
penalties = pytest.mark.parametrize("penalty", PENALTIES)
names = pytest.mark.parametrize("name", ["same_strided", "causal", "volume"])


def layer_of(name, halo, rng, penalty="ridge", **arguments):
    ties, off_template = PENALTIES[penalty]
    return random_layer(
        CASES[name], rng, halo=halo, tie_regularizer=ties,
        off_template_regularizer=off_template, **arguments,
    )  # fmt: skip


def arguments_of(layer, rng) -> list:
    """Inputs, and the values of the layer's weights."""
    geometry = layer.weight_sharing.geometry
    inputs = rng.normal(size=(2, *geometry.input_grid, geometry.in_channels))
    return [
        ops.convert_to_tensor(inputs, "float32"),
        # Tensors, which TensorFlow's variables are not.
        *(ops.array(to_numpy(weight)) for weight in layer.trainable_weights),
    ]


def predictions_and_penalties(layer):
    """A function of inputs and weights to two numbers."""

    def function(inputs, *weights):
        outputs, losses = outputs_and_losses(layer, inputs, list(weights))
        return ops.sum(ops.square(outputs)), sum(losses)

    return function


def tangents_like(tensors, rng) -> list:
    return [ops.array(rng.normal(size=t.shape), "float32") for t in tensors]


def in_forward_mode(function, tensors, tangents) -> list[float]:
    """Directional derivatives of the results of a function."""
    if BACKEND == "jax":
        import jax

        def directional(tensors, tangents):
            return jax.jvp(function, tensors, tangents)[1]

        found = jax.jit(directional)(tuple(tensors), tuple(tangents))
    elif BACKEND == "torch":
        import torch

        found = torch.func.jvp(function, tuple(tensors), tuple(tangents))[1]
    else:
        import tensorflow as tf

        with tf.autodiff.ForwardAccumulator(tensors, tangents) as accumulator:
            results = function(*tensors)
        found = map(accumulator.jvp, results)
    return [float(value) for value in found]


def in_reverse_mode(function, tensors, tangents) -> list[float]:
    """The same by gradients."""
    found = []
    for number in range(2):
        of_one = gradients(lambda *t, number=number: function(*t)[number], tensors)
        pairs = zip(of_one, tangents, strict=True)
        found.append(sum(float(np.vdot(to_numpy(g), to_numpy(t))) for g, t in pairs))
    return found


@storages
@penalties
@names
def test_forward_mode_agrees_with_reverse_mode(name, penalty, halo, rng):
    layer = layer_of(name, halo, rng, penalty)
    function, tensors = predictions_and_penalties(layer), arguments_of(layer, rng)
    tangents = tangents_like(tensors, rng)
    np.testing.assert_allclose(
        in_forward_mode(function, tensors, tangents),
        in_reverse_mode(function, tensors, tangents),
        rtol=1e-3,
        atol=1e-3,
    )


@storages
def test_second_derivatives_of_the_loss(halo, rng):
    # The loss is quadratic in the deviations, so that differences of gradients are exact.
    layer = layer_of("same_strided", halo, rng)
    function = predictions_and_penalties(layer)
    inputs, shared, deviations, *biases = arguments_of(layer, rng)
    (tangent,) = tangents_like([deviations], rng)

    def loss(deviations):
        return sum(function(inputs, shared, deviations, *biases))

    def slope(deviations):
        return ops.sum(gradients(loss, [deviations])[0] * tangent)

    (second,) = gradients(slope, [deviations])
    ends = [gradients(loss, [deviations + sign * tangent])[0] for sign in (1, -1)]
    expected = (to_numpy(ends[0]) - to_numpy(ends[1])) / 2
    np.testing.assert_allclose(to_numpy(second), expected, rtol=1e-3, atol=1e-3)
    if BACKEND != "tensorflow":
        hessian = hessian_of(loss, deviations).reshape(expected.size, -1)
        product = hessian @ to_numpy(tangent).ravel()
        np.testing.assert_allclose(product, expected.ravel(), rtol=1e-3, atol=1e-3)


def hessian_of(loss, weights) -> np.ndarray:
    if BACKEND == "jax":
        import jax

        return to_numpy(jax.jit(jax.hessian(loss))(weights))
    import torch

    return to_numpy(torch.func.hessian(loss)(weights))


@pytest.mark.skipif(BACKEND != "jax", reason="is about what only JAX has")
@storages
def test_linearize_and_transforms_of_it(halo, rng):
    import jax

    layer = layer_of("same_strided", halo, rng, "lasso")
    tensors = arguments_of(layer, rng)
    tangents = tangents_like(tensors, rng)
    function = predictions_and_penalties(layer)

    def loss(*tensors):
        return sum(function(*tensors))

    _, linear = jax.linearize(loss, *tensors)
    expected = sum(in_reverse_mode(function, tensors, tangents))
    np.testing.assert_allclose(float(linear(*tangents)), expected, rtol=1e-3)
    (transposed,) = jax.linear_transpose(lambda t: linear(t, *tangents[1:]), tangents[0])(
        np.float32(1)
    )
    expected = jax.jit(jax.grad(loss))(*tensors)
    np.testing.assert_allclose(to_numpy(transposed), expected, rtol=1e-3, atol=1e-4)


@tensorflow_only
def test_gradients_of_gradients_within_a_graph_on_tensorflow(rng):
    # Where forward mode meets TensorFlow's own limit: see docs/when-not.md.
    import tensorflow as tf

    layer = layer_of("same_strided", None, rng)
    tensors = arguments_of(layer, rng)
    function = predictions_and_penalties(layer)

    def slope(deviations):
        arguments = [*tensors[:2], deviations, *tensors[3:]]
        found = gradients(lambda *t: sum(function(*t)), arguments)[2]
        return ops.sum(found * found)

    of_graph = tf.function(lambda x: gradients(slope, [x])[0])(tensors[2])
    expected = to_numpy(gradients(slope, [tensors[2]])[0])
    np.testing.assert_allclose(to_numpy(of_graph), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("halo", [None, 1])
def test_tangents_of_large_sums_that_are_all_alike_are_right(halo):
    # Rounding that always goes the same way is the worst case.
    axes = (24, 24), (3, 3), (1, 1), (1, 1), "valid"
    sharing = weight_sharing_of(Geometry(*axes, 1, 8, 1, halo))
    weights = np.full(sharing.geometry.deviations_shape, 0.1, "float32")
    weights = to_numpy(sharing.without_void(ops.convert_to_tensor(weights)))
    count = np.count_nonzero(weights)

    def sums(weights):
        squares = sum(sharing.partition_sums(SQUARE, weights))
        return squares, sum(sharing.partition_sums(ABSOLUTE, weights))

    weights = ops.convert_to_tensor(weights)
    found = in_forward_mode(sums, [weights], [weights])
    np.testing.assert_allclose(found, [0.02 * count, 0.1 * count], rtol=1e-5)


@pytest.mark.parametrize("power", [SQUARE, ABSOLUTE], ids=["square", "absolute"])
def test_forward_mode_at_zero(power, rng):
    axes = (3, 4), (2, 2), (1, 1), (1, 1), "valid"
    sharing = weight_sharing_of(Geometry(*axes, 1, 6))
    zeros = ops.zeros(sharing.geometry.kernel_shape)

    def sums(weights):
        return at_once(lambda w: sharing.partition_sums(power, w))(weights)

    assert in_forward_mode(sums, [zeros], [ops.ones_like(zeros)]) == [0.0, 0.0]
