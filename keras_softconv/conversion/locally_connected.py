"""How the locally connected layers of Keras 2 lay out their weights.

Such a layer has a kernel for every output position. Its `implementation` says in which
shape it keeps them, its `data_format` in which order. Everything here is NumPy.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from keras_softconv.geometry import Geometry, axis_pads

Shape = tuple[int, ...]

# What the config of such a layer holds.
OLD_ARGUMENTS = (
    "filters", "kernel_size", "strides", "padding", "data_format", "activation", "use_bias",
    "kernel_initializer", "bias_initializer", "kernel_regularizer", "bias_regularizer",
    "activity_regularizer", "kernel_constraint", "bias_constraint", "implementation",
)  # fmt: skip
BASE_ARGUMENTS = ("name", "trainable", "dtype")
# The base layer of Keras 2 adds the first; what reads an `.h5` file renames it.
SHAPE_ARGUMENTS = ("batch_input_shape", "input_shape")


def standardize_old_padding(
    padding: str, input_grid: Shape, kernel_size: Shape, strides: Shape
) -> Any:
    """The `padding` argument of a SoftConv layer with the windows of the old layer.

    With 'same' the window of output p begins at input `p * stride - kernel_size // 2`.
    Keras's convolutions begin there too if the stride is 1 and the kernel is odd. If not,
    the padding has to be said in numbers.

    Returns:
        'valid', 'same', or one `(before, after)` pair per axis.
    """
    if padding == "valid":
        return padding
    axes = list(zip(input_grid, kernel_size, strides, strict=True))
    pads = []
    for size, taps, stride in axes:
        before, outputs = taps // 2, -(-size // stride)
        after = (outputs - 1) * stride + taps - size - before
        pads.append((before, max(after, 0)))
    of_keras = [axis_pads(size, taps, stride, 1, "same") for size, taps, stride in axes]
    return "same" if pads == of_keras else tuple(pads)


@dataclass(frozen=True)
class OldLayout:
    """Where the weights of a locally connected layer are.

    Args:
        geometry: of the convolution with the same windows.
        implementation: 1, 2 or 3. The kernel of 1 is `(positions, window, filters)`. That
            of 2 is dense, `(*input_grid, channels, *output_grid, filters)`. That of 3 is a
            vector of the weights that are used, by output and then by input.
        data_format: 'channels_first' puts channels and filters before the grids.
        use_bias: whether there is a bias, `(*output_grid, filters)` in either format.
    """

    geometry: Geometry
    implementation: int
    data_format: str
    use_bias: bool

    @property
    def shapes(self) -> list[Shape]:
        """The shapes of kernel and bias."""
        geometry = self.geometry
        output_grid, filters = geometry.output_grid, geometry.filters
        if self.implementation == 1:
            window = prod(geometry.kernel_size) * geometry.in_channels
            kernel = (prod(output_grid), window, filters)
        elif self.implementation == 2:
            inputs = self._arranged(geometry.input_grid, geometry.in_channels)
            kernel = (*inputs, *self._arranged(output_grid, filters))
        else:
            kernel = (geometry.template_size,)
        return [kernel, (*output_grid, filters)] if self.use_bias else [kernel]

    def template(self, kernel: np.ndarray) -> np.ndarray:
        """The kernel of every output position, 0 where it would see padding.

        Args:
            kernel: as the old layer kept it.

        Returns:
            Array of shape `(*output_grid, *kernel_size, channels, filters)`.
        """
        geometry, rank = self.geometry, len(self.geometry.kernel_size)
        shape = (*geometry.output_grid, *geometry.shared_kernel_shape)
        template = np.zeros(shape, kernel.dtype)
        outputs, taps = tuple(range(rank)), tuple(range(rank, 2 * rank))
        channels, filters = 2 * rank, 2 * rank + 1
        if self.implementation == 1:
            axes = (*outputs, *self._arranged(taps, channels), filters)
            arranged = template.transpose(axes)
            arranged[...] = kernel.reshape(arranged.shape)
        elif self.implementation == 2:
            inputs, places = self._places
            kernel = self._with_channels_last(kernel)
            template[places] = kernel[(*inputs, slice(None), *places[:rank], slice(None))]
        else:
            _, places = self._places
            is_used = np.zeros(shape, bool)
            is_used[places] = True
            axes = *self._arranged(outputs, filters), *self._arranged(taps, channels)
            template.transpose(axes)[is_used.transpose(axes)] = kernel
        return template

    def biases(self, bias: np.ndarray) -> np.ndarray:
        """The biases as `(*output_grid, filters)`.

        With channels first the old layer adds its bias as if the filters came first,
        whatever the shape of the weight says.
        """
        if self.data_format == "channels_last":
            return bias
        filters, output_grid = self.geometry.filters, self.geometry.output_grid
        return np.moveaxis(bias.reshape(filters, *output_grid), 0, -1)

    @property
    def _places(self) -> tuple[tuple, tuple]:
        """Open meshes of all that is joined: inputs, and outputs with taps."""
        inputs, taps, outputs = zip(*self.geometry.joins, strict=True)
        return np.ix_(*inputs), (*np.ix_(*outputs), *np.ix_(*taps))

    def _arranged(self, grid: Shape, channels: int) -> Shape:
        """Something for each axis of a grid and for the channels, in the data format."""
        if self.data_format == "channels_last":
            return (*grid, channels)
        return (channels, *grid)

    def _with_channels_last(self, kernel: np.ndarray) -> np.ndarray:
        """A kernel of implementation 2, as it would be with channels last."""
        if self.data_format == "channels_last":
            return kernel
        rank = len(self.geometry.kernel_size)
        return np.moveaxis(kernel, (0, rank + 1), (rank, -1))
