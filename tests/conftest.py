"""One seed for all tests, and layers made from the table of cases."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def rng():
    keras.utils.set_random_seed(0)
    yield np.random.default_rng(0)
    keras.utils.clear_session(free_memory=False)


@pytest.fixture
def images(rng):
    """Eight images and targets, for training."""
    x = rng.normal(size=(8, 5, 4, 2)).astype("float32")
    y = rng.normal(size=(8, 5, 4, 3)).astype("float32")
    return x, y
