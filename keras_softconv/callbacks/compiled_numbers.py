"""The scalars of a model's SoftConv layers, computed by one program."""

from collections.abc import Callable
from typing import Any

from keras_softconv.callbacks.dashboard import tag_of
from keras_softconv.compat import keras, ops
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
            self._layers = now
            self._program = _compiled(lambda: self._numbers(layers), _variables(layers))
        numbers = ops.convert_to_numpy(self._program())
        return dict(zip(self._tags, map(float, numbers), strict=True))

    def _numbers(self, layers: Layers) -> Tensor:
        named = {
            tag_of(path, name): value
            for path, layer in layers.items()
            for name, value in _named(layer).items()
        }
        self._tags = list(named)
        return ops.stack([ops.cast(value, "float32") for value in named.values()])


def _named(layer: BaseSoftConv) -> dict[str, Tensor]:
    return structure_numbers(layer) | layer.penalties()


def _variables(layers: Layers) -> list[keras.Variable]:
    return [variable for layer in layers.values() for variable in layer.weights]


def _compiled(function: Callable, variables: list[keras.Variable]) -> Callable:
    """The function, which reads the variables, as one program."""
    if keras.backend.backend() == "jax":
        return _compiled_by_jax(function, variables)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    return function  # torch's compiler would take longer than a training


def _compiled_by_jax(function: Callable, variables: list[keras.Variable]) -> Callable:
    import jax

    def of_values(values: list[Tensor]) -> Tensor:
        with keras.StatelessScope(zip(variables, values, strict=True)):
            return function()

    program = jax.jit(of_values)
    return lambda: program([variable.value for variable in variables])
