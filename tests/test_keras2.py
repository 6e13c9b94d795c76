"""What Keras 2 has not is refused with a clear error, which names another way."""

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from processes import run
from soft_models import soft_model

import keras_softconv
from keras_softconv import SoftConv2D, regularizers
from keras_softconv.compat import keras, name_of, ops

user_keras = tf.keras  # as users import it, not by the door


@pytest.mark.parametrize("name", ["ProximalAdam", "ProximalSGD"])
def test_proximal_optimizers_are_refused(name):
    message = rf"{name} needs Keras 3. Received: Keras 2.15.* Here `tensorflow_addons"
    with pytest.raises(NotImplementedError, match=message):
        getattr(keras_softconv.optimizers, name)(1e-3)


def test_a_frozen_structure_is_refused_and_nothing_is_changed(images):
    model = soft_model()
    before = model.get_weights()
    message = r"needs Keras 3. Received: layer 'soft' in Keras 2.15.*without penalties"
    for freeze in (model.layers[0].freeze_structure, freeze_of(model)):
        with pytest.raises(NotImplementedError, match=message):
            freeze()
    for weight, same in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, same)


def test_ridges_of_other_weights_are_not_learned(images):
    model = soft_model()
    model.compile("sgd", "mse")
    adaptive = keras_softconv.callbacks.AdaptiveStrengths(*images, include="all")
    message = "needs Keras 3. Received: `include` in Keras 2.15.*Leave out `include`"
    with pytest.raises(NotImplementedError, match=message):
        model.fit(*images, callbacks=[adaptive], verbose=0)


def freeze_of(model):
    return lambda: keras_softconv.freeze_structure(model)


def test_other_backends_are_refused():
    program = "import keras_softconv"
    with pytest.raises(AssertionError, match=r"runs on TensorFlow only. Received: KERAS_B"):
        run("-c", program, KERAS_BACKEND="jax")
    run("-c", program, KERAS_BACKEND="tensorflow")


@pytest.mark.parametrize("name", ["nonsense", "L3"])
def test_names_that_are_no_regularizers_are_refused(name):
    with pytest.raises(ValueError, match=f"regularizer identifier: {name}. Expected a"):
        SoftConv2D(1, 2, tie_regularizer=name)


def test_names_of_todays_keras_are_understood():
    layer = SoftConv2D(1, 2, tie_regularizer="l1l2")
    assert type(layer.tie_regularizer) is keras.regularizers.L1L2


def test_computed_weights_cannot_be_assigned_to(images):
    layer = soft_model().layers[0]
    for name in ("kernel", "bias"):
        message = rf"The {name} of layer 'soft' cannot be assigned.*Give this one a `{name}"
        with pytest.raises(ValueError, match=message):
            getattr(layer, name).assign(getattr(layer, name))
        with pytest.raises(ValueError, match=message):
            setattr(layer, name, getattr(layer, name))


def test_keras_own_wrapper_is_refused(images):
    wrapped = user_keras.layers.SpectralNormalization(soft_model().layers[0])
    with pytest.raises(ValueError, match="The kernel of layer 'soft' cannot be assigned"):
        wrapped(images[0], training=True)


def test_within_models_of_keras_as_users_import_it(images):
    # `tf.keras` and `keras` are one here.
    layers = user_keras.layers
    soft = SoftConv2D(3, 3, padding="same", name="soft")
    inputs = user_keras.Input((1, 5, 4, 2))
    model = user_keras.Model(inputs, layers.TimeDistributed(soft)(inputs))
    model.compile("adam", "mse")
    x, y = (array[:, None] for array in images)
    model.fit(x, y, verbose=0)
    copy = user_keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(copy.predict(x, verbose=0), model.predict(x, verbose=0))
    assert list(keras_softconv.structure_report(model)) == ["time_distributed/soft"]


