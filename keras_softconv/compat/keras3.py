"""What Keras 3 does in a way of its own; all else is the same in the words of Keras 3."""

import operator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np

Tensor = Any


def registration_of(penalty_registration: str) -> str:
    """How Keras learns of the penalties of a layer with this argument.

    Torch's compiler would compile every step again because of losses that are added in
    `call`: Keras asks for the identities of those that the step before has added.
    """
    return "regularizer" if _is_compiled_by_torch() else penalty_registration


def _is_compiled_by_torch() -> bool:
    if keras.config.backend() != "torch":
        return False
    import torch

    return torch.compiler.is_compiling()


def type_of_losses(weight_type: Any) -> str:
    """The type in which a loss of weights of some type is registered.

    TensorFlow adds up only what is of one type, and Keras's own losses are of its
    `floatx`. The other backends convert what they add up to the widest type.
    """
    if keras.config.backend() == "tensorflow":
        return keras.config.floatx()
    return "float32"


def build_like(layer: keras.Layer, other: keras.Layer) -> None:
    """Build a layer as another one of the same class was built."""
    layer.build_from_config(other.get_build_config())


def name_of(variable: keras.Variable) -> str:
    """The name that a layer gave to its weight."""
    return variable.name


def offer_to_keras(classes: dict[str, type]) -> None:
    """Let Keras find layers that it has no longer, in files that say they are Keras's.

    A `.keras` file of Keras 2 says that such a layer is in the module `keras.layers`, and
    has no registered name. Without that name Keras asks no custom objects. It looks into
    the module.
    """
    for name, cls in classes.items():
        if not hasattr(keras.layers, name):
            setattr(keras.layers, name, cls)


def pad(tensor: Tensor, widths: tuple[tuple[int, int], ...]) -> Tensor:
    """`ops.pad` with zeros.

    Keras's own makes an operation with a number of its own at every call, and torch's
    compiler would compile again for each number.
    """
    if keras.config.backend() != "torch":
        return keras.ops.pad(tensor, widths)
    import torch

    tensor = keras.ops.convert_to_tensor(tensor)
    return torch.nn.functional.pad(tensor, [w for pair in reversed(widths) for w in pair])


def regularizer_of(variable: keras.Variable) -> Any:
    """That of a weight, which may be given another one; None without."""
    return getattr(variable, "regularizer", None)


class _Carried(keras.random.SeedGenerator):
    """A variable in the place of a seed."""

    def __init__(self, variable: keras.Variable) -> None:
        self.state = variable


def carry_through_training(layer: keras.Layer, variable: keras.Variable) -> None:
    """Let compiled training steps read a variable that the layer does not save.

    On JAX a step is given the variables of the model, and any other one would be a
    constant to it. Random seeds are variables of a layer that are not among its weights
    and are not saved. So the variable takes the place of a seed.
    """
    if keras.config.backend() == "jax":
        layer._tracker.unlock()
        layer._seed_generators.append(_Carried(variable))
        layer._tracker.lock()


def forked_random_state() -> AbstractContextManager:
    """A context at whose end torch, where it is the backend, has its random state back."""
    if keras.config.backend() != "torch":
        return nullcontext()
    import torch

    return torch.random.fork_rng()


def predictions(model: keras.Model, x: Any, batch_size: int) -> np.ndarray:
    """What `model.predict` returns of a model with one output, without its data pipeline.

    To prepare that pipeline takes TensorFlow 80 ms, and thus longer than many a small
    network trains in an epoch.
    """
    size = len(keras.tree.flatten(x)[0])
    batches = []
    for begin in range(0, size, batch_size):
        rows = slice(begin, begin + batch_size)
        batch = keras.tree.map_structure(operator.itemgetter(rows), x)
        batches.append(model.predict_on_batch(batch))
    return np.concatenate(batches)
