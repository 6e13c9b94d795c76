"""The data of a study that a seed draws."""

from dataclasses import dataclass

import numpy as np

Part = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Data:
    """Pairs of inputs and targets.

    Args:
        train: what is trained on.
        validation: what settings are chosen by.
        test: what is reported.
        seed: draws what else is random, such as the first weights.
    """

    train: Part
    validation: Part
    test: Part
    seed: int
