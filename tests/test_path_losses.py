"""The losses of single examples, by which a path judges."""

import keras
import numpy as np
import pytest
from backends import not_on_keras_2
from cheap_training import ignore_compiled_data, uncompiled

from keras_softconv import SoftConv1D, regularization_path

pytestmark = pytest.mark.filterwarnings(ignore_compiled_data)


@not_on_keras_2("has a policy of the whole process instead")
def test_losses_of_half_precision_are_computed_in_float32(rng):
    x = rng.normal(size=(30, 6, 1)).astype("float32")
    y = 400 * rng.normal(size=(30, 4, 1)).astype("float32")
    layer = SoftConv1D(1, 3, dtype="mixed_float16")
    model = keras.Sequential([keras.Input((6, 1)), layer])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    with uncompiled():
        options = {"verbose": False, "batch_size": 30}
        path = regularization_path(lambda: model, (x, y), [0.0], (x, y), **options)
        expected = model.evaluate(x, y, verbose=0)
    assert expected > 1e5  # too much for float16
    np.testing.assert_allclose(path.points[0]["validation_loss"], expected, rtol=1e-3)


def test_losses_of_each_example_are_those_of_fit(rng):
    x = rng.normal(size=(30, 6, 1)).astype("float32")
    classes = rng.integers(2, size=30)

    def make_classifier(loss, units, activation):
        layers = [SoftConv1D(1, 3), keras.layers.Flatten()]
        head = keras.layers.Dense(units, activation=activation)
        model = keras.Sequential([keras.Input((6, 1)), *layers, head])
        model.compile(keras.optimizers.SGD(0.0), loss, metrics=["accuracy"])
        return model

    for loss, units, activation in (
        ("binary_crossentropy", 1, "sigmoid"),
        (keras.losses.SparseCategoricalCrossentropy(), 2, "softmax"),
        (lambda y, p: keras.ops.mean((keras.ops.cast(y, p.dtype) - p) ** 2, -1), 1, None),
    ):
        model = make_classifier(loss, units, activation)
        with uncompiled():
            path = regularization_path(
                lambda model=model: model, (x, classes), [0.0], (x, classes), verbose=False
            )
            expected = model.evaluate(x, classes, verbose=0, return_dict=True)["loss"]
        found = path.points[0]["validation_loss"]
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    scalar = make_classifier(lambda y, p: keras.ops.mean(p), 1, None)
    message = r"a loss for each example.*over the last axis"
    with uncompiled(), pytest.raises(ValueError, match=message):
        regularization_path(lambda: scalar, (x, classes), [0.0], (x, classes), verbose=0)
