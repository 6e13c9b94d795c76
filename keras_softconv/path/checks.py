"""What a path is given, or a clear error before the first training."""

from math import isfinite
from typing import Any

import numpy as np

from keras_softconv.arguments import is_integer
from keras_softconv.compat import keras
from keras_softconv.diagnostics import soft_layers
from keras_softconv.path.trainings import list_of_callbacks, no_batches

READ_AGAIN = (
    "Give arrays, a `keras.utils.PyDataset`, a `tf.data.Dataset` or a torch `DataLoader`. "
    "Batches that fit in memory can be put together into a pair of arrays `(x, y)`."
)


def standardize_strengths(strengths: Any) -> list[tuple[float, float]]:
    """Pairs of strengths, the strongest first."""
    try:
        is_text = isinstance(strengths, (str, bytes))
        numbers = [] if is_text else strengths
        pairs = [tuple(map(float, np.broadcast_to(one, 2))) for one in numbers]
    except (TypeError, ValueError):
        pairs = []
    if not pairs or not all(isfinite(s) and s >= 0 for pair in pairs for s in pair):
        raise ValueError(
            "`strengths` must be a sequence of finite numbers, 0 or more, or of pairs "
            f"`(tie_strength, off_template_strength)`. Received: strengths={strengths!r}. "
            "Give some such as `10.0 ** np.arange(-2, 3)`."
        )
    return sorted(pairs, key=lambda pair: (pair[0] * pair[1], *pair), reverse=True)


def check_make_model(make_model: Any) -> None:
    """Raise `ValueError` for what is no function, such as a model."""
    if isinstance(make_model, keras.Model) or not callable(make_model):
        raise ValueError(
            "`make_model` must be a function without arguments that returns a compiled "
            f"model. Received: {make_model!r}. Give `lambda: model` if there is a model "
            "already, whose weights the path then changes."
        )


def check_data(data: Any) -> None:
    """Raise `ValueError` for training data that `fit` cannot read at each strength."""
    _check_not_one_shot("data", data, READ_AGAIN)
    is_other = isinstance(data, (str, bytes, dict)) or hasattr(data, "shape")
    if data is None or is_other or _is_function(data):
        raise ValueError(
            "`data` must be a pair of arrays `(x, y)` or a dataset. Received: "
            f"{data if data is None else 'a ' + type(data).__name__}. {READ_AGAIN}"
        )
    if isinstance(data, (tuple, list)) and len(data) != 2:
        raise ValueError(
            "`data` must be a pair of arrays `(x, y)` or a dataset. Received: a "
            f"{type(data).__name__} of {len(data)}. For sample weights give a dataset."
        )
    if isinstance(data, (tuple, list)):
        _check_examples("data", data)
    elif _is_empty(data):
        raise no_batches(data)


def _is_empty(data: Any) -> bool:
    try:
        return len(data) == 0
    except TypeError:  # The length of a dataset may be unknown.
        return False


def _check_examples(name: str, data: Any) -> None:
    """Raise `ValueError` unless all arrays have the same number of rows, but 0."""
    sizes = [size for part in data for size in _sizes(part)]
    if len(set(sizes)) != 1 or not sizes[0]:
        raise ValueError(
            f"`{name}` must have a target for each of its examples, and one example or "
            f"more. Received: arrays of {sizes} examples. Give the inputs and targets of "
            "the same examples."
        )


def _is_function(data: Any) -> bool:
    return callable(data) and not hasattr(data, "__iter__") and not hasattr(data, "__len__")


def _check_not_one_shot(name: str, data: Any, remedy: str) -> None:
    """Raise `ValueError` for an iterator, which is empty after the first strength."""
    parts = data if isinstance(data, (tuple, list)) else (data,)
    for part in parts:
        if hasattr(part, "__next__"):
            raise ValueError(
                f"`{name}` must be something that can be read again at each strength. "
                f"Received: a {type(part).__name__}, an iterator that can be read only "
                f"once. {remedy}"
            )


