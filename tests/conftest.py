"""One seed for all tests, and how long the random ones go on."""

import importlib
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow's own convolutions are what ours are compared with. With oneDNN, its default
# on processors with AVX-512, some strided ones and those of empty batches come out wrong.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# Tests run in a process for each core. Threads of torch in several wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests compile for longer than they compute.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import door  # noqa: F401 - before whatever imports Keras
import keras
import numpy as np
import pytest
from backends import BACKEND, KERAS_2, forget
from hypothesis import HealthCheck, settings

# These come out alike on every backend, or start the backends that they need in processes
# of their own: they run with the tests on TensorFlow.
INDEPENDENT = (
    "architecture", "arguments", "backends", "benchmarks", "classification", "dashboard",
    "defaults", "distribution", "documentation", "examples", "experiments",
    "learned_studies", "memory", "nowlan_hinton", "scaling_out", "versions",
)  # fmt: skip
# These are about what only one of the two Keras has, or come out alike with both.
NEED_KERAS_3 = (
    "backends", "benchmarks", "classification", "compiled_updates", "defaults",
    "distribution", "examples", "experiments", "frozen_structure", "inner_traces",
    "learned_studies", "legacy_models", "movable_weights", "nowlan_hinton", "optima",
    "optimizer_loops", "optimizers", "scaling_out",
)  # fmt: skip
NEED_KERAS_2 = ("addons", "keras2", "locally_connected", "two_stacks")
if KERAS_2:
    left_out = NEED_KERAS_3
else:
    left_out = NEED_KERAS_2 + (INDEPENDENT if BACKEND != "tensorflow" else ())
collect_ignore = [f"test_{name}.py" for name in left_out]

# What Keras 2.15 and Addons say of themselves.
OF_KERAS_2 = (
    "non-integer arguments to randrange:DeprecationWarning",
    "The initializer .* is unseeded:UserWarning",
    r"\s*TensorFlow Addons \(TFA\) has ended:UserWarning",
)
SCRIPTS = [str(Path(__file__).parents[1] / name) for name in ("experiments", "benchmarks")]


def pytest_configure(config):
    for message in OF_KERAS_2 if KERAS_2 else ():
        config.addinivalue_line("filterwarnings", f"ignore:{message}")


suite = settings(
    # JAX compiles for each shape again, and shapes have the same arithmetic everywhere.
    max_examples=30 if KERAS_2 else {"tensorflow": 60, "torch": 30, "jax": 10}[BACKEND],
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
settings.register_profile("suite", suite)
settings.register_profile("thorough", suite, max_examples=250)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def rng():
    keras.utils.set_random_seed(0)
    yield np.random.default_rng(0)
    forget()


@pytest.fixture(scope="module")
def scripts():
    """Imports a module of experiments or benchmarks by name, as they import each other."""
    sys.path[:0] = SCRIPTS
    yield importlib.import_module
    for folder in SCRIPTS:
        sys.path.remove(folder)


@pytest.fixture
def images(rng):
    """Eight images and targets, for training."""
    x = rng.normal(size=(8, 5, 4, 2)).astype("float32")
    y = rng.normal(size=(8, 5, 4, 3)).astype("float32")
    return x, y
