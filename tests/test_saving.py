"""Saved, copied and exported models are the same models."""

import json

import keras
import numpy as np
import pytest
from backends import BACKEND, not_on, not_on_keras_2, tensorflow_only
from cheap_training import random_images
from keras.ops import convert_to_numpy as to_numpy
from processes import run, skip_without
from soft_models import compile_and_build, export, soft_model

from keras_softconv import SoftConv1D, SoftConv2D, SoftConv3D

each_halo = pytest.mark.parametrize("halo", [None, 1], ids=["dense", "halo"])
# For exports, which take long.
each_halo_in_rings = pytest.mark.parametrize(
    "halo", [None, pytest.param(1, marks=pytest.mark.slow)], ids=["dense", "halo"]
)


def trained_model(images, **arguments) -> keras.Model:
    """With weights, optimizer slots and a strength that are not the first ones."""
    model = soft_model(**{"tie_regularizer": keras.regularizers.L1(0.25)} | arguments)
    compile_and_build(model, "adam")
    train(model, images, epochs=2)
    model.layers[0].tie_strength.assign(7.0)
    return model


@pytest.fixture(scope="module")
def trained():
    """A trained model of each storage, for the tests that only look at it."""
    keras.utils.set_random_seed(0)
    return {halo: trained_model(random_images(), halo=halo) for halo in (None, 1)}


def train(model, images, epochs) -> list[float]:
    arguments = {"batch_size": 2, "epochs": epochs, "shuffle": False, "verbose": 0}
    return model.fit(*images, **arguments).history["loss"]


def assert_same_model(copy, model, images):
    layer, original = copy.layers[0], model.layers[0]
    assert layer is not original
    assert layer.get_config() == original.get_config()
    assert float(layer.tie_strength) == 7.0
    np.testing.assert_array_equal(
        copy.predict(images[0], verbose=0), model.predict(images[0], verbose=0)
    )


@each_halo
class TestSaving:
    def test_keras_file(self, images, tmp_path, halo, trained):
        model = trained[halo]
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert_same_model(loaded, model, images)
        losses = [one.evaluate(*images, verbose=0) for one in (loaded, model)]
        assert losses[0] == losses[1]

    def test_weights_file(self, tmp_path, halo, trained):
        model, other = trained[halo], soft_model(halo=halo)
        model.save_weights(tmp_path / "model.weights.h5")
        other.load_weights(tmp_path / "model.weights.h5")
        for ours, theirs in zip(other.weights, model.weights, strict=True):
            np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))

    def test_clone(self, images, halo, trained):
        model = trained[halo]
        clone = keras.models.clone_model(model)
        assert float(clone.layers[0].tie_strength) == 1.0  # weights are new
        clone.set_weights(model.get_weights())
        assert_same_model(clone, model, images)

    def test_goes_on_training_as_if_it_had_not_been_saved(self, images, tmp_path, halo):
        model = trained_model(images, halo=halo)
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        losses = train(model, images, epochs=3)
        np.testing.assert_allclose(train(loaded, images, epochs=3), losses, rtol=1e-6)
        assert int(to_numpy(loaded.optimizer.iterations)) == 20

    def test_explicit_padding_survives(self, images, tmp_path, halo):
        model = keras.Sequential(
            [keras.Input((5, 4, 2)), SoftConv2D(2, 3, padding=(1, (0, 2)), halo=halo)]
        )
        model.layers[0].tie_strength.assign(7.0)
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert_same_model(loaded, model, images)
        assert loaded.layers[0].padding == ((1, 1), (0, 2))


@pytest.mark.parametrize(
    "layer",
    [
        SoftConv1D(2, 3, padding=((2, 0),), dilation_rate=2, halo=1),
        SoftConv2D(2, (3, 2), padding=(1, (0, 2)), strides=(1, 2), activation="relu"),
        SoftConv3D(2, 3, padding=((1, 0), 2, (0, 1)), bias_constraint="non_neg"),
        SoftConv2D(4, 3, padding="circular", data_format="channels_first", groups=2),
    ],
    ids=["1D", "2D", "3D", "words"],
)
def test_configuration_survives_as_json_of_lists(layer):
    config = layer.get_config()
    assert type(layer).from_config(config).get_config() == config
    as_lists = json.loads(json.dumps(config))  # which has no tuples
    assert type(layer).from_config(as_lists).get_config() == config