def test_a_wrapped_layer_keeps_its_regularizers_and_keras_its_names(tmp_path):
    ties = regularizers.DistanceWeighted(regularizers.Huber(0.5, 2.0))
    soft = SoftConv2D(2, 3, off_template_regularizer=ties, name="soft")
    timed = user_keras.layers.TimeDistributed(soft, name="timed")
    model = user_keras.Sequential([user_keras.Input((1, 5, 4, 2)), timed])
    model.save(tmp_path / "model.keras")
    for copy in (
        user_keras.models.clone_model(model),
        user_keras.models.load_model(tmp_path / "model.keras"),
    ):
        found = copy.get_layer("timed").layer.off_template_regularizer
        assert found.get_config() == ties.get_config()
    # Both have a `Huber`.
    assert isinstance(user_keras.losses.get("Huber"), user_keras.losses.Huber)


def test_a_penalty_counts_once_however_often_the_layer_is_called(images):
    x, y = images[0], images[0]
    ridge = user_keras.regularizers.L2(1e-3)
    soft = SoftConv2D(
        2, 3, padding="same", deviation_initializer="ones", tie_regularizer=ridge,
        off_template_regularizer=ridge, name="soft",
    )  # fmt: skip
    inputs = user_keras.Input(x.shape[1:])
    model = user_keras.Model(inputs, soft(soft(inputs)))
    model.compile(user_keras.optimizers.SGD(0.0), "mse")
    loss = model.evaluate(x, y, verbose=0)
    data = np.mean((model.predict(x, verbose=0) - y) ** 2)
    penalty = 1e-3 * soft.deviations.numpy().size  # ridges of ones; biases start at 0
    np.testing.assert_allclose(loss, data + penalty, rtol=1e-5)


def test_every_operation_is_asked_for():
    # What they compute is shown by the tests of layers and penalties.
    folders = Path(keras_softconv.__file__).parent, Path(__file__).parent
    sources = [path.read_text() for folder in folders for path in folder.rglob("*.py")]
    used = set(re.findall(r"ops\.(\w+)", " ".join(sources)))
    known = {name for name, value in vars(ops).items() if callable(value)}
    assert {name for name in known if name[0].islower()} <= used


def test_regularizers_are_of_this_keras():
    assert isinstance(regularizers.Huber(), user_keras.regularizers.Regularizer)


@pytest.mark.parametrize(
    ("implementation", "padding", "data_format"),
    [
        (1, "valid", "channels_first"),
        (2, "same", "channels_last"),
        (3, "same", "channels_first"),
    ],
)
def test_locally_connected_layers_are_converted(implementation, padding, data_format, rng):
    arguments = {"data_format": data_format, "implementation": implementation}
    for cls, size, shape in (
        (user_keras.layers.LocallyConnected1D, 4, (6, 5)),
        (user_keras.layers.LocallyConnected2D, (2, 3), (5, 4, 6)),
    ):
        old = cls(2, size, padding=padding, activation="tanh", **arguments)
        x = rng.normal(size=(3, *shape)).astype("float32")
        old(x)
        old.set_weights([rng.normal(size=weight.shape) for weight in old.weights])
        weights = [weight.astype("float64") for weight in old.get_weights()]
        soft = keras_softconv.from_locally_connected(old.get_config(), weights, shape)
        assert type(soft) in (keras_softconv.SoftConv1D, keras_softconv.SoftConv2D)
        np.testing.assert_allclose(soft(x), old(x), rtol=1e-5, atol=1e-5)
        assert [name_of(weight) for weight in soft.trainable_weights] == [
            "shared_kernel", "deviations", "shared_bias", "bias_deviations"
        ]  # fmt: skip


def test_old_models_are_loaded_by_keras_2_itself():
    message = "needs Keras 3. Received: Keras 2.15.*`from_locally_connected|from_locally"
    with pytest.raises(NotImplementedError, match=message):
        keras_softconv.legacy_objects()
