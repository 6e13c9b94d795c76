"""Strengths that callbacks move by a closure, while Keras has the values on JAX."""

import copy
import pickle
import threading

import keras
import numpy as np
import pytest
from backends import BACKEND
from keras import ops, regularizers
from keras.callbacks import LambdaCallback
from keras.ops import convert_to_numpy as to_numpy
from lasso_models import task_of
from soft_models import compile_and_build

from keras_softconv import SoftConv1D
from keras_softconv.callbacks import StrengthSchedule
from keras_softconv.regularizers import FamilyStrengths

jax_only = pytest.mark.skipif(BACKEND != "jax", reason="is about JAX")
STEPS = 2  # batches in each of two epochs


def new_model(**arguments):
    arguments = {"tie_regularizer": regularizers.L2(0.5), "name": "soft", **arguments}
    layer = SoftConv1D(2, 3, deviation_initializer="ones", **arguments)
    model = keras.Sequential([keras.Input((5, 2)), layer])
    compile_and_build(model, keras.optimizers.SGD(0.0), jit_compile=BACKEND == "jax")
    return model


@pytest.fixture(scope="module")
def train():
    """Trains with callbacks; the loss of each step, of a model that does not learn."""

    def losses(model, *callbacks, **arguments):
        x, y = task_of(np.random.default_rng(0))
        means = []  # over the steps of an epoch

        # Without `self.model`, which would bring the variables up to date.
        keep = LambdaCallback(on_train_batch_end=lambda _, logs: means.append(logs["loss"]))
        options = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
        model.fit(x, y, callbacks=[keep, *callbacks], **options, **arguments)
        sums = np.reshape(means, (-1, STEPS)) * np.arange(1, STEPS + 1)
        return np.diff(sums, axis=1, prepend=0).ravel()

    return losses


def tie_penalty(layer) -> float:
    return float(to_numpy(layer.penalties()["tie_penalty"]))


MOVES = {
    "the layer's": lambda layer: (
        lambda batch, logs=None: layer.tie_strength.assign_add(1.0)
    ),
    "captured": lambda layer: (
        lambda batch, logs=None, strength=layer.tie_strength: strength.assign(
            strength + 1.0
        )
    ),
}


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_train_batch_begin"])
@pytest.mark.parametrize("kind", MOVES)
def test_a_closure_moves_a_strength_at_each_batch(kind, hook, train):
    model = new_model()
    layer = model.layers[0]
    unit, before = tie_penalty(layer), train(model)
    losses = train(model, LambdaCallback(**{hook: MOVES[kind](layer)}))
    moved = np.arange(2 * STEPS) + (hook == "on_train_batch_begin")
    np.testing.assert_allclose(losses, before + moved * unit, rtol=1e-5)
    assert float(to_numpy(layer.tie_strength)) == 1 + 2 * STEPS
    assert int(to_numpy(model.optimizer.iterations)) == 4 * STEPS


def test_strengths_of_families_are_moved_as_well(train):
    model = new_model(tie_regularizer=FamilyStrengths(regularizers.L2(0.5)))
    (strengths,) = (w for w in model.layers[0].weights if w.name == "tie_family_strengths")
    before = train(model)
    unit = float(
        to_numpy(ops.sum(0.5 * model.layers[0].weight_sharing.template(
            ops.square(model.layers[0].deviations)
        )))
    )  # fmt: skip
    move = LambdaCallback(
        on_train_batch_end=lambda batch, logs: strengths.assign(
            3 * np.ones(strengths.shape)
        )
    )
    losses = train(model, move)
    np.testing.assert_allclose(losses[0], before[0], rtol=1e-5)
    np.testing.assert_allclose(losses[1:], before[1:] + 2 * unit, rtol=1e-5)


def test_a_closure_reads_them_and_schedules_go_on(train):
    model = new_model()
    layer = model.layers[0]
    seen = []
    read = LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(
            float(to_numpy(layer.tie_strength))
        )
    )
    train(model, StrengthSchedule(tie_strength=lambda epoch: 2.0 + epoch), read)
    assert seen == [2.0] * STEPS + [3.0] * STEPS


def test_in_the_batches_of_an_evaluation(train):
    model = new_model()
    layer = model.layers[0]
    x, y = task_of(np.random.default_rng(0))
    first = model.evaluate(x[:4], y[:4], batch_size=4, verbose=0)
    both = model.evaluate(x, y, batch_size=4, verbose=0)
    unit = tie_penalty(layer)

    class Moves(keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            layer.tie_strength.assign(5.0)

    moved = model.evaluate(x, y, batch_size=4, verbose=0, callbacks=[Moves()])
    np.testing.assert_allclose(moved, both + 4 * unit / 2, rtol=1e-5)
    assert float(to_numpy(layer.tie_strength)) == 5
    assert first != both


@jax_only
def test_outside_of_a_callback_nothing_is_lost_in_silence():
    model = new_model()
    strength = model.layers[0].tie_strength
    x, y = task_of(np.random.default_rng(0))

    def batches():
        for _ in range(4):  # Keras takes two of them before the first step
            yield x, y
        strength.assign(2.0)

    with pytest.raises(ValueError, match=r"has no value here.*Move strengths in"):
        model.fit(batches(), shuffle=False, verbose=0)
    assert float(strength.value) == 1


@jax_only
def test_in_another_thread_nothing_is_lost_in_silence(train):
    model = new_model()
    strength = model.layers[0].tie_strength
    errors = []

    def assign():
        with pytest.raises(ValueError, match=r"has no value here.*the thread that called"):
            strength.assign(2.0)
        errors.append(1)

    def in_a_thread(batch, logs):
        thread = threading.Thread(target=assign)
        thread.start()
        thread.join()

    train(model, LambdaCallback(on_train_batch_end=in_a_thread))
    assert errors == [1] * 2 * STEPS


@jax_only
def test_in_a_stateless_scope_it_is_a_variable_as_any_other():
    strength = new_model().layers[0].tie_strength
    with keras.StatelessScope([(strength, 3.0)]) as scope:
        assert float(strength.value) == 3
        strength.assign(4.0)
    assert float(scope.get_current_value(strength)) == 4
    assert float(strength.value) == 1


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
}


@pytest.mark.parametrize("kind", COPIES)
def test_copies(kind):
    model = new_model()
    model.layers[0].tie_strength.assign(3.0)
    layer = COPIES[kind](model).layers[0]
    assert float(to_numpy(layer.tie_strength)) == 3
    layer.tie_strength.assign(4.0)
    assert float(to_numpy(model.layers[0].tie_strength)) == 3
