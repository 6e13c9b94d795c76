"""Custom loops on JAX that compile gradients and updates apart, or only one of them."""

import numpy as np
import pytest
from backends import BACKEND
from keras.ops import convert_to_numpy as to_numpy
from keras.optimizers import Adam
from keras.regularizers import L1
from lasso_models import lasso_model, task_of

from keras_softconv.optimizers import ProximalAdam, ProximalSGD
from keras_softconv.regularizers import FamilyStrengths

if BACKEND != "jax":
    pytest.skip("is about JAX", allow_module_level=True)

import jax


def frozen_model(**arguments):
    rng = np.random.default_rng(0)
    model = lasso_model(rng, **arguments)
    layer = model.layers[0]
    layer.deviations.assign(np.where(rng.random(layer.deviations.shape) < 0.5, 0, 0.1))
    layer.freeze_structure()
    return model


def gradients_of(model):
    """A function of trainable and other weights."""
    x, y = task_of(np.random.default_rng(1))

    def loss(trainable, others):
        outputs, _, losses = model.stateless_call(
            trainable, others, x, training=True, return_losses=True
        )
        return jax.numpy.mean((outputs - y) ** 2) + sum(losses)

    return jax.grad(loss)


def values(variables) -> list:
    return [variable.value for variable in variables]


def assign(variables, new) -> None:
    for variable, value in zip(variables, new, strict=True):
        variable.assign(value)


def train(model, optimizer, compiled=("gradients",), strengths=(1.0, 1.0)) -> list:
    """A step for each strength; the weights."""
    layer = model.layers[0]
    optimizer.build(model.trainable_variables)
    gradients, apply = gradients_of(model), optimizer.stateless_apply
    if "gradients" in compiled:
        gradients = jax.jit(gradients)
    if "update" in compiled:
        apply = jax.jit(apply)
    for strength in strengths:
        layer.tie_strength.assign(strength)
        others = values(model.non_trainable_variables)
        found = gradients(values(model.trainable_variables), others)
        if "apply" in compiled:
            optimizer.apply(found, model.trainable_variables)
            continue
        new = apply(values(optimizer.variables), found, values(model.trainable_variables))
        assign(model.trainable_variables, new[0])
        assign(optimizer.variables, new[1])
    return [to_numpy(weight) for weight in model.weights]


def train_at_once(model, optimizer, strengths=(1.0, 1.0)) -> list:
    """The same with loss and update in one compiled function."""
    optimizer.build(model.trainable_variables)

    @jax.jit
    def step(trainable, others, of_optimizer):
        found = gradients_of(model)(trainable, others)
        return optimizer.stateless_apply(of_optimizer, found, trainable)

    places = model.trainable_variables, model.non_trainable_variables, optimizer.variables
    for strength in strengths:
        model.layers[0].tie_strength.assign(strength)
        new = step(*map(values, places))
        assign(places[0], new[0])
        assign(places[2], new[1])
    return [to_numpy(weight) for weight in model.weights]


WAYS = {
    "apply": ("gradients", "apply"),
    "stateless_apply": ("gradients",),
    "two functions": ("gradients", "update"),
    "gradients are not compiled": ("apply",),
    "update alone": ("update",),
}
OPTIMIZERS = {
    "adam": lambda: Adam(0.01),
    "averages": lambda: Adam(0.01, use_ema=True, ema_overwrite_frequency=1),
}
QUICK = ("apply", "adam"), ("apply", "averages"), ("two functions", "adam")
ways = pytest.mark.parametrize(
    ("way", "name"),
    [
        pytest.param(way, name, marks=[] if (way, name) in QUICK else [pytest.mark.slow])
        for way in WAYS
        for name in OPTIMIZERS
    ],
)


@ways
def test_frozen_zeros_stay(way, name):
    model = frozen_model()
    layer = model.layers[0]
    before = to_numpy(layer.deviations)
    train(model, OPTIMIZERS[name](), WAYS[way])
    after = to_numpy(layer.deviations)
    np.testing.assert_array_equal(after == 0, before == 0)
    assert (after != before)[before != 0].all()
    assert 0.2 < (before == 0).mean() < 0.8


PROXIMAL = {
    "adam": (lambda: ProximalAdam(0.05), {}),
    "sgd": (lambda: ProximalSGD(0.5, momentum=0.5), {}),
    "families": (
        lambda: ProximalAdam(0.05),
        {"tie_regularizer": FamilyStrengths(L1(0.05))},
    ),
}
proximal = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name == "sgd" else [])
        for name in PROXIMAL
    ],
)


@proximal
def test_strengths_are_those_of_now_in_an_update_that_is_not_compiled(name):
    make, arguments = PROXIMAL[name]
    strengths = 1.0, 30.0
    expected = train_at_once(
        lasso_model(np.random.default_rng(0), **arguments), make(), strengths
    )
    model = lasso_model(np.random.default_rng(0), **arguments)
    found = train(model, make(), WAYS["stateless_apply"], strengths)
    for weight, of_other in zip(found, expected, strict=True):
        np.testing.assert_allclose(weight, of_other, rtol=1e-4, atol=1e-6)
    assert (to_numpy(model.layers[0].deviations) == 0).any()


@proximal
def test_an_update_that_is_compiled_alone_is_refused(name):
    make, arguments = PROXIMAL[name]
    message = (
        r"would take the value of 'soft/.*' for a constant.*in one function for `jax.jit`"
        r".*Received: a `jax.jit` of the update alone.*without `jax.jit`"
    )
    model = lasso_model(np.random.default_rng(0), **arguments)
    with pytest.raises(ValueError, match=message):
        train(model, make(), WAYS["two functions"])


def test_what_was_read_in_another_trace_is_not_used():
    model = lasso_model(np.random.default_rng(0))
    layer = model.layers[0]
    others = values(model.non_trainable_variables)
    jax.make_jaxpr(gradients_of(model))(values(model.trainable_variables), others)
    strength = layer._penalties.tie_strength
    layer.tie_strength.assign(7.0)
    assert float(strength.last()) == 7
