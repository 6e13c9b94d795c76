"""Signals through a linear layer that is nearly, or partly, a convolution.

70 inputs, kernels of size 3, 68 outputs, as in Zhou, Knowles and Finn, "Meta-learning
symmetries by reparameterization" (2021): the kernels of all positions are mixtures of
`rank` kernels, of rank 1 a convolution. Or problem children: a convolution, at five of the
positions with a kernel of variance 9 added to it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

LENGTH, KERNEL_SIZE = 70, 3
POSITIONS = LENGTH - KERNEL_SIZE + 1
NOISE = 0.1
VALIDATION, TEST = 50, 2000
PLANTED = 5


@dataclass(frozen=True)
class Task:
    """What the kernels are.

    Args:
        examples: to train on.
        rank: of how many kernels those of the positions are mixtures.
        planted: at how many positions a kernel is added.
    """

    examples: int
    rank: int = 1
    planted: int = 0


class Draw:
    """Kernels of all positions and data made by them."""

    def __init__(self, task: Task, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.convolution = {"filters": 1, "kernel_size": KERNEL_SIZE, "use_bias": False}
        kernels = rng.normal(size=(task.rank, KERNEL_SIZE))
        self.shared_kernel = kernels[0]
        mixture = np.exp(rng.normal(size=(POSITIONS, task.rank)))
        self.taps = mixture / mixture.sum(axis=1, keepdims=True) @ kernels
        self.planted = np.sort(rng.choice(POSITIONS, task.planted, replace=False))
        self.taps[self.planted] += 3 * rng.normal(size=(task.planted, KERNEL_SIZE))
        self.train, self.validation, self.test = (
            self._examples(number, rng) for number in (task.examples, VALIDATION, TEST)
        )

    def _examples(self, number: int, rng: np.random.Generator) -> tuple:
        x = rng.normal(size=(number, LENGTH))
        windows = np.lib.stride_tricks.sliding_window_view(x, KERNEL_SIZE, axis=1)
        y = (windows * self.taps).sum(axis=-1)
        y += NOISE * rng.normal(size=y.shape)
        return x[..., None].astype("float32"), y[..., None].astype("float32")

    def error(self, predict: Callable[[np.ndarray], np.ndarray]) -> float:
        """Mean squared error on test signals, beyond their own noise."""
        inputs, targets = self.test
        wrong = predict(inputs).reshape(targets.shape) - targets
        return float(np.mean(wrong**2)) - NOISE**2
