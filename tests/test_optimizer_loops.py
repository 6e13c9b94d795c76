"""Proximal optimizers in custom loops, saved and loaded, and on several devices."""

import json

import keras
import numpy as np
import pytest
from backends import BACKEND, not_on, tensorflow_only
from keras.ops import convert_to_numpy as to_numpy
from keras.optimizers.schedules import ExponentialDecay
from lasso_models import (
    adam,
    assert_weights,
    expected_weights,
    fit,
    lasso_model,
    task_of,
)
from processes import run

from keras_softconv.optimizers import ProximalAdam, ProximalSGD
from keras_softconv.regularizers import PairwiseL1


@pytest.fixture
def task(rng):
    return task_of(rng)


# Custom loops: one pass over the batches.


def batches_of(task):
    return [(x, y) for x, y in zip(*(np.split(part, 2) for part in task), strict=True)]


def loop_in_tensorflow(model, optimizer, task, order=1):
    import tensorflow as tf

    optimizer.build(model.trainable_variables)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            error = tf.reduce_mean(tf.square(model(x, training=True) - y))
            loss = error + sum(model.losses)
        variables = model.trainable_variables[::order]
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))

    for x, y in batches_of(task):
        step(tf.constant(x), tf.constant(y))


def loop_in_jax(model, optimizer, task):
    import jax

    optimizer.build(model.trainable_variables)

    def loss_of(trainable, others, x, y):
        outputs, others, losses = model.stateless_call(
            trainable, others, x, training=True, return_losses=True
        )
        return jax.numpy.mean((outputs - y) ** 2) + sum(losses), others

    @jax.jit
    def step(trainable, others, of_optimizer, x, y):
        gradient = jax.value_and_grad(loss_of, has_aux=True)
        (_, others), gradients = gradient(trainable, others, x, y)
        trainable, of_optimizer = optimizer.stateless_apply(
            of_optimizer, gradients, trainable
        )
        return trainable, others, of_optimizer

    places = (
        model.trainable_variables,
        model.non_trainable_variables,
        optimizer.variables,
    )
    state = [[variable.value for variable in place] for place in places]
    for x, y in batches_of(task):
        state = step(*state, x, y)
    for place, values in zip(places, state, strict=True):
        for variable, value in zip(place, values, strict=True):
            variable.assign(value)


def loop_in_torch(model, optimizer, task, order=1):
    import torch

    optimizer.build(model.trainable_variables)
    for x, y in batches_of(task):
        model.zero_grad()
        outputs = model(x, training=True)
        error = torch.mean((outputs - torch.tensor(y)) ** 2)
        (error + sum(model.losses)).backward()
        variables = model.trainable_variables[::order]
        with torch.no_grad():
            optimizer.apply([variable.value.grad for variable in variables], variables)


loop = {"tensorflow": loop_in_tensorflow, "jax": loop_in_jax, "torch": loop_in_torch}


@pytest.mark.parametrize("registration", ["add_loss", "regularizer"])
def test_a_custom_loop_equals_numpy(registration, task, rng):
    model = lasso_model(rng, penalty_registration=registration)
    layer = model.layers[0]
    expected = expected_weights(layer, task, epochs=1, **adam())
    loop[BACKEND](model, ProximalAdam(0.1), task)
    assert_weights(layer, expected)
    assert (to_numpy(layer.deviations) == 0).any()


@not_on("jax", "takes them in the order of `build`")
def test_variables_in_another_order(task, rng):
    model = lasso_model(rng)
    layer = model.layers[0]
    expected = expected_weights(layer, task, epochs=1, **adam(), clipvalue=0.25)
    loop[BACKEND](model, ProximalAdam(0.1, clipvalue=0.25), task, order=-1)
    assert_weights(layer, expected)


# Saving.


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(
            lambda: ProximalAdam(ExponentialDecay(0.1, 2, 0.5), amsgrad=True), id="adam"
        ),
        pytest.param(
            lambda: ProximalSGD(0.3, momentum=0.9), id="sgd", marks=pytest.mark.slow
        ),
    ],
)
def test_saved_in_the_middle_it_goes_on(make, task, rng, tmp_path):
    arguments = {"tie_regularizer": PairwiseL1(0.02), "halo": 1}
    model = lasso_model(rng, **arguments)
    fit(model, task, make())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is type(model.optimizer)
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    fit(model, task)
    fit(loaded, task)
    for ours, theirs in zip(loaded.weights, model.weights, strict=True):
        ours, theirs = to_numpy(ours), to_numpy(theirs)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(ours == 0, theirs == 0)
    assert int(to_numpy(loaded.optimizer.iterations)) == 8


