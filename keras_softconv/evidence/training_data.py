"""The training data of AdaptiveStrengths: arrays, or a dataset that can be read again."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from keras_softconv.compat import keras, ops
from keras_softconv.evidence.likelihoods import Likelihood

Shape = tuple[int, ...]

HOW = "Give arrays, a `keras.utils.PyDataset`, a `tf.data.Dataset` or a torch `DataLoader`."


class TrainingData:
    """Batches of inputs and labels, the same at each reading.

    Args:
        x: inputs, an array with the examples along its first axis, or a dataset whose
            batches are pairs `(x, y)`.
        y: labels, an array; None with a dataset.
        batch_size: of arrays.

    Raises:
        ValueError: for data that can be read only once or never end, arrays of different
            lengths, and `y` beside a dataset.
    """

    def __init__(self, x: Any, y: Any, batch_size: int) -> None:
        self._batch_size = batch_size
        self._shape: tuple[int | None, ...] = ()
        self._likelihood: Likelihood | None = None
        self._is_dataset = y is None
        if self._is_dataset:
            _check_dataset(x)
            self.x, self.y = x, None
        else:
            self.x, self.y = _as_array("x", x), _as_array("y", y)
            _check_lengths(self.x, self.y)

    def __deepcopy__(self, memo: dict[int, Any]) -> "TrainingData":
        """The same data, which are only read; some datasets cannot be copied."""
        return self

    def batches(self, number: int = 1) -> Iterator[tuple[Any, Any]]:
        """All examples once.

        Args:
            number: of batches that are wanted of arrays, at least, of similar sizes.
        """
        if not self._is_dataset:
            size = min(self._batch_size, -(-len(self.x) // number))
            for begin in range(0, len(self.x), size):
                rows = slice(begin, begin + size)
                yield self.x[rows], self.y[rows]
            return
        has_length = hasattr(self.x, "__getitem__") and hasattr(self.x, "__len__")
        batches = map(self.x.__getitem__, range(len(self.x))) if has_length else self.x
        is_empty = True
        for batch in batches:
            x, y = keras.tree.map_structure(ops.convert_to_numpy, _checked_pair(batch))
            if not len(y):
                continue
            is_empty = False
            if self._likelihood is not None:
                _check_labels(y, (None, *self._shape), self._likelihood)
            yield x, y
        if is_empty:
            raise ValueError(
                "AdaptiveStrengths reads the training data again at each update. Received: "
                f"a {type(self.x).__name__} without a batch, or without one left. {HOW}"
            )

    @cached_property
    def label_variance(self) -> float:
        """Over the examples, the mean of all outputs."""
        examples, sums, squares = 0, 0.0, 0.0
        for _, labels in self.batches():
            labels = labels.astype("float64")
            examples += len(labels)
            sums = sums + labels.sum(axis=0)
            squares = squares + (labels**2).sum(axis=0)
        return float(np.mean(squares / examples - (sums / examples) ** 2))

    def output_shape(self, labels: Any) -> Shape:
        """Of the outputs for a batch of labels."""
        return (labels.shape[0], *self._shape)

    def check(self, model: keras.Model, likelihood: Likelihood) -> None:
        """Compare the labels with a model's outputs.

        All labels of arrays are looked at, and the first batch of a dataset; its others are
        looked at when they are read.

        Raises:
            ValueError: for a model without one output of known shape, labels that do not
                fit the outputs, and values that the loss has no meaning for.
        """
        shape = getattr(model, "output_shape", None)
        is_known = isinstance(shape, tuple) and all(
            size is None or isinstance(size, int) for size in shape
        )
        if not is_known or None in shape[1:]:
            raise ValueError(
                "AdaptiveStrengths needs a Sequential or functional model with one output "
                f"of known size. Received: outputs of shape {shape}. Begin the model with "
                "`keras.Input` and all sizes, or compare strengths by "
                "`keras_softconv.regularization_path`."
            )
        self._shape = shape[1:]
        self._likelihood = likelihood
        labels = next(self.batches())[1] if self._is_dataset else self.y
        _check_labels(labels, shape, likelihood)


def _as_array(name: str, data: Any) -> np.ndarray:
    if not isinstance(data, list) and not hasattr(data, "shape"):
        raise ValueError(
            f"AdaptiveStrengths needs `{name}` as an array beside the other one. Received: "
            f"{type(data).__name__}. Give two arrays, or a dataset of pairs alone."
        )
    return np.asarray(ops.convert_to_numpy(data))


def _check_lengths(x: np.ndarray, y: np.ndarray) -> None:
    if not x.ndim or not y.ndim or len(x) != len(y) or not len(x):
        raise ValueError(
            "AdaptiveStrengths needs `x` and `y` with the same number of examples. "
            f"Received: shapes {x.shape} and {y.shape}. Give the arrays that `fit` is "
            "given, of one input and one output."
        )


def _check_dataset(data: Any) -> None:
    is_array = isinstance(data, (list, tuple, dict)) or hasattr(data, "shape")
    can_be_read = hasattr(data, "__iter__") or hasattr(data, "__getitem__")
    if is_array or not can_be_read:
        raise ValueError(
            "AdaptiveStrengths needs arrays `x` and `y`, or a dataset of pairs `(x, y)`. "
            f"Received: x of type {type(data).__name__}, and no y. {HOW}"
        )
    if hasattr(data, "__next__"):
        raise ValueError(
            "AdaptiveStrengths reads the training data again at each update. Received: a "
            f"{type(data).__name__}, an iterator that can be read only once. {HOW}"
        )
    if _is_endless(data):
        raise ValueError(
            "AdaptiveStrengths reads the training data to their end at each update. "
            f"Received: a {type(data).__name__} that never ends. Leave out `repeat()`, or "
            "give it a number of batches by `take(...)`."
        )


def _is_endless(data: Any) -> bool:
    if hasattr(data, "cardinality"):  # of `tf.data`, where -1 is infinite
        return int(data.cardinality()) == -1
    return hasattr(data, "num_batches") and data.num_batches is None


def _checked_pair(batch: Any) -> tuple[Any, Any]:
    is_pair = isinstance(batch, (tuple, list)) and len(batch) == 2
    if not is_pair or not hasattr(batch[1], "shape"):
        raise ValueError(
            "AdaptiveStrengths takes a dataset whose batches are pairs of inputs and the "
            f"labels of one output, without sample weights. Received: {_describe(batch)}. "
            "Leave the weights out, or compare strengths by "
            "`keras_softconv.regularization_path`."
        )
    return tuple(batch)


def _describe(batch: Any) -> str:
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        return f"a pair with labels of type {type(batch[1]).__name__}"
    if isinstance(batch, (tuple, list)):
        return f"a {type(batch).__name__} of {len(batch)}"
    return f"a {type(batch).__name__}"


def _check_labels(labels: np.ndarray, shape: Shape, likelihood: Likelihood) -> None:
    title = type(likelihood.loss).__name__
    expected = shape[1:-1] if likelihood.has_class_numbers else shape[1:]
    found = labels.shape[1:]
    # Keras takes labels without a last axis of one.
    if found not in (expected, (*expected, 1)) and (*found, 1) != expected:
        raise ValueError(
            f"The labels do not fit the model. {title} with outputs of shape {shape} "
            f"expects labels of shape {(None, *expected)}. Received: `y` of shape "
            f"{labels.shape}. Reshape `y`, or take another loss."
        )
    fault = likelihood.find_faults(labels, shape[-1])
    if fault:
        raise ValueError(
            f"The labels do not fit the loss. With {title} the labels {fault}. Received: "
            f"labels from {labels.min()} to {labels.max()}. Correct `y`, or take another "
            "loss."
        )
