"""Linear regression with a truth that is almost a convolution.

Gaussian 8x8x1 images, a 3x3 'valid' filter bank and Gaussian noise: the truth is a dense
kernel whose every output has signal variance 1 in the mean. A departure from convolution of
size v is made in one of five ways. What is reported is the excess risk, the mean squared
error of the signal of new images in % of its variance: exactly, from the distance of the
kernels, because the inputs are independent and of variance 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from keras_softconv import SoftConv2D

NOISE = 0.5


@dataclass(frozen=True)
class Task:
    """Where the truth departs from a convolution.

    Args:
        departure: 'children', a share `violation` of the positions has kernels of its own;
            'dense', a random dense kernel is mixed in; 'families', a share of the taps has
            members that are all different; 'drift', kernels change linearly along rows and
            columns; 'regions', the right half has another kernel.
        violation: of the variance, for 'children' and 'families' of the places.
        examples: to train on.
        side, filters: of the images and of the kernel.
    """

    departure: str
    violation: float
    examples: int = 100
    side: int = 8
    filters: int = 2

    @property
    def grid(self) -> int:
        """Outputs along one axis."""
        return self.side - 2

    @property
    def outputs(self) -> int:
        return self.grid**2 * self.filters

    @cached_property
    def family_ids(self) -> np.ndarray:
        """`(inputs, rows, columns, filters)`."""
        layer = SoftConv2D(self.filters, 3)
        layer.build((None, self.side, self.side, 1))
        ids = layer.family_ids()
        return ids.reshape(-1, self.grid, self.grid, self.filters)

    def taps(self, rng: np.random.Generator) -> np.ndarray:
        """Kernels of all positions, `(rows, columns, families)`."""
        families = 9 * self.filters
        grid = (self.grid, self.grid)
        shared = rng.normal(size=families) / 3
        fresh = rng.normal(size=(*grid, families)) / 3
        taps = np.broadcast_to(shared, fresh.shape).copy()
        v = self.violation
        if self.departure == "children":
            children = rng.permutation(self.grid**2)[: round(v * self.grid**2)]
            rows, columns = np.unravel_index(children, grid)
            taps[rows, columns] = fresh[rows, columns]
        elif self.departure == "families":
            chosen = rng.permutation(families)[: round(v * families)]
            taps[..., chosen] = fresh[..., chosen]
        elif self.departure == "drift":
            ramp = np.linspace(-1, 1, self.grid) * np.sqrt(1.5)
            slopes = fresh[0, :2]
            drift = ramp[:, None, None] * slopes[0] + ramp[:, None] * slopes[1]
            taps = np.sqrt(1 - v) * taps + np.sqrt(v) * drift
        elif self.departure == "regions":
            other = np.sqrt(1 - v) * shared + np.sqrt(v) * fresh[0, 0]
            taps[:, self.grid // 2 :] = other
        return taps

    def truth(self, rng: np.random.Generator) -> np.ndarray:
        """The dense kernel, as a matrix from inputs to outputs."""
        ids = self.family_ids
        taps = self.taps(rng)
        rows, columns = np.indices(ids.shape)[1:3]
        kernel = np.where(ids >= 0, taps[rows, columns, ids], 0.0)
        if self.departure == "dense":
            dense = rng.normal(size=ids.shape) / self.side
            kernel = np.sqrt(1 - self.violation) * kernel
            kernel += np.sqrt(self.violation) * dense
        return kernel.reshape(self.side**2, -1)


class Draw:
    """A truth with examples to train and to validate on."""

    def __init__(self, task: Task, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.task = task
        self.convolution = {"filters": task.filters, "kernel_size": 3, "use_bias": False}
        self.kernel = task.truth(rng)
        self.train = self._examples(task.examples, rng)
        self.validation = self._examples(max(50, task.examples // 4), rng)

    def _examples(self, number: int, rng: np.random.Generator) -> tuple:
        task = self.task
        x = rng.normal(size=(number, task.side, task.side, 1))
        y = x.reshape(number, -1) @ self.kernel
        y += NOISE * rng.normal(size=y.shape)
        y = y.reshape(number, task.grid, task.grid, task.filters)
        return x.astype("float32"), y.astype("float32")

    def error(self, predict: Callable[[np.ndarray], np.ndarray]) -> float:
        """Excess risk in % of the signal variance, of a linear function without biases."""
        images = np.eye(self.task.side**2, dtype="float32")
        images = images.reshape(-1, self.task.side, self.task.side, 1)
        kernel = predict(images).reshape(len(images), -1)
        return 100 * ((kernel - self.kernel) ** 2).sum() / (self.kernel**2).sum()
