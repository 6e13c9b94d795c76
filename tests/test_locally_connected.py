"""Without ties and without off-template weights: Keras 2's own locally connected layer.

The configurations are those of Keras 2.15's tests of `LocallyConnected2D`; its
`implementation=2` keeps the dense kernel, times a mask.
"""

from itertools import product

import numpy as np
import oracle
import pytest
import tensorflow as tf
from keras.layers import LocallyConnected2D

from keras_softconv import SoftConv2D

FORMATS = ("channels_last", "channels_first")
# Input (rows, columns, channels), filters, kernel size, strides.
SHAPES = {
    "basic": ((6, 10, 4), 3, (3, 3), (1, 1)),
    "basic_strided": ((6, 10, 4), 3, (3, 3), (2, 2)),
    "regularized": ((6, 7, 4), 3, (3, 3), (1, 1)),
    "implementations": ((7, 6, 4), 2, (3, 2), (1, 3)),
    "implementations_narrow": ((7, 1, 4), 2, (3, 1), (1, 1)),
}
# Where a side has a stride or an even kernel, its 'same' may begin elsewhere.
SAME_AS_A_CONVOLUTION = {"basic", "regularized", "implementations_narrow"}


def pair_of(name, padding, data_format, rng, **arguments):
    """The locally connected layer with random weights, and ours with a copy of them."""
    shape, filters, kernel_size, strides = SHAPES[name]
    if data_format == "channels_first":
        shape = (shape[-1], *shape[:-1])
    theirs = LocallyConnected2D(
        filters, kernel_size, strides, padding, data_format, implementation=2
    )
    theirs.build((None, *shape))
    for weight in theirs.weights:
        weight.assign(rng.normal(size=weight.shape))
    ours = SoftConv2D(
        filters, kernel_size, strides, padding, data_format, **arguments,
        kernel_initializer="zeros", tie_regularizer=None, off_template_regularizer=None,
    )  # fmt: skip
    ours.build((None, *shape))
    return theirs, ours, rng.normal(size=(8, *shape)).astype("float32")


def as_ours(dense, data_format) -> np.ndarray:
    """Channels last, for inputs and outputs."""
    axes = (1, 2, 0, 4, 5, 3) if data_format == "channels_first" else range(6)
    return np.transpose(dense, tuple(axes))


def mask_of(layer, data_format) -> np.ndarray:
    mask = as_ours(np.asarray(layer.kernel_mask), data_format)
    return np.broadcast_to(mask, as_ours(layer.kernel.numpy(), data_format).shape)


def check_same(name, padding, data_format, rng):
    theirs, ours, x = pair_of(name, padding, data_format, rng)
    kernel, mask = as_ours(theirs.kernel.numpy(), data_format), mask_of(theirs, data_format)
    np.testing.assert_array_equal(ours.template_mask(), mask != 0)
    ours.deviations.assign(kernel * mask)
    biases = theirs.bias.numpy()
    if data_format == "channels_first":  # Keras only reshapes them
        rows, columns, filters = biases.shape
        biases = biases.reshape(filters, rows, columns).transpose(1, 2, 0)
    ours.bias_deviations.assign(biases)
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    upstream = rng.normal(size=theirs(x).shape).astype("float32")
    gradients = []
    for layer, kernel in ((theirs, theirs.kernel), (ours, ours.deviations)):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(layer(x) * upstream)
        gradients.append(tape.gradient(total, kernel).numpy())
    gradients[0] = as_ours(gradients[0], data_format)
    np.testing.assert_allclose(gradients[1] * mask, gradients[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "data_format"), list(product(SHAPES, FORMATS)))
def test_with_valid_padding(name, data_format, rng):
    check_same(name, "valid", data_format, rng)


@pytest.mark.parametrize(("name", "data_format"), list(product(SHAPES, FORMATS)))
def test_with_same_padding_wherever_it_is_that_of_a_convolution(name, data_format, rng):
    theirs, *_ = pair_of(name, "same", data_format, rng)
    shape, filters, kernel_size, strides = SHAPES[name]
    arguments = {"kernel_size": kernel_size, "strides": strides, "padding": "same"}
    template = oracle.family_ids((shape[:2], shape[2], filters, arguments)) >= 0
    if template.shape != mask_of(theirs, data_format).shape:
        is_same = False
    else:
        is_same = np.array_equal(template, mask_of(theirs, data_format) != 0)
    assert is_same == (name in SAME_AS_A_CONVOLUTION)
    if is_same:
        check_same(name, "same", data_format, rng)
