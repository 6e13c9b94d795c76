"""Where in a model its SoftConv layers are."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from keras_softconv.compat import keras
from keras_softconv.layers import BaseSoftConv


def soft_layers(model: keras.Layer) -> dict[str, BaseSoftConv]:
    """Every SoftConv layer inside a model, built or not, by its path.

    Layers are found in nested models, in wrappers and in composite layers, and once
    however often they are used. A path is made of the names of all that is around the
    layer: `encoder/block/soft`; the name of a functional model itself is not in it, as
    in Keras's `layer.path`. Unlike that it knows of all that is around a layer, and stays
    the same when the model is reloaded or cloned. Where several layers have the same
    path, the later ones are numbered: `encoder/soft_1`.
    """
    return layers_by_path(model, lambda layer: isinstance(layer, BaseSoftConv))


def layers_by_path(
    model: keras.Layer, is_wanted: Callable[[keras.Layer], bool]
) -> dict[str, keras.Layer]:
    """Some of the layers inside a model, by paths as in `soft_layers`."""
    found: dict[str, keras.Layer] = {}
    for names, layer in _named_layers(model, _root(model), set()):
        if is_wanted(layer):
            path = unnumbered = "/".join(names)
            number = 0
            while path in found:
                number += 1
                path = f"{unnumbered}_{number}"
            found[path] = layer
    return found


def layers_within(layer: keras.Layer) -> Iterator[keras.Layer]:
    """The layer and those below it, each once, in the order of their making."""
    for _, found in _named_layers(layer, (), set()):
        yield found


def _root(model: keras.Layer) -> tuple[str, ...]:
    is_named = isinstance(model, keras.Sequential) or not isinstance(
        model, functional_class()
    )
    return (model.name,) if is_named else ()


@cache
def functional_class() -> type:
    """Keras's class of functional models, which has no public name."""
    inputs = keras.Input((), name="inputs")
    return type(keras.Model(inputs, inputs, name="functional"))


def _named_layers(
    layer: keras.Layer, names: tuple[str, ...], seen: set[int]
) -> Iterator[tuple[tuple[str, ...], keras.Layer]]:
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield names, layer
    for child in _children(layer):
        yield from _named_layers(child, (*names, child.name), seen)


def _children(layer: keras.Layer) -> Iterator[keras.Layer]:
    # A Sequential keeps a functional model that is itself over again.
    attributes = {name: a for name, a in vars(layer).items() if name != "_functional"}
    of_model = [layer.layers] if isinstance(layer, keras.Model) else []
    for attribute in [*of_model, *attributes.values()]:
        for child in _elements(attribute):
            if isinstance(child, keras.Layer):
                yield child


def _elements(attribute: Any) -> list:
    if isinstance(attribute, dict):
        return list(attribute.values())
    return list(attribute) if isinstance(attribute, (list, tuple)) else [attribute]
