"""Lambda functions, which Keras writes into configs and refuses to read from them."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from keras_softconv.compat import keras


@contextmanager
def named_lambdas(*objects: Any) -> Iterator[None]:
    """Let Keras copy objects with lambda functions by their configs.

    Within this context each lambda function has a name, by which configs refer to it, so
    that the copy has the same function. A config that is not saved needs no code in it.

    Args:
        *objects: Keras models, layers, optimizers, and whatever else has a `get_config`.
    """
    functions = list(_lambdas_within(objects, set()))
    named = {f"keras_softconv_lambda_{n}": each for n, each in enumerate(functions)}
    own_names = [function.__name__ for function in functions]
    try:
        for name, function in named.items():
            function.__name__ = name
        with keras.saving.custom_object_scope(named):
            yield
    finally:
        for name, function in zip(own_names, functions, strict=True):
            function.__name__ = name


def _lambdas_within(value: Any, seen: set[int]) -> Iterator[FunctionType]:
    """The lambda functions among the attributes of Keras's objects, each once."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, FunctionType) and value.__name__ == "<lambda>":
        yield value
        return
    parts = ()
    if isinstance(value, dict):
        parts = value.values()
    elif isinstance(value, (list, tuple)):
        parts = value
    elif hasattr(type(value), "get_config"):
        parts = vars(value).values()
    for part in list(parts):
        yield from _lambdas_within(part, seen)
