"""Layers in loops, branches and cells: their penalties count once, with a gradient.

The twin of each model registers its penalties as regularizers, which Keras computes
outside of loops.
"""

import sys
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
from backends import BACKEND, not_on, tensorflow_only
from keras import ops, regularizers
from keras.ops import convert_to_numpy as to_numpy
from soft_models import compile_and_build

from keras_softconv import SoftConv1D
from keras_softconv.compat import is_stateless, is_symbolic

SHAPE = (2, 1)
STEPS = 3


def new_layer(registration="add_loss") -> SoftConv1D:
    layer = SoftConv1D(
        1, 2, padding="same", name="soft", tie_regularizer=regularizers.L2(0.5),
        off_template_regularizer=regularizers.L2(0.25), penalty_registration=registration,
    )  # fmt: skip
    layer.build((None, *SHAPE))
    random = np.random.default_rng(1)
    for weight in layer.trainable_weights:
        weight.assign(0.3 * random.normal(size=weight.shape))
    return layer


def total_penalty(layer) -> float:
    return float(sum(to_numpy(penalty) for penalty in layer.penalties().values()))


def in_fori_loop(layer, x):
    return ops.fori_loop(0, STEPS, lambda _, state: layer(state), x)


def in_while_loop(layer, x):
    def is_before_end(step, _):
        return step < STEPS

    def next_of(step, state):
        return step + 1, layer(state)

    return ops.while_loop(is_before_end, next_of, (0, x), maximum_iterations=STEPS)[1]


def in_scan(layer, x):
    return ops.scan(
        lambda state, _: (layer(state), state), x, xs=ops.ones((STEPS, *SHAPE))
    )[0]


def in_map(layer, x):
    return ops.map(lambda each: layer(each[None])[0], x)


def in_vectorized_map(layer, x):
    return ops.vectorized_map(lambda each: layer(each[None])[0], x)


def in_branch(layer, x):
    return ops.cond(ops.sum(x) > -1e6, lambda: layer(x), lambda: x)


def in_switch(layer, x):
    index = ops.cast(ops.sum(x) > -1e6, "int32")
    return ops.switch(index, [lambda state: state, lambda state: layer(state)], x)


def before_loop(layer, x):
    return in_fori_loop(layer, layer(x))


def after_loop(layer, x):
    return layer(in_fori_loop(layer, x))


def in_loop_in_branch(layer, x):
    return ops.cond(ops.sum(x) > -1e6, lambda: in_fori_loop(layer, x), lambda: x)


class Uses(keras.Model):
    """Calls its layer in one of these ways."""

    def __init__(self, layer, use):
        super().__init__()
        self.soft = layer
        self.use = use
        self.built = True

    def call(self, x):
        return self.use(self.soft, x)


class Cell(keras.layers.Layer):
    """A recurrent cell whose state goes through a SoftConv layer."""

    def __init__(self, layer):
        super().__init__()
        self.soft = layer
        self.state_size = SHAPE
        self.built = True

    def call(self, x, states):
        state = ops.tanh(self.soft(states[0]) + x)
        return state, [state]

    def get_initial_state(self, batch_size=None):
        return [ops.zeros((batch_size, *SHAPE))]


def with_cell(layer, _):
    cells = keras.layers.RNN(Cell(layer))
    inputs = keras.Input((STEPS, *SHAPE))
    return keras.Model(inputs, cells(inputs))


@dataclass
class Use:
    use: Any
    make: Any = Uses
    marks: tuple[pytest.MarkDecorator, ...] = ()


slow = pytest.mark.slow
# JAX compiles each of these for seconds.
SLOW_ON_JAX = (slow,) if BACKEND == "jax" else ()
USES = {
    "fori_loop": Use(in_fori_loop),
    "while_loop": Use(in_while_loop, marks=(not_on("jax", "has no gradient of these"),)),
    "scan": Use(in_scan, marks=SLOW_ON_JAX),
    "map": Use(in_map, marks=(slow,)),
    "vectorized_map": Use(in_vectorized_map, marks=(slow,)),
    "cond": Use(in_branch),
    "switch": Use(in_switch, marks=(slow,)),
    "before a loop": Use(before_loop, marks=SLOW_ON_JAX),
    "after a loop": Use(after_loop, marks=(slow,)),
    "loop in a branch": Use(in_loop_in_branch, marks=(slow,)),
    "cell": Use(None, with_cell),
}
uses = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=use.marks) for name, use in USES.items()]
)


def task_for(name):
    random = np.random.default_rng(2)
    shape = (STEPS, *SHAPE) if name == "cell" else SHAPE
    x, y = random.normal(size=(4, *shape)), random.normal(size=(4, *SHAPE))
    return x.astype("float32"), y.astype("float32")


