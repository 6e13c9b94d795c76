"""What tests ask of the backend that Keras runs on: its gradients, its compiler."""

import door  # noqa: F401 - before whatever imports Keras
import keras
import pytest
from keras import ops

BACKEND = keras.backend.backend()
KERAS_2 = keras.__version__.startswith("2.")

tensorflow_only = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="is about what only TensorFlow has"
)


def not_on(backend, reason):
    return pytest.mark.skipif(backend == BACKEND, reason=f"{backend} {reason}")


def not_on_keras_2(reason):
    return pytest.mark.skipif(KERAS_2, reason=f"Keras 2 {reason}")


def forget() -> None:
    """Keras's global state; quickly, where that can be asked for."""
    keras.backend.clear_session(**({} if KERAS_2 else {"free_memory": False}))


def gradients(function, tensors) -> list:
    """Gradients of the scalar `function(*tensors)`, of any order: they are tensors too.

    An argument that the function does not depend on has a gradient of zeros. Keras's
    variables are taken for their values, but with Keras 2, where functions read them.
    """
    return list(_gradients(function, [_value_of(t) for t in tensors]))


def _value_of(tensor):
    if not isinstance(tensor, keras.Variable):
        return ops.convert_to_tensor(tensor)
    return tensor if KERAS_2 else tensor.value


def _in_tensorflow(function, tensors):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    zeros = tf.UnconnectedGradients.ZERO
    found = tape.gradient(value, tensors, unconnected_gradients=zeros)
    return map(tf.convert_to_tensor, found)  # of what was looked up, it is told by slices


def _in_jax(function, tensors):
    import jax

    return at_once(jax.grad(function, argnums=range(len(tensors))))(*tensors)


def _in_torch(function, tensors):
    import torch

    leaves = [t if t.requires_grad else t.clone().requires_grad_() for t in tensors]
    value = function(*leaves)
    if not value.requires_grad:
        return map(torch.zeros_like, leaves)
    return torch.autograd.grad(value, leaves, create_graph=True, materialize_grads=True)


_gradients = {"tensorflow": _in_tensorflow, "jax": _in_jax, "torch": _in_torch}[BACKEND]


def as_it_is(function):
    return function


def with_xla(function):
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True)
    import jax

    # As users have it: `conftest.py` asks for less.
    options = {
        "xla_backend_optimization_level": 3,
        "xla_llvm_disable_expensive_passes": False,
    }
    return jax.jit(function, compiler_options=options)


def at_once(function):
    """The function as a whole for JAX, which compiles anew for each shape, and else
    each operation on its own: for small layers all of the time would go there."""
    if BACKEND != "jax":
        return function
    import jax

    return jax.jit(function)


# Torch's own compiler takes half a minute for a model.
WAYS = [as_it_is] if BACKEND == "torch" else [as_it_is, with_xla]
# JAX compiles training as a whole unless told not to, and each operation alone for longer.
ways_to_train = pytest.mark.parametrize("run", WAYS[1:] if BACKEND == "jax" else WAYS)
slow = pytest.mark.slow
# For long tests XLA is in the slow ring.
ways_in_rings = pytest.mark.parametrize(
    "run", [WAYS[0], *(pytest.param(way, marks=slow) for way in WAYS[1:])]
)
jit_compile_in_rings = pytest.mark.parametrize(
    "jit_compile",
    [False, *([] if BACKEND == "torch" else [pytest.param(True, marks=slow)])],
)
