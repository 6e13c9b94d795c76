"""Weights that can be read and assigned to from any callback, on JAX too.

While Keras trains on JAX, its variables have no values. `fit` keeps the values for itself
and puts them back at the end of an epoch, or when `Callback.model` is asked for. A value
that is assigned in between would be overwritten.
"""

import sys
from collections.abc import Iterator
from typing import Any

from keras_softconv.compat import is_stateless, keras, running_traces

Tensor = Any


class MovableVariable(keras.Variable):
    """A variable of JAX that asks the callbacks in whose call it is used for its value."""

    @property
    def value(self) -> Tensor:
        if self._is_taken_away():
            self._take_back()
        return super().value

    def assign(self, value: Any) -> Tensor:
        if not is_stateless() and self._is_taken_away():
            self._take_back()
        return super().assign(value)

    def _is_taken_away(self) -> bool:
        """Whether Keras keeps the value for itself, and gives no other one here."""
        try:
            return super().value is None
        except TypeError:  # Keras calls the initializer, which is None by then
            return True

    def _take_back(self) -> None:
        """Let the models in training give all of their variables the current values.

        `Callback.model` does so, and then hands the variables to the next step again. It is
        asked for only within a callback: in the middle of a step the values are old.

        Raises:
            ValueError: if the variable still has no value.
        """
        if any(frame.f_code.co_name == "jax_state_sync" for frame in _frames()):
            return  # Keras is giving the values back
        if not is_stateless() and not running_traces():
            for callbacks in _running_callbacks():
                _ = callbacks.model
        if self._is_taken_away():
            raise ValueError(
                f"Variable '{self.path}' has no value here, because Keras keeps the values "
                "of a model in training for itself. Expected to be used by a callback of "
                "that model, in the thread that called `fit`. Move strengths in a callback "
                "such as `keras.callbacks.LambdaCallback(on_train_batch_end=...)` or "
                "`keras_softconv.callbacks.StrengthSchedule`."
            )


def make_movable(variable: keras.Variable) -> keras.Variable:
    """Let a variable be read and assigned to from any callback.

    `add_weight` makes variables of one class only, so that it has to be changed afterwards.
    """
    if type(variable) is keras.Variable:
        variable.__class__ = MovableVariable
    return variable


def _running_callbacks() -> Iterator[keras.callbacks.CallbackList]:
    """The lists of callbacks that are being called, the innermost first."""
    for frame in _frames():
        callbacks = frame.f_locals.get("self")
        if isinstance(callbacks, keras.callbacks.CallbackList):
            yield callbacks


def _frames() -> Iterator[Any]:
    frame = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back
