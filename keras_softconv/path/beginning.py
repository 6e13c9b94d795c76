"""The state from which trainings begin, with all random numbers."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from keras_softconv.compat import forked_random_state, keras, ops


class Beginning:
    """The state of a compiled model, its optimizer and all random numbers.

    Args:
        model: of which the present state is kept.
        seed: of the random numbers by which `fit` shuffles.
    """

    def __init__(self, model: keras.Model, seed: int) -> None:
        model.optimizer.build(model.trainable_variables)
        self._seed = seed
        self._variables = _state_of(model)
        self._values = [ops.convert_to_numpy(v).copy() for v in self._variables]

    def restore(self) -> None:
        """Give the model its first state again."""
        for variable, value in zip(self._variables, self._values, strict=True):
            variable.assign(value)
        self.restore_random_numbers()

    def restore_random_numbers(self) -> None:
        """Seed Python, NumPy and the backend again, by which `fit` shuffles."""
        keras.utils.set_random_seed(self._seed)


def _state_of(model: keras.Model) -> list[keras.Variable]:
    """All variables that a training changes, except for metrics, which `fit` resets.

    These are weights, statistics of normalisation, seeds of dropout, steps and slots of
    the optimizer, and its learning rate, which callbacks may assign.
    """
    variables = [*model.variables, *model.optimizer.variables]
    rate = model.optimizer.learning_rate
    is_missing = all(rate is not variable for variable in variables)
    if isinstance(rate, keras.Variable) and is_missing:
        variables.append(rate)
    return variables


@contextmanager
def own_random_numbers() -> Iterator[None]:
    """Let Python, NumPy and torch have their random states back at the end.

    The global seeds of Keras and TensorFlow cannot be read. They are set to the next
    random number of Python, and thus depend on the caller's seed.
    """
    of_python, of_numpy = random.getstate(), np.random.get_state()
    next_seed = random.randrange(2**32)
    with forked_random_state():
        try:
            yield
        finally:
            keras.utils.set_random_seed(next_seed)
            random.setstate(of_python)
            np.random.set_state(of_numpy)
