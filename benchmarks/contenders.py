"""The contenders of Keras 3: each makes an uncompiled model of one layer."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from cases import CONV, DENSE, DENSE_L2, HALOS, NAIVE, SOFT, Case
from keras import ops

from keras_softconv import SoftConv2D

STRENGTH = 1e-3


class NaiveSoftConv2D(keras.layers.Layer):
    """Soft ties as one would write them first, with arrays as large as the kernel.

    A dense kernel, one integer for each of its entries that says to which family it
    belongs, and a mask off the template:

        loss += strength * (sum of squares within the families
                            + sum of squares off the template)
    """

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case

    def build(self, input_shape: Any) -> None:
        case = self.case
        self.kernel = self.add_weight(shape=(case.n_in, case.n_out), name="kernel")
        self.bias = self.add_weight(shape=(case.n_out,), initializer="zeros", name="bias")
        ids = family_ids(case).ravel()
        # The last segment collects what lies off the template.
        self.segments = case.kernel_size**2 * case.in_channels * case.filters + 1
        counts = np.bincount(ids, minlength=self.segments)
        self.ids = ops.convert_to_tensor(ids, "int32")
        self.counts = ops.convert_to_tensor(np.maximum(counts, 1), "float32")
        self.mask = ops.convert_to_tensor(ids == self.segments - 1, "float32")

    def call(self, inputs: Any) -> Any:
        self.add_loss(STRENGTH * self.penalty())
        flat = ops.reshape(inputs, (-1, self.case.n_in))
        outputs = ops.matmul(flat, self.kernel) + self.bias
        shape = (self.case.output_side, self.case.output_side, self.case.filters)
        return ops.reshape(outputs, (-1, *shape))

    def penalty(self) -> Any:
        """Sums of squares, within the families and off the template."""
        values = ops.reshape(self.kernel, (-1,))
        sums = ops.segment_sum(values, self.ids, num_segments=self.segments)
        squares = ops.segment_sum(values**2, self.ids, num_segments=self.segments)
        within = ops.sum((squares - sums**2 / self.counts)[:-1])
        return within + ops.sum(values**2 * self.mask)


def family_ids(case: Case) -> np.ndarray:
    """Family of each entry of the dense kernel; the number of families off the template.

    Returns:
        int32 array `(side, side, in_channels, output_side, output_side, filters)`.
    """
    side, new_side, size = case.side, case.output_side, case.kernel_size
    channels, filters = case.in_channels, case.filters
    families = np.arange(size**2 * channels * filters).reshape(
        size, size, channels, filters
    )
    ids = np.full(
        (side, side, channels, new_side, new_side, filters), families.size, "int32"
    )
    before = (size - 1) // 2 if case.padding == "same" else 0
    for row_tap, column_tap, new_row, new_column in np.ndindex(
        size, size, new_side, new_side
    ):
        row, column = new_row + row_tap - before, new_column + column_tap - before
        if 0 <= row < side and 0 <= column < side:
            ids[row, column, :, new_row, new_column] = families[row_tap, column_tap]
    return ids


def _model(case: Case, *layers: keras.Layer) -> keras.Model:
    shape = (case.side, case.side, case.in_channels)
    return keras.Sequential([keras.Input(shape), *layers])


def dense(case: Case, regularizer: keras.Regularizer | None = None) -> keras.Model:
    """A layer of as many outputs as the others have, in one row."""
    layer = keras.layers.Dense(case.n_out, kernel_regularizer=regularizer)
    return _model(case, keras.layers.Flatten(), layer)


def conv(case: Case) -> keras.Model:
    """The convolution itself."""
    layer = keras.layers.Conv2D(case.filters, case.kernel_size, padding=case.padding)
    return _model(case, layer)


def soft_conv(case: Case, halo: int | None = None) -> keras.Model:
    """This package's layer with its default penalties."""
    layer = SoftConv2D(case.filters, case.kernel_size, padding=case.padding, halo=halo)
    return _model(case, layer)


CONTENDERS: dict[str, Callable[[Case], keras.Model]] = {
    DENSE: dense,
    DENSE_L2: lambda case: dense(case, keras.regularizers.L2(STRENGTH)),
    CONV: conv,
    SOFT: soft_conv,
    NAIVE: lambda case: _model(case, NaiveSoftConv2D(case)),
    **{name: lambda case, halo=halo: soft_conv(case, halo) for halo, name in HALOS.items()},
}
