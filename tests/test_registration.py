"""How often the penalties count: once, in every way that a layer can be used.

The total loss of a model is compared with the data loss plus the penalties, computed by
NumPy.
"""

import independent
import keras
import numpy as np
import pytest
from backends import BACKEND, jit_compile_in_rings, not_on, not_on_keras_2, tensorflow_only
from keras import regularizers
from keras.ops import convert_to_numpy as to_numpy
from processes import run
from soft_models import numpy_weights, outputs_and_losses, soft_model

from keras_softconv import SoftConv2D


def total_penalty(layer) -> float:
    tie, off = (
        getattr(layer, f"{kind}_regularizer").l2 for kind in ("tie", "off_template")
    )
    numbers = independent.penalties(
        numpy_weights(layer),
        layer.family_ids(),
        lambda x: tie * (x**2).sum(),
        lambda x: off * (x**2).sum(),
    )
    return sum(numbers.values())


def data_loss(model, x, y) -> float:
    return float(np.mean((to_numpy(model(x)).astype("float64") - y) ** 2))


def in_all(losses) -> float:
    return float(sum(map(to_numpy, losses)))


registrations = pytest.mark.parametrize("registration", ["add_loss", "regularizer"])
STRONG = {
    "tie_regularizer": regularizers.L2(0.5),
    "off_template_regularizer": regularizers.L2(0.25),
}


@registrations
@jit_compile_in_rings
def test_loss_reported_by_fit_and_evaluate(images, registration, jit_compile):
    x, y = images
    model = soft_model(penalty_registration=registration, **STRONG)
    expected = data_loss(model, x, y) + total_penalty(model.layers[0])
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=jit_compile)
    history = model.fit(x, y, batch_size=8, verbose=0).history
    np.testing.assert_allclose(history["loss"], [expected], rtol=1e-4)
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), expected, rtol=1e-4)


@registrations
@pytest.mark.parametrize(
    "policy",
    [
        "mixed_float16",
        pytest.param("mixed_bfloat16", marks=pytest.mark.slow),
        pytest.param("float16", marks=pytest.mark.slow),
        "bfloat16",
        pytest.param("float64", marks=not_on("jax", "has no float64 unless told so")),
    ],
)
def test_every_precision_has_the_float32_penalty(images, registration, policy):
    x, y = images
    layer = SoftConv2D(
        3, 3, padding="same", dtype=policy, deviation_initializer="glorot_uniform",
        penalty_registration=registration, **STRONG,
    )  # fmt: skip
    model = keras.Sequential([keras.Input(x.shape[1:], dtype="float32"), layer])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    loss = model.fit(x, y, batch_size=8, verbose=0).history["loss"][0]
    assert layer.deviations.dtype == layer.variable_dtype
    for value in layer.penalties().values():
        assert keras.backend.standardize_dtype(value.dtype) == "float32"
    expected = data_loss(model, x, y) + total_penalty(layer)
    half = "16" in policy
    np.testing.assert_allclose(loss, expected, rtol=2e-2 if half else 1e-4)
    # The penalty alone, without the rounding of the outputs.
    np.testing.assert_allclose(
        in_all(layer.penalties().values()), total_penalty(layer), rtol=1e-5
    )


def twice(layer, shape):
    """A model that calls the layer on two inputs."""
    first, second = keras.Input(shape), keras.Input(shape)
    outputs = keras.layers.Add()([layer(first), layer(second)])
    return keras.Model([first, second], outputs)


@registrations
@jit_compile_in_rings
def test_a_shared_layer_counts_once(images, registration, jit_compile):
    x, y = images
    layer = SoftConv2D(
        3, 3, padding="same", deviation_initializer="glorot_uniform",
        kernel_regularizer="l2", activity_regularizer=regularizers.L2(1e-9),
        penalty_registration=registration, **STRONG,
    )  # fmt: skip
    model = twice(layer, x.shape[1:])
    kernel_penalty = 0.01 * (to_numpy(layer.shared_kernel) ** 2).sum()
    outputs = to_numpy(model([x, x]))
    expected = np.mean((outputs - y) ** 2) + total_penalty(layer) + kernel_penalty
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=jit_compile)
    loss = model.fit([x, x], y, batch_size=8, verbose=0).history["loss"]
    np.testing.assert_allclose(loss, [expected], rtol=1e-4)


