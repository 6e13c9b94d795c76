"""Steps of the proximal optimizers, compared with float64 NumPy in every way to train."""

import keras
import numpy as np
import pytest
from backends import BACKEND, not_on, tensorflow_only
from keras import ops
from keras.ops import convert_to_numpy as to_numpy
from keras.optimizers import SGD, Adam, LossScaleOptimizer
from keras.optimizers.schedules import PolynomialDecay
from keras.regularizers import L2
from lasso_models import (
    EAGERLY,
    STRENGTHS,
    adam,
    assert_weights,
    expected_weights,
    fit,
    lasso_layer,
    lasso_model,
    sgd,
    task_of,
)
from linear_models import flat_weights

from keras_softconv.optimizers import ProximalAdam, ProximalSGD


@pytest.fixture
def task(rng):
    return task_of(rng)


# Arguments that NumPy's training takes as they are.
OPTIONS = {
    "plain": {},
    "weight_decay": {"weight_decay": 0.5},
    "clipnorm": {"clipnorm": 0.5},
    # With decay: there and back again by as much would end at a threshold exactly.
    "clipvalue": {"clipvalue": 0.25, "weight_decay": 0.1},
    "global_clipnorm": {"global_clipnorm": 0.7},
    "accumulation": {"gradient_accumulation_steps": 2},
    "ema": {"use_ema": True, "ema_momentum": 0.7},
}
each_option = pytest.mark.parametrize("name", OPTIONS)


def assert_some_zeros(weights):
    assert 0 < np.mean(weights["deviations"] == 0) < 0.95


def in_graph(rule, name) -> dict:
    """Every option is traced with one of the two rules and run eagerly with the other.

    Accumulation has branches, and is traced with both.
    """
    is_even = list(OPTIONS).index(name) % 2 == 0
    is_traced = name == "accumulation" or is_even == (rule == "adam")
    return {} if is_traced else EAGERLY


@each_option
def test_adam_equals_numpy(name, task, rng):
    model, options = lasso_model(rng), OPTIONS[name]
    expected = expected_weights(model.layers[0], task, **adam(), **options)
    is_built = name != "plain"
    of_training = in_graph("adam", name)
    fit(model, task, ProximalAdam(0.1, **options), is_built=is_built, **of_training)
    assert_weights(model.layers[0], expected)
    if name != "ema":  # a mean of zeros and others
        assert_some_zeros(expected)


@each_option
def test_sgd_equals_numpy(name, task, rng):
    model, options = lasso_model(rng), OPTIONS[name]
    expected = expected_weights(model.layers[0], task, **options)
    fit(model, task, ProximalSGD(0.5, **options), **in_graph("sgd", name))
    assert_weights(model.layers[0], expected)
    if name != "ema":
        assert_some_zeros(expected)


def to_zero(iteration) -> float:
    """What `PolynomialDecay` comes to."""
    return 0.1 * (1 - min(iteration, 3) / 3)


RULES = {
    "amsgrad": (lambda: ProximalAdam(0.1, amsgrad=True), adam(amsgrad=True)),
    "betas": (
        lambda: ProximalAdam(0.1, beta_1=0.5, beta_2=0.8, epsilon=0.1),
        adam(beta_1=0.5, beta_2=0.8, epsilon=0.1),
    ),
    "momentum": (lambda: ProximalSGD(0.3, momentum=0.9), sgd(momentum=0.9)),
    "nesterov": (
        lambda: ProximalSGD(0.3, momentum=0.9, nesterov=True),
        sgd(momentum=0.9, nesterov=True),
    ),
    "schedule": (
        lambda: ProximalAdam(PolynomialDecay(0.1, 3, end_learning_rate=0.0)),
        adam() | {"learning_rate": to_zero},
    ),
    "scaled loss": (lambda: ProximalAdam(0.1, loss_scale_factor=8.0), adam()),
    "dynamic scale": (lambda: LossScaleOptimizer(ProximalAdam(0.1)), adam()),
}


