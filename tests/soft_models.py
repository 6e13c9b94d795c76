"""Layers and models that several test files train."""

from functools import cache

import keras
import numpy as np
import pytest
from backends import BACKEND, KERAS_2, at_once
from conv_cases import CASES
from keras import ops

from keras_softconv import SoftConv1D, SoftConv2D, SoftConv3D
from keras_softconv.compat import name_of
from keras_softconv.diagnostics import soft_layers
from keras_softconv.layers import BaseSoftConv
from keras_softconv.weight_sharing import weight_sharing_of

SOFT_CONVS = {1: SoftConv1D, 2: SoftConv2D, 3: SoftConv3D}

# One of each kind, for Keras 2 and where each shape is compiled: all are the same code.
FEW = ("origin", "many_filters", "same_strided", "dilated_same", "groups",
       "circular_strided", "no_member_at_all", "explicit_past_kernel", "causal",
       "volume")  # fmt: skip
names = list(FEW if BACKEND == "jax" or KERAS_2 else CASES)


def ring_of(name) -> list[pytest.MarkDecorator]:
    """The mark of a case in the laws that take long: few cases are for every change."""
    return [] if name in FEW else [pytest.mark.slow]


# For what is only read from layers. JAX compiles each of its operations: one of each rank.
names_to_read = ["same_strided", "causal", "volume"] if BACKEND == "jax" else names


def random_layer(case, rng, **arguments) -> BaseSoftConv:
    """A built layer of a case, all of its weights random."""
    grid, in_channels, filters, conv_arguments = case
    # Random numbers of Keras are not asked for, since JAX compiles anew for each shape.
    arguments = {"kernel_initializer": "zeros", **conv_arguments, **arguments}
    layer = SOFT_CONVS[len(grid)](filters, **arguments)
    layer.build((None, *grid, in_channels))
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    return layer


def weak_ridges() -> dict[str, keras.Regularizer]:
    """Penalties that let a few steps of training change the deviations."""
    return {
        "tie_regularizer": keras.regularizers.L2(1e-3),
        "off_template_regularizer": keras.regularizers.L2(1e-3),
    }


def soft_model(name="soft", **arguments) -> keras.Model:
    """The model for the `images` fixture, with weak ridges if nothing else is asked for."""
    arguments = {"deviation_initializer": "glorot_uniform", **weak_ridges(), **arguments}
    layer = SoftConv2D(3, 3, padding="same", name=name, **arguments)
    return keras.Sequential([keras.Input((5, 4, 2)), layer])


def compile_and_build(model, optimizer, loss="mse", **arguments) -> None:
    """Compiles a model for a short training.

    TensorFlow traces the first step again if the optimizer makes its slots within it, which
    takes longer than all the steps.
    """
    model.compile(optimizer, loss, **arguments)
    model.optimizer.build(model.trainable_variables)


def read(layer, function):
    """What `function(layer)` reads from its weights, as NumPy arrays."""

    def of_weights(*values):
        with keras.StatelessScope(zip(layer.weights, values, strict=True)):
            return function(layer)

    values = map(ops.convert_to_tensor, layer.weights)
    return keras.tree.map_structure(ops.convert_to_numpy, at_once(of_weights)(*values))


def kernel_of(layer):
    return layer.kernel


def call(layer, inputs) -> tuple[np.ndarray, list[np.ndarray]]:
    """Outputs and losses of a layer."""

    def of_weights(inputs, *weights):
        return outputs_and_losses(layer, inputs, weights)

    weights = map(ops.convert_to_tensor, layer.trainable_weights)
    found = at_once(of_weights)(ops.convert_to_tensor(inputs), *weights)
    return keras.tree.map_structure(ops.convert_to_numpy, found)


def outputs_and_losses(layer, inputs, weights) -> tuple:
    """With these values for its trainable weights, or in Keras 2 with those it has."""
    if KERAS_2:
        return layer(inputs), layer.losses
    outputs, _, losses = layer.stateless_call(
        weights, layer.non_trainable_variables, inputs, return_losses=True
    )
    return outputs, losses


def numpy_weights(layer) -> dict[str, np.ndarray]:
    """Trainable weights by name, in float64."""
    return {
        name_of(weight): ops.convert_to_numpy(weight).astype("float64")
        for weight in layer.trainable_weights
    }


def placed(sharing, deviations) -> np.ndarray:
    """Deviations in the dense kernel's shape, where the package itself puts them."""
    deviations = ops.convert_to_tensor(deviations)
    no_kernel = ops.zeros(sharing.geometry.shared_kernel_shape, deviations.dtype)
    return ops.convert_to_numpy(at_once(sharing.kernel)(no_kernel, deviations))


def dense_form(sharing, deviations) -> np.ndarray:
    """The same, for deviations or their gradient.

    Places are found once for each geometry, because many tests ask for them.
    `test_weight_sharing` compares the result with `placed`.
    """
    places = places_of(sharing.geometry)
    stored = ops.convert_to_numpy(deviations).ravel()
    return np.where(places < 0, np.zeros((), stored.dtype), stored[places])


@cache
def places_of(geometry) -> np.ndarray:
    """For each entry of the dense kernel the stored weight that it is, or -1."""
    shape = geometry.deviations_shape
    numbers = np.arange(1, np.prod(shape) + 1, dtype="float32").reshape(shape)
    return placed(weight_sharing_of(geometry), numbers).astype(int) - 1


def dense_deviations(layer) -> np.ndarray:
    """The deviations in the dense kernel's shape, in float64."""
    return dense_form(layer.weight_sharing, layer.deviations).astype("float64")


def path_of(model) -> str:
    """The path of its first SoftConv layer."""
    return next(iter(soft_layers(model)))


def export(model, folder) -> None:
    """As a SavedModel, in silence."""
    model.export(str(folder), **({} if KERAS_2 else {"verbose": False}))
