"""From Keras 2's locally connected layers to SoftConv layers."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from keras_softconv.compat import keras, offer_to_keras
from keras_softconv.conversion.checks import (
    check_old_config,
    check_old_weights_are_arrays,
)
from keras_softconv.conversion.old_layers import (
    LocallyConnected1D,
    LocallyConnected2D,
    OldLocallyConnected,
)
from keras_softconv.diagnostics import functional_class
from keras_softconv.geometry import Geometry
from keras_softconv.layers import BaseSoftConv

Shape = tuple[int, ...]

CLASSES = {1: LocallyConnected1D, 2: LocallyConnected2D}
# The short names of losses, which Keras 3 understands everywhere but in old `.h5` files.
# They stand for the long names and not for functions, since metrics have such names too.
LOSSES = {
    "bce": "binary_crossentropy",
    "kld": "kl_divergence",
    "mae": "mean_absolute_error",
    "mape": "mean_absolute_percentage_error",
    "mse": "mean_squared_error",
    "msle": "mean_squared_logarithmic_error",
}


class OldFunctional:
    """What stands for the class of functional models, whose module has moved since."""

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> keras.Model:
        for layer in config["layers"]:
            axis = layer["config"].get("axis")
            if layer["class_name"] == "BatchNormalization" and isinstance(axis, list):
                layer["config"]["axis"] = axis[0]
        return functional_class().from_config(config, custom_objects=custom_objects)


def legacy_objects() -> dict[str, Any]:
    """The custom objects with which Keras 3 loads Keras 2's locally connected layers.

        model = keras.models.load_model(path, custom_objects=legacy_objects())

    Keras 3 has neither `LocallyConnected1D` nor `LocallyConnected2D`. A `SoftConv1D` or
    `SoftConv2D` with `halo=0` has a weight for each of theirs, and takes their place:

        shared_kernel, shared_bias = means over the output positions
        deviations, bias_deviations = the old weights minus these means
        tie_strength = off_template_strength = 0

    The model predicts what it predicted. It can be saved as any other, and its file is then
    loaded without custom objects. `layer.tie_strength.assign(1.0)` turns the ties on, from
    where the weights are. They are ridges, or what the `kernel_regularizer` was if that is
    an L1, an L2 or both; the loss of the loaded model has no penalty of the old kernel.
    Other regularizers and constraints of kernel and bias are left out, with a warning.

    Both `.h5` and `.keras` files are read. The classes take the arguments of Keras 2, so
    that the code of the old model makes it again, and `model.load_weights` reads its
    weights. Compile the model again before it is trained: the slots of its optimizer
    belong to the old weights. The guide names what Keras itself cannot read.

    For `.keras` files Keras looks into `keras.layers` rather than into `custom_objects`.
    This function puts both classes there.

    Returns:
        A dict by name of `LocallyConnected1D`, `LocallyConnected2D`, and what else Keras
        does not find in old files: `Functional`, and the long names of losses by short
        ones such as "mse".

    Raises:
        NotImplementedError: with Keras 2, which has the layers themselves.

    Examples:
        >>> objects = keras_softconv.legacy_objects()
        >>> layer = objects["LocallyConnected2D"](4, 3)
        >>> layer.build((None, 8, 8, 1))
        >>> [weight.shape for weight in layer.weights]
        [(36, 9, 4), (6, 6, 4)]
        >>> layer.set_weights([np.ones((36, 9, 4)), np.ones((6, 6, 4))])
        >>> type(layer).__name__
        'SoftConv2D'
    """
    classes = {cls.__name__: cls for cls in CLASSES.values()}
    offer_to_keras(classes)
    capitals = {name.upper(): loss for name, loss in LOSSES.items()}
    return classes | {"Functional": OldFunctional} | LOSSES | capitals


def from_locally_connected(
    config: dict[str, Any],
    weights: Sequence[np.ndarray],
    input_shape: Shape | None = None,
) -> BaseSoftConv:
    """A SoftConv layer that computes what a locally connected layer of Keras 2 computes.

    This is for weights without a file that Keras can load. `legacy_objects` says what the
    layer holds.

    Args:
        config: `layer.get_config()` of the old layer.
        weights: `layer.get_weights()` of the old layer, `[kernel]` or `[kernel, bias]`.
        input_shape: shape of one input, without the batch axis. It may be left out where
            the weights show it: with `implementation=2`, and with strides of 1 if there is
            a bias or if the layer has one axis and `implementation=1`.

    Returns:
        A built `SoftConv1D` or `SoftConv2D` with `halo=0`.

    Raises:
        ValueError: for a config that is not such a layer's, weights that do not fit it, or
            an input shape that is missing or does not fit.

    Examples:
        >>> config = {"filters": 2, "kernel_size": (3,), "use_bias": False}
        >>> layer = keras_softconv.from_locally_connected(config, [np.ones((6, 3, 2))])
        >>> type(layer).__name__, layer.halo, tuple(layer(np.ones((1, 8, 1))).shape)
        ('SoftConv1D', 0, (1, 6, 2))
    """
    check_old_config(config)
    weights = check_old_weights_are_arrays(weights)
    layer = CLASSES[len(config["kernel_size"])].from_config(config)
    if input_shape is None:
        input_shape = _input_shape_of(layer, weights)
    layer.build((None, *input_shape))
    layer.load_old_weights(weights)
    return layer


def _input_shape_of(layer: OldLocallyConnected, weights: list[np.ndarray]) -> Shape:
    """The shape of one input, as far as the weights show it."""
    kernel, rank = weights[0], layer.rank
    if layer.implementation == 2 and kernel.ndim == 2 * rank + 2:
        return kernel.shape[: rank + 1]
    output_grid = _output_grid_of(layer, weights)
    if output_grid is None or max(layer.strides) > 1:
        raise ValueError(
            f"The weights of locally connected layer '{layer.name}' do not show the shape "
            "of its input. Expected implementation=2, or strides of 1 and a bias. "
            f"Received: implementation={layer.implementation}, strides={layer.strides}, "
            f"use_bias={layer.use_bias}, weights of shapes {[w.shape for w in weights]}. "
            "Give the `input_shape`, without the batch axis."
        )
    input_grid = output_grid
    if layer.padding == "valid":
        sizes = zip(output_grid, layer.kernel_size, strict=True)
        input_grid = tuple(outputs + taps - 1 for outputs, taps in sizes)
    channels = _channels_of(layer, kernel, input_grid)
    if layer.data_format == "channels_last":
        return (*input_grid, channels)
    return (channels, *input_grid)


def _output_grid_of(layer: OldLocallyConnected, weights: list[np.ndarray]) -> Shape | None:
    bias = weights[-1]
    if layer.use_bias and bias.ndim == layer.rank + 1:
        return bias.shape[:-1]
    kernel = weights[0]
    if layer.implementation == 1 and layer.rank == 1 and kernel.ndim == 3:
        return kernel.shape[:1]
    return None


def _channels_of(layer: OldLocallyConnected, kernel: np.ndarray, input_grid: Shape) -> int:
    """The number of input channels; at least 1, also where the kernel does not fit."""
    if layer.implementation == 1:
        window = kernel.shape[1] if kernel.ndim == 3 else 0
        return max(window // prod(layer.kernel_size), 1)
    of_one_channel = Geometry(
        input_grid,
        layer.kernel_size,
        layer.strides,
        layer.dilation_rate,
        layer._padding_for(input_grid),
        in_channels=1,
        filters=layer.filters,
    )
    return max(kernel.size // of_one_channel.template_size, 1)
