"""Where the strengths go to their ends in training, the layer ends as a Conv2D."""

import keras
import numpy as np
import pytest
from backends import BACKEND

from keras_softconv import SoftConv2D

pytestmark = pytest.mark.slow  # trains for long

STEPS = 600
# At once, where Keras can.
STEPS_PER_EXECUTION = 1 if BACKEND == "torch" else 50


@pytest.fixture(scope="module")
def task():
    """Regression on a convolution: 8x8x1 images, 3x3 'valid', two filters, noise 0.5."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(3, 3, 1, 2)).astype("float32") / 3
    images = rng.normal(size=(1100, 8, 8, 1)).astype("float32")
    signal = keras.ops.convert_to_numpy(keras.ops.conv(images, truth))
    noisy = signal + 0.5 * rng.normal(size=signal.shape)
    return (images[:100], noisy[:100]), (images[100:], noisy[100:])


def error_on_test_images(layer, task) -> float:
    """Mean squared test error after Adam with a rate decaying from 1e-2."""
    (x, y), test = task
    model = keras.Sequential([keras.Input((8, 8, 1)), layer])
    rate = keras.optimizers.schedules.CosineDecay(1e-2, STEPS)
    optimizer = keras.optimizers.Adam(rate)
    model.compile(
        optimizer, "mse", metrics=["mse"], steps_per_execution=STEPS_PER_EXECUTION
    )
    repeated = (np.concatenate([part] * 50) for part in (x, y))
    model.fit(*repeated, batch_size=100, shuffle=False, epochs=STEPS // 50, verbose=0)
    return model.evaluate(*test, batch_size=1000, verbose=0, return_dict=True)["mse"]


@pytest.fixture(scope="module")
def conv_error(task):
    keras.utils.set_random_seed(0)
    return error_on_test_images(keras.layers.Conv2D(2, 3), task)


@pytest.mark.parametrize("start", ["zeros", "glorot_uniform"], ids=["conv", "dense"])
@pytest.mark.parametrize(
    # The gradients that lead there are compared on every backend: one strength will do.
    "strength",
    [1e2, 1e4, 1e6] if BACKEND == "tensorflow" else [1e4],
)
def test_strong_penalties_end_at_the_convolution(task, conv_error, start, strength):
    ridge = keras.regularizers.L2(strength)
    layer = SoftConv2D(
        2, 3, deviation_initializer=start,
        tie_regularizer=ridge, off_template_regularizer=ridge,
    )  # fmt: skip
    assert abs(error_on_test_images(layer, task) / conv_error - 1) < 0.01


def test_without_penalties_it_overfits_as_a_dense_layer_does(task, conv_error):
    # The counter-proof: on 100 images the 36 * 2 * 64 free weights are far too many.
    layer = SoftConv2D(2, 3, tie_regularizer=None, off_template_regularizer=None)
    assert error_on_test_images(layer, task) > 1.2 * conv_error