OTHER_PROCESS = """
import sys, keras, numpy as np, keras_softconv
from soft_models import soft_model

x = np.load("x.npy")
for storage, halo in (("dense", None), ("halo", 1)):
    loaded = keras.models.load_model(f"here-{storage}.keras", compile=False)
    np.save(f"loaded-{storage}.npy", loaded.predict(x, verbose=0))
    model = soft_model(halo=halo, tie_regularizer="l1")
    model.compile("adam", "mse")
    model.fit(x, np.ones((len(x), *model.output_shape[1:])), verbose=0)
    np.save(f"there-{storage}.npy", model.predict(x, verbose=0))
    model.save(f"there-{storage}.keras")
"""


BACKENDS = ["tensorflow", "jax", "torch"]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_there_and_back_again_between_backends(
    images, tmp_path, backend, monkeypatch, trained
):
    if BACKENDS.index(backend) <= BACKENDS.index(BACKEND):
        pytest.skip("the test goes from the first of two backends to the second and back")
    skip_without(backend)
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", images[0])
    models = {"dense": trained[None], "halo": trained[1]}
    for storage, model in models.items():
        model.save(f"here-{storage}.keras")
    run("-c", OTHER_PROCESS, KERAS_BACKEND=backend)
    for storage, model in models.items():
        loaded = keras.models.load_model(f"there-{storage}.keras", compile=False)
        for name, ours in (("loaded", model), ("there", loaded)):
            np.testing.assert_allclose(
                np.load(f"{name}-{storage}.npy"),
                ours.predict(images[0], verbose=0),
                rtol=1e-5,
                atol=1e-5,
            )


@each_halo_in_rings
@not_on("torch", "has no SavedModel")
@pytest.mark.filterwarnings("ignore:The `native_serialization` parameter")  # of jax2tf
def test_saved_model(images, tmp_path, halo, trained):
    tensorflow = pytest.importorskip("tensorflow")
    model = trained[halo]
    export(model, tmp_path / "export")
    exported = tensorflow.saved_model.load(tmp_path / "export")
    outputs = exported.serve(images[0])
    expected = model.predict(images[0], verbose=0)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


@tensorflow_only
def test_large_layer_exports_a_small_graph(tmp_path):
    # 33.5 million weights; a mask or id array of that size would be 134 MB.
    layer = SoftConv2D(2, 3, padding="same")
    model = keras.Sequential([keras.Input((64, 64, 1)), layer])
    assert np.prod(layer.deviations.shape) > 33e6
    export(model, tmp_path / "export")
    assert (tmp_path / "export" / "saved_model.pb").stat().st_size < 5e6


@each_halo_in_rings
@tensorflow_only
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
@not_on_keras_2("leaves that to TensorFlow's converter")
def test_litert(images, tmp_path, halo, trained):
    tensorflow = pytest.importorskip("tensorflow")
    model, path = trained[halo], str(tmp_path / "model.tflite")
    model.export(path, format="litert", verbose=False)
    interpreter = tensorflow.lite.Interpreter(path)
    run_signature = interpreter.get_signature_runner()
    (name,) = run_signature.get_input_details()
    (outputs,) = run_signature(**{name: images[0][:1]}).values()
    expected = model.predict(images[0][:1], verbose=0)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


@each_halo
@pytest.mark.filterwarnings("ignore")  # of the converters
def test_onnx(images, tmp_path, halo):
    converters = {"tensorflow": "tf2onnx", "torch": "onnxscript", "jax": "jax2onnx"}
    pytest.importorskip(converters[BACKEND])
    runtime = pytest.importorskip("onnxruntime")
    # Not with an L1 penalty that is added in `call`, by whatever layer: tf2onnx fails.
    model = trained_model(images, halo=halo, tie_regularizer=keras.regularizers.L2(0.25))
    path = str(tmp_path / "model.onnx")
    model.export(path, format="onnx", verbose=False)
    session = runtime.InferenceSession(path)
    (argument,) = session.get_inputs()
    (outputs,) = session.run(None, {argument.name: images[0][:1]})
    expected = model.predict(images[0][:1], verbose=0)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
