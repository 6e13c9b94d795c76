"""Callbacks that can be copied at any moment."""

import copy
from typing import Any

from keras_softconv.compat import keras

# Every Keras stores what `fit` gives to a callback under some of these names.
GIVEN_BY_FIT = ("_model", "model", "params", "validation_data")


class FreshCopies(keras.callbacks.Callback):
    """A callback whose copies do not belong to its training.

    Tuners, cross-validation and grid searches copy callbacks by `copy.deepcopy`, `pickle`
    or `sklearn.clone`, in the middle of a training too. A copy has the arguments of the
    callback. The model, compiled programs and an open log stay behind.

    A subclass sets all that belongs to a training in `_forget_training`, which its
    constructor calls, and names those attributes in `of_training`.
    """

    of_training: tuple[str, ...] = ()

    def _forget_training(self) -> None:
        """Set the attributes of a training to what they are before the first one."""

    def __getstate__(self) -> dict[str, Any]:
        left_behind = (*GIVEN_BY_FIT, *self.of_training)
        return {name: x for name, x in vars(self).items() if name not in left_behind}

    def __setstate__(self, state: dict[str, Any]) -> None:
        keras.callbacks.Callback.__init__(self)
        self.__dict__.update(state)
        self._forget_training()

    def __sklearn_clone__(self) -> "FreshCopies":
        return copy.deepcopy(self)