# A schedule and a scale that changes are read within the graph, for every change.
TRACED = ("schedule", "dynamic scale")


@pytest.mark.parametrize(
    ("name", "of_training"),
    [(name, {} if name in TRACED else EAGERLY) for name in RULES]
    + [
        pytest.param(name, {}, marks=[pytest.mark.slow, tensorflow_only])
        for name in RULES
        if name not in TRACED
    ],
)
def test_other_rules_equal_numpy(name, of_training, task, rng):
    optimizer, options = RULES[name]
    model = lasso_model(rng)
    expected = expected_weights(model.layers[0], task, epochs=3, **options)
    fit(model, task, optimizer(), epochs=3, **of_training)
    assert_weights(model.layers[0], expected)
    assert_some_zeros(expected)


def test_without_a_rate_nothing_moves(task, rng):
    model = lasso_model(rng)
    rate = PolynomialDecay(0.1, 2, end_learning_rate=0.0)
    fit(model, task, ProximalAdam(rate), epochs=1)
    before = [to_numpy(weight) for weight in model.weights]
    fit(model, task, epochs=1)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), value)


@pytest.mark.parametrize(
    ("of_layer", "jit_compile"),
    [
        ({"halo": 0, "penalty_registration": "regularizer"}, BACKEND != "torch"),
        ({"halo": 1}, False),
    ],
    ids=["regularizer", "add_loss"],
)
def test_with_a_halo_it_equals_numpy(of_layer, jit_compile, task, rng):
    model = lasso_model(rng, **of_layer)
    halo = of_layer["halo"]
    expected = expected_weights(model.layers[0], task, halo=halo, **adam())
    fit(model, task, ProximalAdam(0.1), jit_compile=jit_compile)
    assert_weights(model.layers[0], expected)


@pytest.mark.parametrize(
    "of_training",
    [
        pytest.param(
            {"run_eagerly": True}, marks=not_on("jax", "would compile each operation")
        ),
        pytest.param({"steps_per_execution": 2}, marks=not_on("torch", "takes one")),
    ],
    ids=["eagerly", "several steps at once"],
)
def test_run_otherwise_it_equals_numpy(of_training, task, rng):
    model = lasso_model(rng, penalty_registration="regularizer")
    expected = expected_weights(model.layers[0], task, **adam())
    fit(model, task, ProximalAdam(0.1), **of_training)
    assert_weights(model.layers[0], expected)


def test_a_shared_layer_is_shrunk_once(task, rng):
    x, y = task
    once = lasso_model(rng, use_bias=False)
    layer = lasso_layer(rng, use_bias=False)
    layer.set_weights(once.layers[0].get_weights())
    first, second = keras.Input((5, 2)), keras.Input((5, 2))
    outputs = keras.layers.Add()([layer(first), layer(second)])
    twice = keras.Model([first, second], outputs)
    other = rng.normal(size=x.shape).astype("float32")
    fit(once, (x + other, y), ProximalAdam(0.1), **EAGERLY)
    fit(twice, ([x, other], y), ProximalAdam(0.1), **EAGERLY)
    expected = to_numpy(once.layers[0].deviations)
    found = to_numpy(layer.deviations)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found == 0, expected == 0)
    assert 0 < np.mean(found == 0) < 0.95


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(ProximalAdam, Adam), (ProximalSGD, SGD)],
)
def test_without_kinks_it_is_the_plain_optimizer(ours, theirs, task, rng):
    models = []
    for kind in (ours, theirs):
        ridge = {f"{place}_regularizer": L2(0.1) for place in ("tie", "off_template")}
        models.append(lasso_model(np.random.default_rng(0), **ridge))
        fit(models[-1], task, kind(0.1), **EAGERLY)
    # On torch the plain ones update all variables at once.
    rtol = 1e-5 if BACKEND == "torch" else 0
    for weights in zip(*(model.weights for model in models), strict=True):
        np.testing.assert_allclose(*map(to_numpy, weights), rtol=rtol, atol=rtol / 100)


