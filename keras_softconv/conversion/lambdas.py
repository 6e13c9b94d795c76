"""Lambda functions, which Keras writes into configs and refuses to read from them."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from keras_softconv.compat import keras


@contextmanager
def named_lambdas(model: keras.Model) -> Iterator[None]:
    """Let Keras copy a model with lambda functions by its configs.

    Within this context each lambda function has a name, by which configs refer to it, so
    that the copy has the same function. A config that is not saved needs no code in it.
    """
    functions = list(_lambdas_within([model, _compile_arguments(model)]))
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


def _compile_arguments(model: keras.Model) -> dict[str, Any]:
    """What a model was compiled with, if Keras keeps it where it is looked for here."""
    return getattr(getattr(model, "_compile_config", None), "config", {})


def _lambdas_within(objects: list[Any]) -> Iterator[FunctionType]:
    """The lambda functions among the attributes of Keras's objects, each once."""
    waiting, seen = list(objects), {}
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value  # kept, so that no other object has this number
        if isinstance(value, FunctionType) and value.__name__ == "<lambda>":
            yield value
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, (list, tuple)):
            waiting.extend(value)
        elif hasattr(type(value), "get_config"):
            waiting.extend(vars(value).values())