@pytest.mark.parametrize(
    "make",
    [
        lambda: ProximalAdam(0.25, beta_1=0.5, amsgrad=True, clipnorm=1.0),
        lambda: ProximalSGD(ExponentialDecay(0.5, 2, 0.5), momentum=0.5, nesterov=True),
    ],
    ids=["adam", "sgd"],
)
def test_configurations_survive(make):
    optimizer = make()
    config = optimizer.get_config()
    assert type(optimizer).from_config(dict(config)).get_config() == config
    serialized = json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
    assert serialized["registered_name"] == f"keras_softconv>{type(optimizer).__name__}"
    restored = keras.optimizers.deserialize(serialized)
    assert type(restored) is type(optimizer)
    assert restored.get_config() == config


# On two devices.

MIRRORED = """
import sys
from contextlib import nullcontext
from pathlib import Path
import keras, numpy as np, tensorflow as tf
from keras_softconv import SoftConv2D
from keras_softconv.optimizers import ProximalAdam, ProximalSGD
from keras_softconv.regularizers import GroupLasso

ARGUMENTS = {
    "dense": {"tie_regularizer": keras.regularizers.L1L2(0.003, 0.01)},
    "halo": {"tie_regularizer": GroupLasso(0.01), "halo": 1,
             "penalty_registration": "regularizer"},
}
OPTIMIZERS = {
    "dense": lambda: ProximalAdam(0.05, epsilon=1e-3),
    "halo": lambda: ProximalSGD(0.5, momentum=0.5),
}

def train(name, scope):
    storage = name.rpartition("-")[2]
    random = np.random.default_rng(0)
    x, y = (random.normal(size=(8, 5, 4, n)).astype("float32") for n in (2, 4))
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    with scope:
        layer = SoftConv2D(
            4, 3, padding="same", kernel_initializer="zeros",
            off_template_regularizer=keras.regularizers.L1(0.002), **ARGUMENTS[storage],
        )
        model = keras.Sequential([keras.Input((5, 4, 2)), layer])
        for weight in layer.trainable_weights:
            weight.assign(0.1 * random.normal(size=weight.shape))
        model.compile(OPTIMIZERS[storage](), "mse", jit_compile=False)
        model.fit(batches, epochs=1, verbose=0)
        layer.tie_strength.assign(2.0)
        model.fit(batches, epochs=2, verbose=0)
        found = layer.deviations.numpy()
        layer.freeze_structure()
        adam = keras.optimizers.Adam(0.01, epsilon=1e-3, weight_decay=0.1)
        model.compile(adam, "mse", jit_compile=False)
        model.fit(batches, epochs=1, verbose=0)
    weights = {weight.name: weight.numpy() for weight in layer.weights}
    np.savez(Path(sys.argv[1]) / f"{name}.npz", found=found, **weights)

cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
OPTIMIZERS["clipped"] = lambda: ProximalAdam(clipnorm=1.0)
ARGUMENTS["clipped"] = ARGUMENTS["dense"]
try:
    train("mirrored-clipped", strategy.scope())
except ValueError as error:
    print(error)
for storage in ("dense", "halo"):
    train(f"alone-{storage}", nullcontext())
    train(f"mirrored-{storage}", strategy.scope())
"""


@pytest.mark.slow
@tensorflow_only
def test_mirrored_strategy_trains_as_one_device_does(tmp_path):
    printed = run("-c", MIRRORED, tmp_path, KERAS_BACKEND="tensorflow")
    assert "ProximalAdam cannot clip gradients under a strategy with several" in printed
    for storage in ("dense", "halo"):
        alone, mirrored = (
            np.load(tmp_path / f"{kind}-{storage}.npz") for kind in ("alone", "mirrored")
        )
        for name, expected in alone.items():
            np.testing.assert_allclose(mirrored[name], expected, rtol=1e-4, atol=1e-6)
            np.testing.assert_array_equal(mirrored[name] == 0, expected == 0)
        assert 0.05 < np.mean(alone["found"] == 0) < 0.95
        frozen = mirrored["deviations"] == 0
        np.testing.assert_array_equal(frozen, mirrored["found"] == 0)