def test_other_variables_are_trained_by_adam_itself(task, rng):
    x, _ = task
    models = []
    for optimizer in (ProximalAdam(0.1), Adam(0.1)):
        layer = lasso_layer(np.random.default_rng(0))
        head = keras.layers.Dense(1, kernel_initializer="ones")
        parts = [keras.Input((5, 2)), layer, keras.layers.Flatten(), head]
        models.append(keras.Sequential(parts))
        ones = np.ones((4, 1), "float32")
        fit(models[-1], (x[:4], ones), optimizer, epochs=1, **EAGERLY)
    for ours, theirs in zip(*(model.weights for model in models), strict=True):
        if "deviations" in ours.name:
            assert (np.abs(to_numpy(ours) - to_numpy(theirs)) > 1e-3).any()
        else:
            np.testing.assert_allclose(to_numpy(ours), to_numpy(theirs), rtol=1e-5)


def test_the_reported_loss_has_the_penalties_in_it(task, rng):
    model = lasso_model(rng)
    penalties = sum(map(to_numpy, model.layers[0].penalties().values()))
    x, y = task
    data, optimizer = (x[:4], y[:4]), ProximalAdam(0.1)
    history = fit(model, data, optimizer, epochs=1, metrics=["mse"], **EAGERLY)
    assert penalties > 0.05
    np.testing.assert_allclose(history["loss"][0] - history["mse"][0], penalties, rtol=1e-4)


class Stronger(keras.callbacks.Callback):
    """Lassos that grow while `fit` goes on."""

    def on_epoch_begin(self, epoch, logs=None):
        layer = self.model.get_layer("soft")
        layer.tie_strength.assign(1.0 + epoch)
        layer.off_template_strength.assign(2.0 - 2 * epoch)


def test_strengths_that_a_callback_changes_within_fit(task, rng):
    model = lasso_model(rng)
    tie, off = STRENGTHS
    strengths = [(tie, 2 * off), (2 * tie, 0.0)]
    expected = expected_weights(model.layers[0], task, strengths=strengths, **adam())
    fit(model, task, ProximalAdam(0.1), callbacks=[Stronger()])
    assert_weights(model.layers[0], expected)


def test_strengths_changed_between_fits_without_compiling(task, rng):
    model = lasso_model(rng)
    tie, off = STRENGTHS
    strengths = [(tie, off), (10 * tie, 0.0)]
    expected = expected_weights(model.layers[0], task, strengths=strengths, **adam())
    fit(model, task, ProximalAdam(0.1), epochs=1)
    model.layers[0].tie_strength.assign(10.0)
    model.layers[0].off_template_strength.assign(0.0)
    fit(model, task, epochs=1)
    assert_weights(model.layers[0], expected)


def test_compiled_again_with_adam_it_has_the_gradient_of_the_penalties(task, rng):
    model = lasso_model(rng)
    layer = model.layers[0]
    fit(model, task, ProximalAdam(0.1), **EAGERLY)
    assert_some_zeros(flat_weights(layer))
    expected = expected_weights(layer, task, is_proximal=False, **adam())
    fit(model, task, Adam(0.1), **EAGERLY)
    assert_weights(layer, expected)


def test_weight_decay_can_leave_out_the_shared_kernel(rng):
    # As docs/addons.md advises: the decay is then a tie.
    layer = lasso_layer(rng)
    optimizer = SGD(1.0, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["shared"])
    optimizer.build(layer.trainable_weights)
    before = {weight.name: to_numpy(weight).copy() for weight in layer.trainable_weights}
    zeros = [ops.zeros(weight.shape) for weight in layer.trainable_weights]
    optimizer.apply_gradients(zip(zeros, layer.trainable_weights, strict=True))
    for weight in layer.trainable_weights:
        factor = 1.0 if "shared" in weight.name else 0.9
        expected = factor * before[weight.name]
        np.testing.assert_allclose(to_numpy(weight), expected, rtol=1e-5)
