"""Where the data cannot tell noise from what is learned: warnings and what is done."""

import re
import warnings

import keras
import numpy as np
import pytest
from backends import not_on_keras_2
from cheap_training import ignore_compiled_data, uncompiled
from likelihood_models import CLASSES, L2, LOGITS, TIES, Batches, classifier, draw, fitted

from keras_softconv import SoftConv1D
from keras_softconv.callbacks import AdaptiveStrengths

pytestmark = pytest.mark.filterwarnings(
    ignore_compiled_data, "ignore:Model '.*' has .* trainable weights without a ridge"
)


def warnings_of_a_fit(model, adaptive, x, y):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with uncompiled():
            model.fit(x, y, epochs=3, verbose=0, callbacks=[adaptive])
    return [str(warning.message) for warning in caught]


@pytest.mark.filterwarnings("default:Model '.*' has")
def test_too_many_free_weights_are_warned_of(rng):
    x, y = draw(rng)
    layers = [
        SoftConv1D(2, 3, name="soft"),
        keras.layers.Flatten(),
        keras.layers.Dense(40),
        keras.layers.Dense(CLASSES),
    ]
    model = keras.Sequential([keras.Input((6, 1)), *layers], name="model")
    # 6 + 2 of the soft layer, 9 * 40 and 41 * 3 of the others.
    message = (
        r"491 trainable weights without a ridge that is learned\. Expected at most 90 % as "
        r"many as the 96 numbers in the labels \(48 labels, 2 for each\)"
    )
    with pytest.warns(UserWarning, match=message):
        fitted(model, AdaptiveStrengths(x, y, update_freq=1), x, y, epochs=1)


@not_on_keras_2("moves no regularizer of Keras's own layers")
@pytest.mark.parametrize(("noise", "warned"), [(0.02, 1), (0.1, 0)])
@pytest.mark.parametrize("is_dataset", [False, True])
def test_a_network_that_fits_its_data_entirely_is_warned_of(noise, warned, is_dataset, rng):
    """Although all of its kernels have ridges that are learned."""
    x = rng.normal(size=(48, 6, 1)).astype("float32")
    layers = [
        SoftConv1D(4, 3, halo=0, activation="tanh", name="soft"),
        keras.layers.Flatten(),
        keras.layers.Dense(1, kernel_regularizer=L2(0.1)),
    ]
    model = keras.Sequential([keras.Input((6, 1)), *layers], name="model")
    found = keras.ops.convert_to_numpy(model(x))
    y = 5 + found / found.std() + noise * rng.normal(size=found.shape)
    layers[-1].kernel.assign(layers[-1].kernel / found.std())
    layers[-1].bias.assign([5.0])
    data = (Batches(x, y),) if is_dataset else (x, y)
    adaptive = AdaptiveStrengths(*data, update_freq=1, include="all")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted(model, adaptive, x, y, "mse", epochs=2, rate=0.0)
    message = r"97 weights for 48 labels, and its squared errors are .\..e-04 of"
    assert sum(bool(re.search(message, str(one.message))) for one in caught) == warned


@pytest.mark.parametrize("is_dataset", [False, True])
def test_strengths_stay_where_the_training_diverged(is_dataset, rng):
    x, y = draw(rng)
    x, y = x[:12], y[:12]
    data = (Batches(x, y),) if is_dataset else (x, y)
    model = classifier()
    adaptive = AdaptiveStrengths(*data, update_freq=1)
    model.compile(keras.optimizers.SGD(1e30), LOGITS)
    texts = warnings_of_a_fit(model, adaptive, x, y)
    message = "the loss of the training data is not finite"
    assert sum(message in text for text in texts) == 1
    assert len(adaptive.history) == 3
    assert adaptive.history[0][TIES] == adaptive.history[-1][TIES]
    assert np.isnan(adaptive.history[-1]["log_evidence"])


def test_noise_that_the_data_do_not_tell_has_a_least_value(rng):
    x = rng.normal(size=(6, 6, 1)).astype("float32")
    layer = SoftConv1D(
        1,
        3,
        tie_regularizer=L2(1e-6),
        off_template_regularizer=None,
        deviation_initializer="glorot_uniform",
        name="soft",
    )
    model = keras.Sequential([keras.Input((6, 1)), layer], name="model")
    y = keras.ops.convert_to_numpy(model(x))  # fits entirely
    model.compile(keras.optimizers.SGD(0.0), "mse")
    adaptive = AdaptiveStrengths(x, y, update_freq=1)
    texts = warnings_of_a_fit(model, adaptive, x, y)
    message = "the noise cannot be told from what is learned"
    assert sum(message in text for text in texts) == 1
    least = 1e-3 * y.astype("float64").var(axis=0).mean()
    np.testing.assert_allclose(adaptive.history[-1]["noise_variance"], least, rtol=1e-6)


@pytest.mark.parametrize("is_held", [False, True])
def test_means_of_families_are_left_to_a_shared_kernel_that_is_free(is_held, rng):
    """A held kernel leaves the means to the deviations, which all are determined."""
    x = rng.normal(size=(60, 6, 1)).astype("float32")
    y = rng.normal(size=(60, 4, 1)).astype("float32")
    held = keras.constraints.MaxNorm(0.0) if is_held else None
    options = {"halo": 0, "use_bias": False, "kernel_constraint": held}
    layer = SoftConv1D(1, 3, tie_regularizer=L2(1e-6), name="soft", **options)
    model = keras.Sequential([keras.Input((6, 1)), layer], name="model")
    adaptive = AdaptiveStrengths(x, y, update_freq=1, probes=8)
    fitted(model, adaptive, x, y, "mse", epochs=1)
    found = adaptive.history[0]["model/soft/tie_effective_weights"]
    # Three weights at each of four positions, in three families.
    np.testing.assert_allclose(found, 12 if is_held else 9, rtol=0.02)
