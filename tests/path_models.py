"""A model with one soft layer, and data for it, of the tests of paths."""

import keras
import numpy as np

from keras_softconv import SoftConv1D

L2 = keras.regularizers.L2


def new_model(optimizer=None, loss="mse"):
    layer = SoftConv1D(
        1, 3, tie_regularizer=L2(0.1), off_template_regularizer=L2(0.1), name="soft"
    )
    model = keras.Sequential([keras.Input((6, 1)), layer], name="model")
    model.compile(optimizer or keras.optimizers.Adam(0.05), loss)
    return model


def noisy_convolutions():
    """Noisy convolutions with a problem child, to train and to validate on."""
    rng = np.random.default_rng(0)
    kernel = sum(np.eye(6, 4, -tap) * (1 + tap) for tap in range(3))
    kernel[:, 1] *= -1
    x = rng.normal(size=(60, 6, 1)).astype("float32")
    y = x[..., 0] @ kernel + rng.normal(size=(60, 4))
    y = y.astype("float32")[..., None]
    return (x[:40], y[:40]), (x[40:], y[40:])
