"""The scalars of a model's SoftConv layers, computed by one program."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_softconv.callbacks.dashboard import tag_of
from keras_softconv.diagnostics import structure_numbers
from keras_softconv.layers import BaseSoftConv

Tensor = Any
Layers = dict[str, BaseSoftConv]


class CompiledNumbers:
    """Every scalar of some built layers by its tag; only these leave the device.

    They are `structure_numbers(layer)` and `layer.penalties()`, in float32. One operation
    after the other would cost a small model more than its training does.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Compile anew the next time, and keep no layers until then."""
        self._layers, self._program, self._tags = None, None, []

    def __call__(self, layers: Layers) -> dict[str, float]:
        if not layers:
            return {}
        # A frozen layer has no penalty, and what is compiled does not ask again.
        now = [
            (path, id(layer), layer.trainable, *(v.trainable for v in layer.variables))
            for path, layer in layers.items()
        ]
        if now != self._layers:
            self._layers, self._program = now, _compiled(self._of_values(layers))
        values = [ops.convert_to_tensor(v) for v in _variables(layers)]
        numbers = ops.convert_to_numpy(self._program(values))
        return dict(zip(self._tags, map(float, numbers), strict=True))

    def _of_values(self, layers: Layers) -> Callable[[list[Tensor]], Tensor]:
        def numbers(values: list[Tensor]) -> Tensor:
            variables = _variables(layers)
            with keras.StatelessScope(zip(variables, values, strict=True)):
                named = {
                    tag_of(path, name): value
                    for path, layer in layers.items()
                    for name, value in _named(layer).items()
                }
            self._tags = list(named)
            return ops.stack([ops.cast(value, "float32") for value in named.values()])

        return numbers


def _named(layer: BaseSoftConv) -> dict[str, Tensor]:
    return structure_numbers(layer) | layer.penalties()


def _variables(layers: Layers) -> list[keras.Variable]:
    return [variable for layer in layers.values() for variable in layer.weights]


def _compiled(function: Callable) -> Callable:
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    return function  # torch's compiler would take longer than a training
