"""Classifiers whose strengths are learned, and their data."""

import keras
from backends import KERAS_2
from cheap_training import uncompiled

from keras_softconv import SoftConv1D

L2 = keras.regularizers.L2
CLASSES = 3
LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
TIES = "model/soft/tie_strength"


def draw(rng, number=48):
    x = rng.normal(size=(number, 6, 1)).astype("float32")
    return x, rng.integers(CLASSES, size=number)


def classifier(*between):
    """A network with a ridge at each place, and other layers between."""
    ridges = {"tie_regularizer": L2(0.01), "off_template_regularizer": L2(0.01)}
    layers = [
        SoftConv1D(2, 3, activation="relu", name="soft", **ridges),
        *between,
        keras.layers.Flatten(),
        keras.layers.Dense(CLASSES, kernel_regularizer=L2(0.02), name="head"),
    ]
    return keras.Sequential([keras.Input((6, 1)), *layers], name="model")


def fitted(model, callback, x, y, loss=LOGITS, epochs=2, rate=0.01):
    model.compile(keras.optimizers.Adam(rate), loss)
    callbacks = callback if isinstance(callback, list) else [callback]
    with uncompiled():
        model.fit(x, y, batch_size=16, epochs=epochs, verbose=0, callbacks=callbacks)
    return model


class Batches(keras.utils.Sequence if KERAS_2 else keras.utils.PyDataset):
    num_batches = 6

    def __init__(self, x, y):
        if not KERAS_2:
            super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return self.x[8 * index :][:8], self.y[8 * index :][:8]
