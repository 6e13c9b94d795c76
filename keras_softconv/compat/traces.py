"""In which trace of JAX, or graph of TensorFlow, a computation runs.

JAX has no public question for this. Where it lacks the attributes that are read here, each
computation counts as one that runs in the trace of its inputs.
"""

import weakref
from collections.abc import Callable
from typing import Any

import keras

Tensor = Any

# TensorFlow's graphs of loop bodies and branches. Their tensors cannot be used outside.
CONTROL_FLOW_GRAPHS = {"CondBranchFuncGraph", "WhileBodyFuncGraph", "WhileCondFuncGraph"}


def is_symbolic() -> bool:
    """Whether Keras only infers shapes, and throws away all values."""
    try:
        from keras.src.backend.common.symbolic_scope import in_symbolic_scope
    except ImportError:  # a private module, which may move
        return False
    return in_symbolic_scope()


def is_stateless() -> bool:
    """Whether assignments to variables only go to a `keras.StatelessScope`."""
    try:
        from keras.src.backend.common.stateless_scope import in_stateless_scope
    except ImportError:  # a private module, which may move
        return False
    return in_stateless_scope()


def is_in_inner_trace(value: Tensor, beginning: Callable[[], Any] | None = None) -> bool:
    """Whether what is computed from a value here would leak out of a loop or a branch.

    On JAX these are the bodies of loops and branches, `jax.checkpoint`, and functions
    compiled by `jax.jit` that close over the value. On TensorFlow they are the graphs of
    loops and branches, and each `tf.function` that is called in the forward pass. Torch has
    no inner traces.

    Args:
        value: a tensor that was made outside of such a trace, as a layer's weights are.
        beginning: what `mark_beginning` returned where the forward pass began.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        traces, own = running_traces(), trace_of(value)
        is_older = own is None or any(own is trace for trace in traces[1:])
        return bool(traces) and is_older
    if backend == "tensorflow":
        graph = _tensorflow_graph()
        has_left = beginning is not None and beginning() is not graph
        return has_left or any(
            cls.__name__ in CONTROL_FLOW_GRAPHS for cls in type(graph).__mro__
        )
    return False


def mark_beginning() -> Callable[[], Any]:
    """A weak reference to the graph of TensorFlow in which a forward pass begins."""
    graph = None
    if keras.backend.backend() == "tensorflow":
        graph = _tensorflow_graph()
    return _no_graph if graph is None else weakref.ref(graph)


def _no_graph() -> None:
    """The reference for eager computations."""


def _tensorflow_graph() -> Any:
    """The graph that operations are added to, or None in eager mode."""
    return getattr(_new_constant(), "graph", None)


def _new_constant() -> Tensor:
    return keras.ops.add(keras.ops.zeros(()), 0.0)


def trace_of(tensor: Tensor) -> Any:
    """The trace of JAX that a tensor belongs to, or None for a concrete array."""
    return getattr(tensor, "_trace", None)


def running_traces() -> list[Any]:
    """The traces of JAX that run now, the innermost first; empty in eager computations.

    Those of `jax.grad` and `jax.vmap` are left out if they are the innermost, because they
    do not trace what is computed from constants.
    """
    trace, traces = trace_of(_new_constant()), []
    while getattr(trace, "parent_trace", None) is not None:  # JAX's eager trace has none
        traces.append(trace)
        trace = trace.parent_trace
    return traces
