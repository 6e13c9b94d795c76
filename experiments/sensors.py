"""Series of many sensors, each with one of several patterns at a place drawn at random.

Noise of variance 1 in all channels, and one pattern of a few steps added to it. Which one
it is, is the class. A convolution and the maximum over time suit this exactly, since the
place says nothing about the class.
"""

from dataclasses import dataclass

import numpy as np

Part = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Task:
    """What the series are like.

    Args:
        examples: to train on; for validation a quarter as many are drawn, at least 50.
        steps: length of a series.
        channels: number of sensors.
        classes: number of patterns.
        pattern_steps: length of a pattern.
        amplitude: standard deviation of the entries of a pattern.
        test: number of test series.
    """

    examples: int = 1000
    steps: int = 128
    channels: int = 16
    classes: int = 5
    pattern_steps: int = 9
    amplitude: float = 1.5
    test: int = 1000


class Draw:
    """Series for training, validation and test with their classes.

    The seed draws the patterns, their places and the noise.

    Args:
        task: what the series are like.
        seed: of everything that is random.
    """

    def __init__(self, task: Task, seed: int) -> None:
        self.task, self.seed = task, seed
        rng = np.random.default_rng(seed)
        shape = task.classes, task.pattern_steps, task.channels
        self.patterns = task.amplitude * rng.normal(size=shape)
        counts = task.examples, max(50, task.examples // 4), task.test
        self.train, self.validation, self.test = (
            self._series(number, rng) for number in counts
        )

    def _series(self, number: int, rng: np.random.Generator) -> Part:
        task = self.task
        series = rng.normal(size=(number, task.steps, task.channels))
        classes = rng.integers(task.classes, size=number)
        last = task.steps - task.pattern_steps
        places = rng.integers(last + 1, size=number)
        steps = places[:, None] + np.arange(task.pattern_steps)
        series[np.arange(number)[:, None], steps] += self.patterns[classes]
        return series.astype("float32"), classes
