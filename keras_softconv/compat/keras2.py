"""Keras 2.15 in the words of Keras 3, as far as this package speaks them."""

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any, NoReturn

import keras as installed
import numpy as np
import tensorflow as tf

from keras_softconv.compat import operations as ops
from keras_softconv.compat.layer import Layer

Tensor = Any

BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")
if BACKEND != "tensorflow":
    raise ImportError(
        f"Keras {installed.__version__} runs on TensorFlow only. Received: KERAS_BACKEND="
        f"{BACKEND!r}. Unset it, or use another environment, with Keras 3, for the other "
        "backends."
    )

NEED_KERAS_3 = ("ProximalAdam", "ProximalSGD")


class _Extended:
    """A module, with some names besides its own or in their place."""

    def __init__(self, module: Any, **names: Any) -> None:
        self.__dict__.update(names, _module=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _get_regularizer(identifier: Any) -> Callable | None:
    name = "l1_l2" if identifier == "l1l2" else identifier
    found = installed.regularizers.get(name)
    if found is not None and not callable(found):  # an unknown name comes back
        raise ValueError(
            f"Could not interpret regularizer identifier: {identifier}. Expected a "
            "regularizer, its name such as 'l2', or a function of the weights."
        )
    return found


class _StatelessScope:
    """Other values for some variables, which get their own back at the end."""

    def __init__(self, state_mapping: Iterable[tuple[tf.Variable, Any]]) -> None:
        self._values = list(state_mapping)

    def __enter__(self) -> None:
        self._own = [(variable, variable.numpy()) for variable, _ in self._values]
        _assign(self._values)

    def __exit__(self, *error: object) -> None:
        _assign(self._own)


def _assign(values: list[tuple[tf.Variable, Any]]) -> None:
    for variable, value in values:
        variable.assign(value)


def _register_keras_serializable(package: str) -> Callable[[type], type]:
    register = installed.saving.register_keras_serializable(package)

    def register_or_refuse(cls: type) -> type:
        if cls.__name__ in NEED_KERAS_3:
            cls.__init__ = _refuse
        if issubclass(cls, Layer):
            # Keras's wrappers look for the class of the layer that they hold by this name.
            installed.saving.get_custom_objects()[cls.__name__] = cls
        return register(cls)

    return register_or_refuse


def _refuse(self: object, *args: Any, **kwargs: Any) -> NoReturn:
    raise NotImplementedError(
        f"{type(self).__name__} needs Keras 3. Received: Keras {installed.__version__}. "
        "Here `tensorflow_addons.optimizers.ProximalAdagrad` has exact zeros, of the "
        "shared kernel too, for layers made with regularizers of None; Keras's own "
        "optimizers take a lasso by its subgradient, which ends near them."
    )


keras = _Extended(
    installed,
    # For whom it may concern; to make one's own, there is `layers.Layer`.
    Layer=installed.layers.Layer,
    Initializer=installed.initializers.Initializer,
    Loss=installed.losses.Loss,
    Regularizer=installed.regularizers.Regularizer,
    StatelessScope=_StatelessScope,
    Variable=tf.Variable,
    backend=_Extended(
        installed.backend, standardize_dtype=lambda dtype: tf.as_dtype(dtype).name
    ),
    config=SimpleNamespace(
        backend=lambda: "tensorflow", image_data_format=installed.backend.image_data_format
    ),
    # Nothing is ever spread over devices.
    distribution=SimpleNamespace(distribution=lambda: None, ModelParallel=()),
    layers=_Extended(installed.layers, Layer=Layer),
    ops=ops,
    regularizers=_Extended(installed.regularizers, get=_get_regularizer),
    saving=_Extended(
        installed.saving, register_keras_serializable=_register_keras_serializable
    ),
    tree=tf.nest,
)


def type_of_losses(weight_type: Any) -> str:
    """The wider of the weights' type and Keras's `floatx`.

    `fit` converts all losses to the widest type. A sum of losses in a loop of one's own
    has that of the weights.
    """
    types = tf.as_dtype(installed.backend.floatx()), tf.as_dtype(weight_type)
    return max(types, key=lambda one: one.size).name


def build_like(layer: keras.Layer, other: keras.Layer) -> None:
    """Build it, and note that it was built, which only Keras's call does."""
    layer.build_from_config(other.get_build_config())
    installed.layers.Layer.build(layer, other.get_build_config()["input_shape"])


def name_of(variable: tf.Variable) -> str:
    """Its own, from such as `layer/name:0`."""
    return variable.name.rpartition("/")[2].removesuffix(":0")


def registration_of(penalty_registration: str) -> str:
    """What `Layer` says of losses that are added in `call` leaves but one way."""
    return "regularizer"


def offer_to_keras(classes: dict[str, type]) -> NoReturn:
    """Refuse to let Keras find other layers under names of its own."""
    names = " and ".join(f"`keras.layers.{name}`" for name in classes)
    raise NotImplementedError(
        f"Loading old models into SoftConv layers needs Keras 3. Received: Keras "
        f"{installed.__version__}, which has {names} itself and loads them without custom "
        "objects. Here `keras_softconv.from_locally_connected(layer.get_config(), "
        "layer.get_weights())` converts a layer."
    )


def pad(tensor: Tensor, widths: tuple[tuple[int, int], ...]) -> Tensor:
    """With zeros."""
    return tf.pad(tensor, widths)


def regularizer_of(variable: tf.Variable) -> NoReturn:
    """Refuse to name the regularizer of a weight, which is fixed here."""
    raise NotImplementedError(
        "Learning ridges other than those of deviations needs Keras 3. Received: "
        f"`include` in Keras {installed.__version__}. Leave out `include`."
    )


def carry_through_training(layer: keras.Layer, variable: tf.Variable) -> None:
    """Do nothing: the compiled steps of TensorFlow read any variable."""


def forked_random_state() -> AbstractContextManager:
    """A context for random states that could be given back; TensorFlow's cannot."""
    return nullcontext()


def predictions(model: installed.Model, x: Any, batch_size: int) -> np.ndarray:
    """What `model.predict` returns.

    `predict_on_batch` fails for models that are compiled with `steps_per_execution`.
    """
    return model.predict(x, batch_size, verbose=0)
