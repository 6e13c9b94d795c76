"""Sums over many weights, in float32, on every backend and with XLA."""

import numpy as np
import pytest
from backends import gradients, ways_in_rings, ways_to_train
from keras import ops
from keras.ops import convert_to_numpy as to_numpy

from keras_softconv.geometry import Geometry
from keras_softconv.weight_sharing import ABSOLUTE, SQUARE, weight_sharing_of
from keras_softconv.weight_sharing.sums import row_sums


def sharing_of(side, filters, halo):
    axes = (side, side), (3, 3), (1, 1), (1, 1), "valid"
    return weight_sharing_of(Geometry(*axes, 1, filters, 1, halo))


def errors_of_sums(sharing, weights, run) -> list[float]:
    """Relative errors of the sums of squares and of absolute values."""

    def sums(weights):
        squares = sharing.partition_sums(SQUARE, weights)
        return *squares, *sharing.partition_sums(ABSOLUTE, weights)

    weights = sharing.without_void(ops.convert_to_tensor(weights))
    found = [float(value) for value in run(sums)(weights)]
    template, weights = to_numpy(sharing.members(weights)), to_numpy(weights)
    expected = []
    for function in (np.square, np.abs):
        on_template = np.sum(function(template), dtype="float64")
        everything = np.sum(function(weights), dtype="float64")
        expected += [on_template, everything - on_template]
    return np.array(found) / expected - 1


@pytest.mark.slow
@ways_to_train
@pytest.mark.parametrize(
    ("halo", "side", "filters"),
    [(None, 101, 1), (None, 60, 8), (9, 74, 45)],
    ids=["dense, short rows", "dense", "halo"],
)
def test_sums_of_a_hundred_million_weights_are_right(halo, side, filters, run, rng):
    sharing = sharing_of(side, filters, halo)
    weights = rng.random(sharing.geometry.deviations_shape, "float32")
    assert weights.size > 0.9e8
    np.testing.assert_allclose(errors_of_sums(sharing, weights, run), 0, atol=1e-5)


@ways_in_rings
@pytest.mark.parametrize(
    ("halo", "side", "filters"),
    [(None, 12, 1), (None, 32, 1), (None, 22, 3), (None, 22, 5), (2, 64, 1), (1, 128, 4)],
)
def test_sums_of_weights_that_are_all_alike_are_right(halo, side, filters, run):
    # Rounding that always goes the same way is the worst case.
    sharing = sharing_of(side, filters, halo)
    weights = np.full(sharing.geometry.deviations_shape, 0.1, "float32")
    np.testing.assert_allclose(errors_of_sums(sharing, weights, run), 0, atol=1e-5)


@ways_in_rings
@pytest.mark.parametrize("halo", [None, 1])
@pytest.mark.parametrize(
    ("channels", "filters", "groups"), [(48, 48, 48), (256, 16, 8), (300, 3, 1)]
)
def test_sums_over_channels_and_groups_that_are_all_alike_are_right(
    halo, channels, filters, groups, run
):
    axes = (4, 4), (3, 3), (1, 1), (1, 1), "same"
    sharing = weight_sharing_of(Geometry(*axes, channels, filters, groups, halo))
    weights = np.full(sharing.geometry.deviations_shape, 0.01, "float32")
    np.testing.assert_allclose(errors_of_sums(sharing, weights, run), 0, atol=5e-6)


@pytest.mark.parametrize("filters", [2, 6])
def test_second_order_of_partition_sums(filters):
    axes = (3, 4), (2, 2), (1, 1), (1, 1), "valid"
    sharing = weight_sharing_of(Geometry(*axes, 1, filters))

    def loss(x):
        tie, off_template = sharing.partition_sums(SQUARE, x)
        return tie + 10 * off_template

    def sum_of_gradient(x):
        return ops.sum(gradients(loss, [x])[0])

    x = ops.ones(sharing.geometry.kernel_shape)
    expected = np.where(sharing.family_ids() >= 0, 2.0, 20.0)
    for function in (loss, sum_of_gradient):
        (gradient,) = gradients(function, [x])
        np.testing.assert_array_equal(to_numpy(gradient), expected)


def test_gradient_at_zero_and_of_second_order():
    x = ops.array([[0.0, -2.0], [3.0, 0.0]])

    def gradient_of(power, x):
        def weighted(x):
            return ops.sum(ops.array([1.0, 10.0]) * row_sums(power, x))

        return gradients(weighted, [x])[0]

    assert to_numpy(gradient_of(SQUARE, x)).tolist() == [[0, -4], [60, 0]]
    assert to_numpy(gradient_of(ABSOLUTE, x)).tolist() == [[0, -1], [10, 0]]
    (second,) = gradients(lambda x: ops.sum(gradient_of(SQUARE, x)), [x])
    assert to_numpy(second).tolist() == [[2, 2], [20, 20]]