@registrations
def test_nested_time_distributed_and_stateless(images, registration):
    x, y = images
    inner = soft_model(penalty_registration=registration, **STRONG)
    model = keras.Sequential(
        [keras.Input((1, *x.shape[1:])), keras.layers.TimeDistributed(inner)]
    )
    layer = inner.layers[0]
    expected = data_loss(inner, x, y) + total_penalty(layer)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    loss = model.fit(x[:, None], y[:, None], batch_size=8, verbose=0).history["loss"]
    np.testing.assert_allclose(loss, [expected], rtol=1e-4)
    _, losses = outputs_and_losses(model, x[:, None], model.trainable_variables)
    np.testing.assert_allclose(in_all(losses), total_penalty(layer), rtol=1e-5)


@registrations
def test_losses_of_a_layer_called_again_are_not_added_up(images, registration):
    x, _ = images
    layer = soft_model(penalty_registration=registration, **STRONG).layers[0]
    for _ in range(3):
        layer(x)
        np.testing.assert_allclose(in_all(layer.losses), total_penalty(layer), rtol=1e-5)


class Subclass(SoftConv2D):
    """Adds a loss of its own before the layer's."""

    def call(self, inputs):
        self.add_loss(keras.ops.mean(inputs) * 0.0)
        return super().call(inputs)


@registrations
def test_losses_of_a_subclass_do_not_hide_the_penalties(images, registration):
    x, y = images
    layer = Subclass(
        3, 3, padding="same", deviation_initializer="glorot_uniform",
        penalty_registration=registration, **STRONG,
    )  # fmt: skip
    model = twice(layer, x.shape[1:])
    outputs = to_numpy(model([x, x]))
    expected = np.mean((outputs - y) ** 2) + total_penalty(layer)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    loss = model.fit([x, x], y, batch_size=8, verbose=0).history["loss"]
    np.testing.assert_allclose(loss, [expected], rtol=1e-4)


@registrations
def test_a_layer_made_frozen_has_no_penalty(images, registration):
    x, _ = images
    layer = SoftConv2D(
        3, 3, trainable=False, deviation_initializer="ones",
        penalty_registration=registration, **STRONG,
    )  # fmt: skip
    layer(x)
    assert layer.losses == []
    assert in_all(layer.penalties().values()) == 0.0


@registrations
def test_frozen_deviations_have_no_penalty(images, registration):
    x, y = images
    model = soft_model(penalty_registration=registration, **STRONG)
    layer = model.layers[0]
    model.trainable = False
    model.compile(keras.optimizers.SGD(0.0), "mse")
    np.testing.assert_allclose(
        model.evaluate(x, y, verbose=0), data_loss(model, x, y), rtol=1e-4
    )
    assert layer.losses == []
    assert [to_numpy(value) for value in layer.penalties().values()] == [0.0, 0.0]


@not_on_keras_2("freezes whole layers")
@registrations
def test_deviations_that_are_frozen_alone_have_no_penalty(images, registration):
    x, _ = images
    layer = soft_model(penalty_registration=registration, **STRONG).layers[0]
    layer.deviations.trainable = False
    layer(x)
    biases = 0.5 * (to_numpy(layer.bias_deviations) ** 2).sum()
    np.testing.assert_allclose(in_all(layer.losses), biases, rtol=1e-5, atol=1e-8)


@registrations
def test_the_same_after_saving(images, registration, tmp_path):
    x, y = images
    model = soft_model(penalty_registration=registration, **STRONG)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.layers[0].tie_strength.assign(2.0)
    before = model.evaluate(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].penalty_registration == registration
    np.testing.assert_allclose(loaded.evaluate(x, y, verbose=0), before, rtol=1e-6)


