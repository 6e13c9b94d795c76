"""`keras.Layer` for Keras 2."""

from collections.abc import Callable
from typing import Any, NoReturn

import keras
import tensorflow as tf

Tensor = Any


class Layer(keras.layers.Layer):
    """A layer of Keras 2, with subclasses that are written for Keras 3.

    Keras 3 gives shapes as tuples, notes itself that `build` was called, has `autocast`
    under this name and looks at a variable's `regularizer` whenever it is asked for
    losses; all this is made up for. Losses that are added in `call` cannot be: Keras 2
    counts them again for each call, and trains no functional model with what its
    construction leaves of them. See `registration_of`.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, adapted in ADAPTED.items():
            if name in vars(cls):
                setattr(cls, name, adapted(vars(cls)[name]))

    def add_weight(self, *, autocast: bool = True, **options: Any) -> tf.Variable:
        variable = super().add_weight(experimental_autocast=autocast, **options)
        variable.regularizer = None

        def penalty() -> Tensor | None:
            is_penalized = variable.regularizer is not None and self.trainable
            return variable.regularizer(variable) if is_penalized else None

        self.add_loss(penalty)
        return variable

    @property
    def _trainable_variables(self) -> list[tf.Variable]:
        return self._trainable_weights

    @property
    def _non_trainable_variables(self) -> list[tf.Variable]:
        return self._non_trainable_weights

    @property
    def _tracker(self) -> NoReturn:
        raise NotImplementedError(
            f"A frozen structure needs Keras 3. Received: layer '{self.name}' in Keras "
            f"{keras.__version__}. Load the weights in an environment with Keras 3. Here a "
            "layer can be trained on without penalties, but its zeros will move: "
            "`layer.tie_strength.assign(0.0)`, `layer.off_template_strength.assign(0.0)`."
        )


def _with_tuple(method: Callable) -> Callable:
    """A method of a shape, which may be a `tf.TensorShape`."""

    def of_tuple(self: Layer, input_shape: Any) -> Any:
        is_tensor_shape = isinstance(input_shape, tf.TensorShape)
        return method(self, tuple(input_shape) if is_tensor_shape else input_shape)

    return of_tuple


def _with_note(build: Callable) -> Callable:
    def build_and_note(self: Layer, input_shape: Any) -> None:
        build(self, input_shape)
        keras.layers.Layer.build(self, input_shape)

    return _with_tuple(build_and_note)


def _not_assignable(weights: property) -> property:
    """Computed weights, for wrappers that would assign to them."""
    name = weights.fget.__name__

    def refuse(self: Layer, value: Any = None) -> NoReturn:
        raise ValueError(
            f"The {name} of layer '{self.name}' cannot be assigned to, as the wrappers "
            "SpectralNormalization and WeightNormalization would, because it is computed "
            f"from `shared_{name}` and deviations. Expected a layer whose {name} is a "
            f"weight. Give this one a `{name}_constraint` instead, such as "
            f"`keras.constraints.MaxNorm()`, which acts on `shared_{name}`."
        )

    def get(self: Layer) -> Tensor | None:
        tensor = weights.fget(self)
        if tensor is not None:
            tensor.assign = lambda value, **_: refuse(self)
        return tensor

    return property(get, refuse, doc=weights.__doc__)


ADAPTED = {
    "bias": _not_assignable,
    "build": _with_note,
    "compute_output_shape": _with_tuple,
    "kernel": _not_assignable,
}