def fitted(name, registration, **arguments) -> tuple[float, float, SoftConv1D]:
    """Loss of `fit`, the penalties before it, and the layer after a step of it."""
    layer = new_layer(registration)
    model = USES[name].make(layer, USES[name].use)
    penalty = total_penalty(layer)
    compile_and_build(model, keras.optimizers.SGD(0.1), **arguments)
    history = model.fit(*task_for(name), batch_size=4, verbose=0).history
    return history["loss"][0], penalty, layer


@uses
def test_fit_counts_the_penalties_once(name):
    # TensorFlow traces for longer than it computes: once for each case is enough.
    compiled = {"jit_compile": False} if BACKEND == "tensorflow" else {}
    loss, penalty, layer = fitted(name, "add_loss", **compiled)
    eagerly = {"run_eagerly": True} if BACKEND == "tensorflow" else {}
    expected, _, twin = fitted(name, "regularizer", **eagerly)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert penalty > 0.05 * loss
    for weight, of_twin in zip(layer.weights, twin.weights, strict=True):
        np.testing.assert_allclose(
            to_numpy(weight), to_numpy(of_twin), rtol=1e-4, atol=1e-6
        )


@tensorflow_only
@pytest.mark.parametrize("in_function", [False, True], ids=["eager", "function"])
@pytest.mark.parametrize("use", [in_fori_loop, in_branch])
def test_a_custom_loop_with_a_tape(use, in_function):
    import tensorflow as tf

    layer = new_layer()
    x, _ = task_for("custom loop")

    def gradient_of_losses():
        with tf.GradientTape() as tape:
            use(layer, tf.constant(x))
            loss = sum(layer.losses)
        return loss, tape.gradient(loss, layer.bias_deviations.value)

    run = tf.function(gradient_of_losses) if in_function else gradient_of_losses
    loss, gradient = run()
    np.testing.assert_allclose(loss, total_penalty(layer), rtol=1e-5)
    # The ties are `0.5 * sum(d ** 2)`.
    np.testing.assert_allclose(gradient, to_numpy(layer.bias_deviations), rtol=1e-5)


class CallsAFunction(keras.Model):
    """Has a `call` that TensorFlow compiles by itself."""

    def __init__(self, layer):
        import tensorflow as tf

        super().__init__()
        self.soft = layer
        self.compiled_layer = tf.function(layer)
        self.built = True

    def call(self, x):
        return self.compiled_layer(x)


@tensorflow_only
def test_a_compiled_function_within_the_model():
    layer = new_layer()
    model = CallsAFunction(layer)
    x, y = task_for("function")
    for _ in range(2):  # traced, and from TensorFlow's cache
        outputs = model(x)
        np.testing.assert_allclose(sum(model.losses), total_penalty(layer), rtol=1e-5)
    expected = np.mean((to_numpy(outputs) - y) ** 2) + total_penalty(layer)
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
    loss = model.fit(x, y, batch_size=4, verbose=0).history["loss"]
    np.testing.assert_allclose(loss, [expected], rtol=1e-5)


def test_after_a_loop_the_penalties_are_added_as_before():
    layer = new_layer()
    x = ops.convert_to_tensor(task_for("plain")[0])
    layer(x)
    assert len(layer.losses) == 2
    in_trace(lambda x: in_branch(layer, x), x)
    # Now they are regularizers, of the deviations and the bias deviations.
    np.testing.assert_allclose(
        float(sum(map(to_numpy, layer.losses))), total_penalty(layer), rtol=1e-5
    )
    layer(x)
    assert len(layer.losses) == 2
    assert layer.deviations.regularizer is None
    assert layer.bias_deviations.regularizer is None


def in_trace(function, x):
    """Calls a function of tensors as training does, compiled where the backend compiles."""
    if BACKEND == "jax":
        import jax

        return jax.jit(function)(x)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function)(x)
    return function(x)


class Holds(keras.layers.Layer):
    """Has no `compute_output_shape`: Keras calls it to infer shapes."""

    def __init__(self, layer):
        super().__init__()
        self.soft = layer
        self.built = True

    def call(self, x):
        return self.soft(x)


def test_inferring_shapes_registers_nothing():
    layer = new_layer()
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, Holds(layer)(inputs))
    assert model.losses == []
    assert layer.deviations.regularizer is None
    model(np.zeros((1, *SHAPE), "float32"))
    assert len(model.losses) == 2


def test_without_a_private_module_of_keras_nothing_is_symbolic(monkeypatch):
    for name in ("symbolic", "stateless"):
        monkeypatch.setitem(sys.modules, f"keras.src.backend.common.{name}_scope", None)
    with keras.StatelessScope(), keras.SymbolicScope():
        assert not is_symbolic()
        assert not is_stateless()
    monkeypatch.undo()
    with keras.StatelessScope(), keras.SymbolicScope():
        assert is_symbolic()
        assert is_stateless()
