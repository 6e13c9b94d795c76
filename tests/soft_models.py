"""Layers and models that several test files train."""

import keras
import numpy as np
from conv_cases import CASES_2D

from keras_softconv import SoftConv2D

each_case = (CASES_2D.values(), CASES_2D.keys())


def random_layer(case, rng, **arguments) -> SoftConv2D:
    """A built layer of a case, all of its weights random."""
    grid, in_channels, filters, conv_arguments = case
    layer = SoftConv2D(filters, **conv_arguments | arguments)
    layer.build((None, *grid, in_channels))
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    return layer


def soft_model(name="soft", **arguments) -> keras.Model:
    """The model for the `images` fixture."""
    arguments = {"deviation_initializer": "glorot_uniform", **arguments}
    layer = SoftConv2D(3, 3, padding="same", name=name, **arguments)
    return keras.Sequential([keras.Input((5, 4, 2)), layer])


def numpy_weights(layer) -> dict[str, np.ndarray]:
    """Trainable weights by name, in float64."""
    return {
        weight.name: keras.ops.convert_to_numpy(weight).astype("float64")
        for weight in layer.trainable_weights
    }


def dense_deviations(layer) -> np.ndarray:
    """The deviations in the dense kernel's shape, in float64."""
    shared = np.zeros(layer.shared_kernel.shape, layer.shared_kernel.dtype)
    deviations = keras.ops.convert_to_tensor(layer.deviations)
    kernel = layer.weight_sharing.kernel(shared, deviations)
    return keras.ops.convert_to_numpy(kernel).astype("float64")
