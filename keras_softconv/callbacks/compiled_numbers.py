"""The scalars of a model's SoftConv layers, computed by one program."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_softconv.callbacks.dashboard import tag_of
from keras_softconv.compat import keras, ops
from keras_softconv.diagnostics import Members, energies, structure_numbers
from keras_softconv.layers import BaseSoftConv

Tensor = Any
Layers = dict[str, BaseSoftConv]


@dataclass(frozen=True)
class ModelNumbers:
    """What is logged of a model at one step.

    Args:
        scalars: by tag.
        energies: float32 `(layers, 3)`: of each layer what the nearest convolution
            explains, what is left within the families, and what is off the template.
    """

    scalars: dict[str, float]
    energies: np.ndarray

    @property
    def convolution_share(self) -> float:
        """Share of the squared weights of all layers that convolutions explain."""
        convolution, whole = self.energies[:, 0].sum(), self.energies.sum()
        return float(convolution / whole) if whole else 1.0


class CompiledNumbers:
    """Every scalar of some built layers by its tag; only these leave the device.

    They are `structure_numbers(layer)`, `layer.penalties()` and `energies(layer)`, in
    float32. One operation after the other would cost a small model more than its training
    does. The program is kept from one training to the next, since to compile it takes
    longer than many a training. It is compiled again when the layers or their variables
    are others, when something was frozen, and when Keras compiles the training again,
    which is when Keras notices other changes too.
    """

    def __init__(self) -> None:
        self._objects, self._settings = [], None
        self._program, self._tags = None, []

    def __call__(self, layers: Layers, train_function: Callable | None) -> ModelNumbers:
        """The numbers now.

        Args:
            layers: built layers by path.
            train_function: what Keras trains the model with, None before it is compiled.
        """
        if not layers:
            return ModelNumbers({}, np.zeros((0, 3), "float32"))
        variables = [variable for layer in layers.values() for variable in layer.weights]
        objects = [train_function, *layers.values(), *variables]
        settings = [*layers, *(one.trainable for one in objects[1:])]
        if settings != self._settings or not are_same(objects, self._objects):
            self._objects, self._settings = objects, settings
            self._program = _compiled(lambda: self._numbers(layers), variables)
        numbers = ops.convert_to_numpy(self._program())
        scalars = dict(zip(self._tags, map(float, numbers), strict=False))
        for path, layer in layers.items():
            for place, number in layer.effective_weights.items():
                scalars[tag_of(path, f"{place}_effective_weights")] = number
        return ModelNumbers(scalars, numbers[len(self._tags) :].reshape(-1, 3))

    def _numbers(self, layers: Layers) -> Tensor:
        """The scalars in the order of their tags, then the energies of each layer."""
        scalars, of_layers = {}, []
        for path, layer in layers.items():
            members = Members(layer)
            parts = energies(layer, members)
            named = structure_numbers(layer, members, parts) | layer.penalties()
            scalars |= {tag_of(path, name): value for name, value in named.items()}
            of_layers += parts
        self._tags = list(scalars)
        return ops.stack([ops.cast(x, "float32") for x in (*scalars.values(), *of_layers)])


def are_same(objects: list[Any], others: list[Any]) -> bool:
    """Whether two lists have the same objects, not only equal ones."""
    if len(objects) != len(others):
        return False
    return all(one is other for one, other in zip(objects, others, strict=True))


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
