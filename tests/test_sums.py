"""Sums over many weights, in float32, on every backend and compiler."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

PROGRAM = """
import sys
import numpy as np
from keras import config, ops
from keras_softconv.geometry import Geometry
from keras_softconv.weight_sharing import ABSOLUTE, SQUARE, weight_sharing_of

halo = None if sys.argv[1] == "None" else int(sys.argv[1])
side, filters, compiled = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "compiled"
alike = len(sys.argv) > 5
axes = (side, side), (3, 3), (1, 1), (1, 1), "valid"
sharing = weight_sharing_of(Geometry(*axes, 1, filters, 1, halo))
shape = sharing.geometry.deviations_shape
weights = np.random.default_rng(0).random(shape, "float32")
if alike:
    weights = np.full(shape, 0.1, "float32")
print(weights.size)
weights = sharing.without_void(ops.convert_to_tensor(weights))

def sums(weights):
    squares = sharing.partition_sums(SQUARE, weights)
    absolutes = sharing.partition_sums(ABSOLUTE, weights)
    return *squares, *absolutes

if compiled and config.backend() == "tensorflow":
    import tensorflow
    sums = tensorflow.function(sums, jit_compile=True)
if compiled and config.backend() == "jax":
    import jax
    sums = jax.jit(sums)
results = [float(value) for value in sums(weights)]
weights = ops.convert_to_numpy(weights)
everything = [np.sum(weights**2, dtype="float64"), np.sum(weights, dtype="float64")]
template = ops.convert_to_numpy(sharing.members(weights))
members = [np.sum(template**2, dtype="float64"), np.sum(template, dtype="float64")]
for part, whole, member in zip((0, 2), everything, members):
    print(results[part] / member - 1, results[part + 1] / (whole - member) - 1)
"""


@pytest.mark.parametrize(
    ("halo", "side", "filters"),
    [("None", 101, 1), ("None", 60, 8), ("9", 74, 45)],
    ids=["dense, short rows", "dense", "halo"],
)
@pytest.mark.parametrize(
    "backend", ["tensorflow", "tensorflow compiled", "jax compiled", "torch"]
)
def test_sums_of_a_hundred_million_weights_are_right(backend, halo, side, filters):
    size, errors = run(backend, halo, side, filters)
    assert size > 0.9e8
    np.testing.assert_allclose(errors, 0, atol=1e-5)


@pytest.mark.parametrize("backend", ["tensorflow compiled", "jax compiled"])
@pytest.mark.parametrize(
    ("halo", "side", "filters"),
    [
        ("None", 12, 1),
        ("None", 32, 1),
        ("None", 22, 3),
        ("None", 22, 5),
        ("2", 64, 1),
        ("1", 128, 4),
    ],
)
def test_sums_of_weights_that_are_all_alike_are_right(backend, halo, side, filters):
    # Rounding that always goes the same way is the worst case.
    _, errors = run(backend, halo, side, filters, "alike")
    np.testing.assert_allclose(errors, 0, atol=1e-5)


@pytest.mark.parametrize("halo", [None, 1])
@pytest.mark.parametrize(
    ("channels", "filters", "groups"), [(48, 48, 48), (256, 16, 8), (300, 3, 1)]
)
def test_sums_over_channels_and_groups_that_are_all_alike_are_right(
    halo, channels, filters, groups
):
    tf = pytest.importorskip("tensorflow")
    from keras_softconv.geometry import Geometry
    from keras_softconv.weight_sharing import ABSOLUTE, SQUARE, weight_sharing_of

    axes = (4, 4), (3, 3), (1, 1), (1, 1), "same"
    sharing = weight_sharing_of(Geometry(*axes, channels, filters, groups, halo))
    weights = sharing.without_void(tf.fill(sharing.geometry.deviations_shape, 0.01))
    on_template = sharing.geometry.template_size
    counts = np.array([on_template, sharing.geometry.size - on_template])
    for power, value in ((SQUARE, np.square), (ABSOLUTE, np.abs)):
        sums = tf.function(sharing.partition_sums, jit_compile=True)(power, weights)
        expected = counts * value(np.float64(np.float32(0.01)))
        np.testing.assert_allclose(sums, expected, rtol=5e-6)


def run(backend, halo, side, filters, *options) -> tuple[int, np.ndarray]:
    """How many weights there are and the relative errors of their sums."""
    name, *compiled = backend.split()
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, halo, str(side), str(filters),
         *(compiled or ["eager"]), *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KERAS_BACKEND": name},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    size, *errors = result.stdout.split()
    return int(size), np.array(errors, float)


@pytest.mark.parametrize("filters", [2, 6])
def test_second_order_of_partition_sums(filters):
    tf = pytest.importorskip("tensorflow")
    from keras_softconv.geometry import Geometry
    from keras_softconv.weight_sharing import SQUARE, DenseWeightSharing

    axes = (3, 4), (2, 2), (1, 1), (1, 1), "valid"
    sharing = DenseWeightSharing(Geometry(*axes, 1, filters))
    x = tf.ones(sharing.geometry.kernel_shape)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            tie, off_template = sharing.partition_sums(SQUARE, x)
            loss = tie + 10 * off_template
        gradient = inner.gradient(loss, x)
    expected = np.where(sharing.family_ids() >= 0, 2.0, 20.0)
    np.testing.assert_array_equal(gradient, expected)
    np.testing.assert_array_equal(outer.gradient(gradient, x), expected)


def test_gradient_at_zero_and_of_second_order():
    tf = pytest.importorskip("tensorflow")
    from keras_softconv.weight_sharing import ABSOLUTE, SQUARE
    from keras_softconv.weight_sharing.sums import row_sums

    x = tf.constant([[0.0, -2.0], [3.0, 0.0]])
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(x)
        with tf.GradientTape(persistent=True) as inner:
            inner.watch(x)
            weighted = [
                keras.ops.sum(keras.ops.array([1.0, 10.0]) * row_sums(power, x))
                for power in (SQUARE, ABSOLUTE)
            ]
        gradients = [inner.gradient(value, x) for value in weighted]
    assert gradients[0].numpy().tolist() == [[0, -4], [60, 0]]
    assert gradients[1].numpy().tolist() == [[0, -1], [10, 0]]
    assert outer.gradient(gradients[0], x).numpy().tolist() == [[2, 2], [20, 20]]
