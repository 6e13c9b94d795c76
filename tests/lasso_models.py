"""A small model with lassos for the proximal optimizers, and NumPy's account of it."""

import keras
import numpy as np
import numpy_training
from backends import BACKEND
from keras.regularizers import L1
from linear_models import LinearModel, flat_weights
from soft_models import compile_and_build

from keras_softconv import SoftConv1D

CASE = ((5,), 2, 2, {"kernel_size": 3})
# For few steps TensorFlow takes longer to trace a step than to compute its operations.
EAGERLY = {"run_eagerly": BACKEND == "tensorflow"}
STRENGTHS = (0.03, 0.02)  # of the lassos on the ties and off the template
BATCH, EPOCHS = 4, 2  # two batches in each epoch


def task_of(rng) -> tuple[np.ndarray, np.ndarray]:
    x, y = rng.normal(size=(8, 5, 2)), rng.normal(size=(8, 3, 2))
    return x.astype("float32"), y.astype("float32")


def lasso_layer(rng, **arguments) -> SoftConv1D:
    """All of its weights random, so small that training brings some to zero."""
    regularizers = {
        "tie_regularizer": L1(STRENGTHS[0]),
        "off_template_regularizer": L1(STRENGTHS[1]),
    }
    arguments = {"kernel_initializer": "zeros", "name": "soft", **regularizers, **arguments}
    layer = SoftConv1D(2, 3, **arguments)
    layer.build((None, 5, 2))
    for weight in layer.trainable_weights:
        weight.assign(0.1 * rng.normal(size=weight.shape))
    return layer


def lasso_model(rng, **arguments) -> keras.Model:
    layer = lasso_layer(rng, **arguments)
    return keras.Sequential([keras.Input((5, 2), dtype="float32"), layer])


def fit(
    model, task, optimizer=None, epochs=EPOCHS, callbacks=None, is_built=True, **arguments
) -> dict:
    """Trains on the same batches in each epoch; the history.

    An optimizer that is not built makes its slots within the first step.
    """
    if optimizer is not None:
        if BACKEND == "tensorflow":  # where XLA compiles for longer than all the rest
            arguments = {"jit_compile": False, **arguments}
        compile_ = compile_and_build if is_built else keras.Model.compile
        compile_(model, optimizer, loss="mse", **arguments)
    arguments = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
    return model.fit(*task, epochs=epochs, callbacks=callbacks, **arguments).history


def expected_weights(
    layer, task, epochs=EPOCHS, strengths=None, halo=None, **options
) -> dict[str, np.ndarray]:
    """What `fit` is to end at, from the layer's weights now.

    Args:
        layer: is not touched.
        task: inputs and targets.
        epochs: two batches each.
        strengths: in place of `STRENGTHS`, those of each epoch.
        halo: of the layer.
        options: of `numpy_training.train`; without any, gradient descent.
    """
    parts = [[part[:BATCH], part[BATCH:]] for part in task]
    batches = [LinearModel(CASE, x, y, halo) for x, y in zip(*parts, strict=True)] * epochs
    strengths = np.repeat(strengths or [STRENGTHS] * epochs, 2, axis=0)
    options = sgd(0.5) | options
    return numpy_training.train(layer, batches, strengths, **options)


def adam(**options) -> dict:
    """Options for NumPy: Adam's rule."""
    return {"rule": numpy_training.Adam(**options), "learning_rate": 0.1}


def sgd(rate=0.3, **options) -> dict:
    return {"rule": numpy_training.SGD(**options), "learning_rate": rate}


def assert_weights(layer, expected) -> None:
    """All alike, with the same zeros."""
    found = flat_weights(layer)
    for name, weight in found.items():
        np.testing.assert_allclose(
            weight, expected[name], rtol=2e-4, atol=5e-6, err_msg=name
        )
        np.testing.assert_array_equal(weight == 0, expected[name] == 0)
