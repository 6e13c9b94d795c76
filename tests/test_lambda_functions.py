"""Models with lambda functions are converted, although Keras does not read these."""

import keras
import numpy as np
import pytest
from backends import KERAS_2, not_on_keras_2
from keras import layers, ops
from test_model_conversion import predictions, sequential

from keras_softconv import harden, soften


def own_loss():
    return lambda targets, outputs: 3 * ops.mean((targets - outputs) ** 2, axis=-1)


def mean_metric():
    return keras.metrics.MeanMetricWrapper(own_loss(), name="wrapped")


def sgd_with_a_lambda():
    return keras.optimizers.SGD(lambda: 0.125)


COMPILED = {
    "loss": lambda: {"loss": own_loss()},
    "metric": lambda: {"loss": "mse", "metrics": [own_loss(), "mae"]},
    "weighted metric": lambda: {"loss": "mse", "weighted_metrics": [own_loss()]},
    "metric object": lambda: {"loss": "mse", "metrics": [mean_metric()]},
}
if not KERAS_2:  # which makes a number of it
    COMPILED["schedule"] = lambda: {"loss": "mse", "optimizer": sgd_with_a_lambda()}


@pytest.mark.parametrize("kind", COMPILED)
def test_a_compiled_model(kind, rng):
    model = sequential(layers.Conv2D(2, 3))
    compiled = {"optimizer": "sgd", "run_eagerly": True, **COMPILED[kind]()}
    model.compile(**compiled)
    converted = harden(soften(model, halo=0))
    x, y = rng.normal(size=(3, 6, 6, 1)), rng.normal(size=(3, 4, 4, 2))
    found, expected = (
        each.evaluate(x.astype("float32"), y.astype("float32"), verbose=0, return_dict=True)
        for each in (converted, model)
    )
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)
    rates = [float(each.optimizer.learning_rate) for each in (converted, model)]
    assert rates[0] == rates[1]
    assert model.loss is compiled["loss"]
    if kind == "loss":
        assert converted.loss is model.loss
        assert model.loss.__name__ == "<lambda>"


def doubled():
    return lambda x: 2 * x


def of_ones():
    return lambda shape, dtype=None: ops.ones(shape, dtype or "float32")


def of_sums():
    return lambda weights: 0.1 * ops.sum(ops.abs(weights))


LAYERS = {
    "activation": lambda: layers.Dense(2, activation=doubled()),
    "initializer": lambda: layers.Dense(2, kernel_initializer=of_ones()),
    "regularizer": lambda: layers.Dense(2, kernel_regularizer=of_sums()),
    "Lambda": lambda: layers.Lambda(doubled()),
    "wrapped": lambda: layers.TimeDistributed(layers.Dense(2, activation=doubled())),
    "convolution": lambda: layers.Conv2D(2, 1, activation=doubled()),
}


@not_on_keras_2("has no conversion of functions without a name")
@pytest.mark.parametrize("kind", LAYERS)
def test_layers(kind, rng):
    model = sequential(layers.Conv2D(2, 3), LAYERS[kind]())
    hard = harden(soften(model, halo=0))
    x = rng.normal(size=(2, 6, 6, 1))
    np.testing.assert_array_equal(predictions(hard, x), predictions(model, x))
    assert len(hard.losses) == len(model.losses)


@keras.saving.register_keras_serializable(package="tests")
class MakesALambda(layers.Layer):
    """Has a lambda function in its config alone."""

    def call(self, x):
        return x

    def get_config(self):
        function = keras.saving.serialize_keras_object(doubled())
        return {**super().get_config(), "function": function}

    @classmethod
    def from_config(cls, config):
        keras.saving.deserialize_keras_object(config.pop("function"))
        return cls(**config)


@not_on_keras_2("has another message")
@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_a_lambda_that_cannot_be_found_is_refused():
    message = r"(?s)Keras cannot copy model 'given'.*lambda.*before it is compiled"
    with pytest.raises(ValueError, match=message):
        soften(sequential(layers.Conv2D(2, 3), MakesALambda()))
