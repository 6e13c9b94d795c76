"""Networks that tell digits apart, trained over and over from the same beginnings.

A network has one hidden layer with 8 numbers for each of 8x8 pixels and relu, max pooling
or none, and a readout for 10 classes, with the same small weight decay whatever the hidden
layer. Training is stopped, and strengths are chosen, by the cross-entropy of validation
images, which is far less coarse than the number of those that are mistaken.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from networks import BaseNetwork, Decay, Layers, hidden_without_sharing, soft_hidden
from sklearn.datasets import load_digits

from keras_softconv import SoftConv2D

GRID, CLASSES = (8, 8), 10
CONVOLUTION = {"filters": 8, "kernel_size": 3, "padding": "same", "activation": "relu"}
FIRST = 1200  # digits, among which those for training and validation are drawn
BATCH = 100
ROUND = 20  # steps, after which the validation images are looked at
ROUNDS = 16
RATE = 2e-2
READOUT_DECAY = 0.03  # in units of 1 / examples, as all strengths
# Weight decay alone, or tie and off-template strength.
Setting = tuple[float, ...]


@dataclass(frozen=True)
class Task:
    """What to tell apart, and how.

    Args:
        examples: to train on.
        pooled: whether the readout sees the maxima of 2x2 pixels only.
        permuted: whether the pixels change places, in all images alike.
    """

    examples: int
    pooled: bool = False
    permuted: bool = False


class Draw:
    """Training, validation and test images with their classes.

    The seed draws which images are for training and validation, the batches, and what the
    networks begin with. The test images are always the same, and so is the permutation.
    """

    def __init__(self, task: Task, seed: int) -> None:
        self.task, self.seed = task, seed
        rng = np.random.default_rng(seed)
        order = rng.permutation(FIRST)
        validation = min(max(50, task.examples // 4), FIRST - task.examples)
        images, classes = digits()
        if task.permuted:
            images = permute(images, permutation())
        self.train, self.validation, self.test = (
            (images[part], classes[part])
            for part in (
                order[: task.examples],
                order[task.examples :][:validation],
                np.arange(FIRST, len(images)),
            )
        )
        self.batches = _batches(*self.train, rng)


def _batches(
    images: np.ndarray, classes: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """For each step its images and classes; every epoch has an order of its own."""
    shown = ROUNDS * ROUND * BATCH
    epochs = -(-shown // len(images))
    order = np.concatenate([rng.permutation(len(images)) for _ in range(epochs)])
    order = order[:shown].reshape(-1, BATCH)
    return images[order], classes[order]


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Scikit-learn's handwritten digits and their classes."""
    found = load_digits()
    return (found.images / 16 - 0.3).astype("float32")[..., None], found.target


def permutation() -> np.ndarray:
    """Where each pixel comes from: one permutation, whatever the seed of the draw."""
    return np.random.default_rng(0).permutation(np.prod(GRID))


def permute(images: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Let the pixels change places."""
    return images.reshape(len(images), -1)[:, order].reshape(images.shape)


class Network(BaseNetwork):
    """Tells digits apart.

    Args:
        hidden: makes the hidden layer.
        pooled: as in the task.
        rounds: how often `ROUND` steps are made, with a rate that falls to 0.
    """

    def __init__(self, hidden: Layers, pooled: bool = False, rounds: int = ROUNDS) -> None:
        self.pooled, self.rounds = pooled, rounds
        # The loss has the penalties in it, this one has not.
        entropy = keras.metrics.SparseCategoricalCrossentropy("entropy", from_logits=True)
        super().__init__(
            (*GRID, 1),
            hidden,
            self._readout,
            ROUND * rounds,
            RATE,
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[entropy],
            steps_per_execution=ROUND,
        )

    def _readout(self, decay: Decay) -> list[keras.Layer]:
        pooling = [keras.layers.MaxPooling2D()] if self.pooled else []
        units = keras.layers.Dense(CLASSES, kernel_regularizer=decay)
        return [*pooling, keras.layers.Flatten(), units]

    def train(self, draw: Draw, setting: Setting) -> dict[str, Any]:
        """Go on from the weights that are there, to those of the best round."""
        self.set_strengths(setting, len(draw.train[0]))
        batches = tuple(part[: ROUND * self.rounds] for part in draw.batches)
        early = keras.callbacks.EarlyStopping(
            "val_entropy", mode="min", patience=self.rounds, restore_best_weights=True
        )
        # All in one batch, of a size that may differ without tracing anew.
        validation = tf.data.Dataset.from_tensor_slices(draw.validation).batch(FIRST)
        history = self.model.fit(
            tf.data.Dataset.from_tensor_slices(batches).cache(),
            steps_per_epoch=ROUND,
            epochs=self.rounds,
            validation_data=validation.cache(),
            callbacks=[early],
            shuffle=False,
            verbose=0,
        ).history
        validation_error = min(history["val_entropy"])
        error = self.mistaken(*draw.test)
        return {"setting": setting, "validation": validation_error, "error": error}

    def set_strengths(self, setting: Setting, examples: int) -> None:
        """In units of 1 / examples."""
        strengths = setting[0], setting[-1], READOUT_DECAY
        self.assign_strengths(*(strength / examples for strength in strengths))

    def mistaken(self, images: np.ndarray, classes: np.ndarray) -> float:
        """How many of the images, in %."""
        found = self.model.predict_on_batch(images).argmax(axis=-1)
        return float(100 * np.mean(found != classes))


def dense(decay: Decay) -> list[keras.Layer]:
    """Keras's `Dense`."""
    filters = CONVOLUTION["filters"]
    units = keras.layers.Dense(
        int(np.prod(GRID)) * filters, activation="relu", kernel_regularizer=decay
    )
    return [keras.layers.Flatten(), units, keras.layers.Reshape((*GRID, filters))]


def convolution(decay: Decay) -> list[keras.Layer]:
    """Keras's `Conv2D`."""
    return [keras.layers.Conv2D(**CONVOLUTION, kernel_regularizer=decay)]


def soft(**arguments: Any) -> Layers:
    """SoftConv2D with ridges, which begins as a convolution if not told otherwise."""
    return soft_hidden(SoftConv2D, **CONVOLUTION, **arguments)


def without_sharing(halo: int | None) -> Layers:
    """A locally connected layer (`halo=0`) or a dense one (None), of SoftConv2D."""
    return hidden_without_sharing(SoftConv2D, **CONVOLUTION, halo=halo)
