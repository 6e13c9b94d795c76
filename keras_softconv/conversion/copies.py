"""Copies of layers: what Keras's `from_config` leaves behind is carried over."""

from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from keras_softconv.compat import build_like, keras, ops
from keras_softconv.conversion.checks import check_no_lora
from keras_softconv.diagnostics import layers_within

Tensor = Any


def unbuilt_copy_of(layer: keras.Layer) -> keras.Layer:
    """A layer, or another operation, of the same class and arguments."""
    config = layer.get_config()
    if type(layer) is keras.layers.Lambda:
        # Its functions as they are: in the config they are bytes.
        base = {name: config[name] for name in ("name", "trainable", "dtype")}
        functions = layer.function, layer._output_shape, getattr(layer, "mask", None)
        return type(layer)(*functions, layer.arguments, **base)
    return type(layer).from_config(config)


def copy_of(layer: keras.Layer) -> keras.Layer:
    """The same with its weights."""
    copy = unbuilt_copy_of(layer)
    carry_state(layer, copy)
    return copy


def carry_state(layer: keras.Layer, copy: keras.Layer) -> None:
    """Give a copy the layer's weights, what it computes from them, and what is frozen."""
    if layer.built and not copy.built:
        build_like(copy, layer)
    for source, target in zip(layers_within(layer), layers_within(copy), strict=True):
        check_no_lora(source)
        target.trainable = source.trainable  # passed on to the layers below, then theirs
        store = {}
        source.save_own_variables(store)
        target.load_own_variables({name: _own(value) for name, value in store.items()})
        if hasattr(source, "save_assets"):  # vocabularies
            with TemporaryDirectory() as folder:
                source.save_assets(folder)
                target.load_assets(folder)
    for variable, target in zip(layer.variables, copy.variables, strict=True):
        carry_trainable(variable, target)


def carry_weight(source: keras.Variable, value: Tensor, *targets: keras.Variable) -> None:
    """Give a value to the first of the targets; they are all as trainable as the source."""
    targets[0].assign(_own(value))
    for target in targets:
        carry_trainable(source, target)


def carry_trainable(source: keras.Variable, target: keras.Variable) -> None:
    """Make a weight as trainable as another."""
    if isinstance(source, keras.Variable) and target.trainable != source.trainable:
        target.trainable = source.trainable


def _own(value: Tensor) -> np.ndarray:
    # On JAX two variables may share one buffer, which the next step of training gives away.
    return np.array(ops.convert_to_numpy(value))
