"""Weights that are saved by one Keras load in the other, with the same predictions."""

import os

import numpy as np
import pytest
from processes import run

import keras_softconv
from keras_softconv.compat import keras

PYTHON_OF_KERAS_3 = os.environ.get("KERAS_3_PYTHON")
pytestmark = pytest.mark.skipif(
    PYTHON_OF_KERAS_3 is None, reason="needs a Python with Keras 3 in KERAS_3_PYTHON"
)


def make_model() -> keras.Model:
    """Every storage, and Keras's own layers before, between and after."""
    soft = {"deviation_initializer": "glorot_uniform"}
    mixture = keras_softconv.regularizers.GaussianMixture(factor=0.1, components=2)
    layers = [
        keras.layers.Conv2D(2, 3, name="conv"),
        keras_softconv.SoftConv2D(3, 3, padding="same", name="dense", **soft),
        keras.layers.BatchNormalization(name="normalized"),
        keras_softconv.SoftConv2D(
            2, 2, halo=1, tie_regularizer=mixture, name="halo", **soft
        ),
        keras.layers.Reshape((-1, 2), name="signal"),
        keras_softconv.SoftConv1D(2, 3, padding="causal", name="causal", **soft),
        keras.layers.Flatten(name="flat"),
        keras.layers.Dense(2, name="last"),
    ]
    return keras.Sequential([keras.Input((8, 7, 1)), *layers], name="model")


def inputs() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, 8, 7, 1)).astype("float32")


def train_and_save(folder) -> None:
    model = make_model()
    model.compile("adam", "mse")
    model.fit(inputs(), np.ones((4, 2)), epochs=3, verbose=0)
    model.layers[1].tie_strength.assign(7.0)
    model.save_weights(f"{folder}/model.weights.h5")
    model.save(f"{folder}/model.h5")
    np.savez(f"{folder}/weights.npz", *model.get_weights())
    np.save(f"{folder}/predictions.npy", model.predict(inputs(), verbose=0))


def load_and_compare(folder, way) -> None:
    model = make_model()
    if way == "weights.npz":
        model.set_weights(list(np.load(f"{folder}/{way}").values()))
    else:
        model.load_weights(f"{folder}/{way}")
    expected = np.load(f"{folder}/predictions.npy")
    found = model.predict(inputs(), verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert float(model.layers[1].tie_strength) == 7.0


def with_keras_3(call) -> None:
    program = f"import door, keras, test_two_stacks; test_two_stacks.{call}"
    check = "assert keras.__version__ >= '3'"
    run("-c", f"{program}; {check}", python=PYTHON_OF_KERAS_3, KERAS_BACKEND="tensorflow")


@pytest.fixture(scope="module", params=["Keras 2 to 3", "Keras 3 to 2"])
def saved(request, tmp_path_factory):
    """A folder with what one Keras saved, and how the other one loads it."""
    folder = tmp_path_factory.mktemp("saved")
    if request.param == "Keras 2 to 3":
        train_and_save(folder)
        return folder, lambda way: with_keras_3(f"load_and_compare('{folder}', '{way}')")
    with_keras_3(f"train_and_save('{folder}')")
    return folder, lambda way: load_and_compare(folder, way)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5:UserWarning")
@pytest.mark.parametrize("way", ["model.weights.h5", "model.h5", "weights.npz"])
def test_weights_go_from_one_to_the_other(saved, way):
    _, load = saved
    load(way)