def _sizes(part: Any) -> list[int | None]:
    """The number of rows of an array, of each array in a structure, or of a list."""
    arrays = [array for array in keras.tree.flatten(part) if hasattr(array, "__len__")]
    if arrays:
        return [len(array) for array in arrays]
    return [len(part) if hasattr(part, "__len__") else None]


def standardize_validation_data(data: Any) -> tuple[Any, Any]:
    """Inputs and targets, of the same number of examples."""
    _check_not_one_shot("validation_data", data, "Give a pair of arrays `(x, y)`.")
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise ValueError(
            "`validation_data` must be a pair of arrays `(x, y)`, for standard errors over "
            f"its examples. Received: {type(data).__name__}. Give the arrays themselves."
        )
    _check_examples("validation_data", data)
    return data[0], data[1]


def check_model(model: Any) -> None:
    """Raise `ValueError` for a model that has no strengths, or no loss to compare."""
    if not isinstance(model, keras.Model) or not getattr(model, "optimizer", None):
        raise ValueError(
            "`make_model` must return a compiled Keras model. Received: "
            f"{model!r}. Call `model.compile(optimizer, loss)` within it."
        )
    layers = soft_layers(model)
    if not layers or not all(layer.built for layer in layers.values()):
        raise ValueError(
            "`make_model` must return a built model with SoftConv layers, whose strengths "
            f"are the path. Received: model '{model.name}' with {list(layers) or 'none'}. "
            "Add a SoftConv2D layer, and begin the model with `keras.Input`."
        )
    outputs = len(getattr(model, "outputs", None) or [None])
    if isinstance(model.loss, (dict, list, tuple)) or model.loss is None or outputs > 1:
        raise ValueError(
            "`regularization_path` compares the loss of one output. Received: "
            f"loss={model.loss!r} with {outputs} outputs. Compile a model that has one "
            "output, with one loss."
        )


def check_epochs(epochs: Any = 1, initial_epoch: Any = 0, **other_arguments: Any) -> None:
    """Raise `ValueError` where the arguments of `fit` leave no epoch to train."""
    if not is_integer(epochs) or epochs <= initial_epoch:
        raise ValueError(
            "`epochs` must be a positive integer, and more than `initial_epoch`: the "
            f"budget of each strength. Received: epochs={epochs!r}, "
            f"initial_epoch={initial_epoch!r}. Give at least one more."
        )


def check_numbers(patience: Any, tolerance: Any, seed: Any) -> None:
    """Raise `ValueError` for a number that says nothing about a training."""
    if patience is not None and (not is_integer(patience) or patience < 1):
        raise ValueError(
            "`patience` must be None or a positive integer: the epochs without improvement "
            f"after which a training ends. Received: patience={patience!r}. Leave it out "
            "to use the default."
        )
    if isinstance(tolerance, bool) or not _is_share(tolerance):
        raise ValueError(
            "`tolerance` must be a number between 0 and 1: the relative improvement of the "
            f"training loss that counts as none. Received: tolerance={tolerance!r}. Give "
            "one such as 0.001."
        )
    if not is_integer(seed) or not 0 <= seed < 2**32:
        raise ValueError(
            "`seed` must be an integer from 0 to 2 ** 32 - 1. Received: "
            f"seed={seed!r}. Give one such as 0."
        )


def _is_share(value: Any) -> bool:
    try:
        return 0 < float(value) < 1
    except (TypeError, ValueError):
        return False


def check_callbacks(fit_arguments: dict[str, Any]) -> None:
    """Raise `ValueError` for callbacks that move the strengths which the path sets."""
    for callback in list_of_callbacks(fit_arguments):
        if getattr(callback, "moves_strengths", False):
            raise ValueError(
                "The strengths of a path must not be moved while it is made. Received: "
                f"callbacks with {type(callback).__name__}, which assigns strengths of its "
                "own. Leave it out of `callbacks`."
            )
