"""Tasks whose loss is a likelihood, with networks of one SoftConv layer.

- *digits*: scikit-learn's handwritten digits; the seed draws the test digits, too;
- *sensors*: series of many sensors, see sensors.py;
- *planted*: Gaussian images, and for each of 6x6 places one of three classes. The logits
  are a 3x3 convolution of the image or, with kernels of their own, locally connected;
- *regression*: one number for each image, of a network with one hidden layer, and noise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import classification
import keras
import numpy as np
import sensors
from drawn import Data

from keras_softconv import SoftConv1D, SoftConv2D

Setting = tuple[float, float, float, float]
VALIDATION, TEST = 300, 1000
PLANTED_CLASSES = 3
NOISE_VARIANCE = 0.25  # of the regression, whose signal has variance 1


@dataclass(frozen=True)
class Task:
    """What to learn, with which network.

    Args:
        draw: makes the data of a seed.
        layer: makes the SoftConv layer from its regularizers.
        between: makes the layers between it and the readout.
        outputs: of the dense readout; 0 for none.
        ties: strengths to try, in units of 1 / terms of the loss, as are all others.
        off_template: the same off the template; 0 alone where there are no such weights.
        decays: the same of the shared kernel and of the readout, in pairs.
        is_classifier: whether the labels are classes.
        rounds: how often strengths are learned in a training.
        round_steps: how many steps are made each time.
    """

    draw: Callable[[int], Data]
    layer: Callable[..., keras.Layer]
    between: Callable[[], list[keras.Layer]]
    outputs: int
    ties: list[float]
    off_template: tuple[float, ...] = (0.0,)
    decays: tuple[tuple[float, float], ...] = ((0.0, 0.0),)
    is_classifier: bool = True
    rounds: int = 24
    round_steps: int = 25


def digits(examples: int) -> Callable[[int], Data]:
    def draw(seed: int) -> Data:
        images, classes = classification.digits()
        order = np.random.default_rng(seed).permutation(len(images))
        return _divided(images[order], classes[order], examples, seed)

    return draw


def series(examples: int) -> Callable[[int], Data]:
    task = sensors.Task(examples, steps=64, channels=4, amplitude=1.0)

    def draw(seed: int) -> Data:
        found = sensors.Draw(task, seed)
        return Data(found.train, found.validation, found.test, seed)

    return draw


def planted(examples: int, own_kernels: bool) -> Callable[[int], Data]:
    def draw(seed: int) -> Data:
        rng = np.random.default_rng(seed)
        shared = 0.7 * rng.normal(size=(3, 3, PLANTED_CLASSES))
        own = 0.5 * rng.normal(size=(6, 6, *shared.shape))
        kernels = shared + own_kernels * own
        images = rng.normal(size=(examples + VALIDATION + TEST, 8, 8, 1))
        logits = np.einsum("npqij,pqijc->npqc", _windows(images), kernels)
        classes = (logits + rng.gumbel(size=logits.shape)).argmax(axis=-1)
        return _divided(images, classes, examples, seed)

    return draw


def regression(examples: int) -> Callable[[int], Data]:
    def draw(seed: int) -> Data:
        rng = np.random.default_rng(seed)
        images = rng.normal(size=(examples + VALIDATION + TEST, 8, 8, 1))
        kernels, readout = rng.normal(size=(3, 3, 4)), rng.normal(size=(6, 6, 4))
        hidden = np.einsum("npqij,ijc->npqc", _windows(images), kernels)
        signal = np.einsum("npqc,pqc->n", np.maximum(hidden, 0), readout)
        signal = (signal - signal.mean()) / signal.std()
        noise = NOISE_VARIANCE**0.5 * rng.normal(size=signal.shape)
        return _divided(images, (signal + noise)[:, None], examples, seed)

    return draw


def _windows(images: np.ndarray) -> np.ndarray:
    """All 3x3 pieces, `(examples, rows, columns, 3, 3)`."""
    return np.lib.stride_tricks.sliding_window_view(images[..., 0], (3, 3), axis=(1, 2))


def _divided(inputs: np.ndarray, labels: np.ndarray, examples: int, seed: int) -> Data:
    begins = 0, examples, examples + VALIDATION, examples + VALIDATION + TEST
    inputs = inputs.astype("float32")
    if labels.dtype.kind == "f":
        labels = labels.astype("float32")
    parts = (slice(*ends) for ends in pairwise(begins))
    return Data(*((inputs[part], labels[part]) for part in parts), seed=seed)


def hidden_2d(filters: int, **arguments: Any) -> Callable[..., keras.Layer]:
    """A hidden layer with its template alone."""
    options = {"filters": filters, "kernel_size": 3, "activation": "relu", "halo": 0}
    return lambda **ridges: SoftConv2D(**options, **arguments, **ridges)


def hidden_of_series(**ridges: Any) -> keras.Layer:
    return SoftConv1D(8, 9, activation="relu", halo=0, **ridges)


def logits(**ridges: Any) -> keras.Layer:
    return SoftConv2D(PLANTED_CLASSES, 3, **ridges)
