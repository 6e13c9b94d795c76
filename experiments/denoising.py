"""Real pictures with noise, to be restored by one linear layer.

Digits: the 8x8 handwritten digits that come with scikit-learn, the last 597 for the test.
Photographs: 8x8 pieces of its two sample photographs, grey and 2x2 pixels averaged; from
one to train, from the other, of another kind, to test.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from sklearn.datasets import load_digits, load_sample_image

SIDE = 8
TEST_PIECES = 4000
BASELINES = ("Dense", "Dense + weight decay", "Conv2D")
LOCAL, BIASED = "Locally connected", "Conv2D + biases"
RULE_OF_THUMB = "rule"


@dataclass(frozen=True)
class Task:
    """What to restore.

    Args:
        source: 'digits' or 'photographs'.
        examples: to train on.
        kernel_size: of the convolution.
    """

    source: str
    examples: int
    kernel_size: int = 3

    @property
    def noise(self) -> float:
        """Standard deviation; digits reach from -0.3 to 0.7, photographs from 0 to 1."""
        return {"digits": 0.5, "photographs": 0.15}[self.source]


class Draw:
    """Training, validation and test pictures, noisy and clean.

    Digits for training and validation, or the pieces' places, and the noise are drawn by
    the seed; the test digits are always the same.
    """

    def __init__(self, task: Task, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.task = task
        size = task.kernel_size
        self.convolution = {"filters": 1, "kernel_size": size, "padding": "same"}
        counts = task.examples, max(50, task.examples // 4)
        parts = {"digits": _digits, "photographs": _pieces}[task.source](*counts, rng)
        self.train, self.validation, self.test = (
            (clean + task.noise * rng.normal(size=clean.shape).astype("float32"), clean)
            for clean in parts
        )

    def error(self, predict: Callable[[np.ndarray], np.ndarray]) -> float:
        """Mean squared error on the test pictures in % of the variance of the noise."""
        noisy, clean = self.test
        wrong = predict(noisy).reshape(clean.shape) - clean
        return float(100 * np.mean(wrong**2) / self.task.noise**2)


def _digits(train: int, validation: int, rng: np.random.Generator) -> list[np.ndarray]:
    images = (load_digits().images / 16 - 0.3).astype("float32")[..., None]
    order = rng.permutation(1200)
    return [images[order[:train]], images[order[train:][:validation]], images[1200:]]


def _pieces(train: int, validation: int, rng: np.random.Generator) -> list[np.ndarray]:
    china, flower = photograph("china.jpg"), photograph("flower.jpg")
    of_china = cut(china, train + validation, rng)
    test = cut(flower, TEST_PIECES, rng)
    return [of_china[:train], of_china[train:], test]


@cache
def photograph(name: str) -> np.ndarray:
    """In grey, from 0 to 1, 2x2 pixels averaged."""
    grey = load_sample_image(name).mean(axis=-1) / 255
    rows, columns = (size // 2 for size in grey.shape)
    grey = grey[: 2 * rows, : 2 * columns]
    return grey.reshape(rows, 2, columns, 2).mean(axis=(1, 3))


def cut(picture: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Pieces from places drawn at random, `(number, 8, 8, 1)`."""
    pieces = np.lib.stride_tricks.sliding_window_view(picture, (SIDE, SIDE))
    rows, columns = (rng.integers(size, size=number) for size in pieces.shape[:2])
    return pieces[rows, columns][..., None].astype("float32")