@registrations
def test_strengths_change_without_retracing(images, registration, monkeypatch):
    x, y = images
    model = soft_model(penalty_registration=registration, **STRONG)
    layer = model.layers[0]
    traces = []
    product = layer.weight_sharing.product
    monkeypatch.setattr(
        layer.weight_sharing,
        "product",
        lambda *tensors: traces.append(1) or product(*tensors),
    )
    model.compile(keras.optimizers.SGD(0.0), "mse")
    base = model.evaluate(x, y, verbose=0)
    traced, penalty = len(traces), total_penalty(layer)
    for strength in (0.0, 5.0):
        layer.tie_strength.assign(strength)
        layer.off_template_strength.assign(strength)
        np.testing.assert_allclose(
            model.evaluate(x, y, verbose=0), base + (strength - 1) * penalty, rtol=1e-4
        )
    assert traced > 0
    if BACKEND != "torch":  # which traces nothing
        assert len(traces) == traced


def test_regularizers_that_return_vectors_or_plain_numbers(images):
    x, y = images
    layer = SoftConv2D(
        3, 3, padding="same", deviation_initializer="ones", use_bias=False,
        tie_regularizer=lambda deviations: keras.ops.square(deviations),
        off_template_regularizer=lambda deviations: 2.5,
    )  # fmt: skip
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    loss = model.fit(x, y, batch_size=8, verbose=0).history["loss"]
    expected = data_loss(model, x, y) + layer.template_mask().sum() + 2.5
    np.testing.assert_allclose(loss, [expected], rtol=1e-5)


@pytest.mark.slow
def test_penalties_shrink_what_they_are_put_on(images):
    x, y = images
    model = soft_model(**STRONG)
    layer = model.layers[0]
    before = total_penalty(layer)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(x, y, epochs=50, verbose=0)
    assert total_penalty(layer) < 0.02 * before


@registrations
@not_on_keras_2("has no such scope")
def test_rematerialization(images, registration):
    x, y = images
    with keras.RematScope(mode="full"):
        layer = SoftConv2D(
            3, 3, padding="same", deviation_initializer="glorot_uniform",
            penalty_registration=registration, **STRONG,
        )  # fmt: skip
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    expected = data_loss(model, x, y) + total_penalty(layer)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    loss = model.fit(x, y, batch_size=8, verbose=0).history["loss"]
    np.testing.assert_allclose(loss, [expected], rtol=1e-4)


# Synchronized batch normalization on two devices makes Keras lose half of the losses
# that are added in `call`, here as with any layer. Devices are fixed at start-up, hence
# a process of its own.
TWO_DEVICES = """
import keras, numpy as np, tensorflow as tf
from keras_softconv import SoftConv2D

cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
for devices in (["CPU:0"], ["CPU:0", "CPU:1"]):
    with tf.distribute.MirroredStrategy(devices).scope():
        layer = SoftConv2D(
            1, 3, deviation_initializer="ones", kernel_initializer="zeros",
            penalty_registration="regularizer", tie_regularizer=keras.regularizers.L2(1),
            off_template_regularizer=keras.regularizers.L2(1),
        )
        model = keras.Sequential([
            keras.Input((4, 4, 1)), layer,
            keras.layers.BatchNormalization(synchronized=True),
        ])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    x = np.zeros((4, 4, 4, 1), "float32")
    model.fit(x, np.zeros((4, 2, 2, 1)), batch_size=4, verbose=0)
    deviations = layer.get_weights()[1]
    print(deviations.max(), deviations.min())
"""


@pytest.mark.slow
@tensorflow_only
def test_regularizers_survive_synchronized_batch_normalization():
    # One step of rate 0.1 on the penalty w ** 2 alone takes 1 to 0.8.
    weights = [float(word) for word in run("-c", TWO_DEVICES).split()]
    np.testing.assert_allclose(weights, [0.8] * 4, rtol=1e-6)
