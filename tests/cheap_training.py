"""Trainings that cost little: not compiled, or compiled once for several tests."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras
import numpy as np
from backends import BACKEND
from keras.ops import convert_to_numpy as to_numpy


@contextmanager
def uncompiled() -> Iterator[None]:
    """TensorFlow computes its operations one by one: quicker, if only for a few steps."""
    if BACKEND != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


# TensorFlow says that it prepares data as always.
ignore_compiled_data = "ignore:Even though the .tf.config"


def random_images() -> tuple[np.ndarray, np.ndarray]:
    """The arrays of the fixture `images`, for fixtures that several tests share."""
    rng = np.random.default_rng(0)
    shapes = ((8, 5, 4, 2), (8, 5, 4, 3))
    return tuple(rng.normal(size=shape).astype("float32") for shape in shapes)


def rewinding(model: keras.Model) -> Callable[[], keras.Model]:
    """A function that returns the compiled model in the state that it has now."""
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    values = [to_numpy(variable).copy() for variable in variables]

    def rewound() -> keras.Model:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return model

    return rewound
