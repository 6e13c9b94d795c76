"""The two rules of a convolution as linear maps between its kernel and a dense one.

E copies each entry of the shared kernel S to every member of its family; its adjoint
E' sums a family, and E'E counts the members. `E (E'E)^-1 E'` projects a dense kernel
onto the convolutions. All maps work on 1-D index vectors: an index or mask as large as
the dense kernel would dwarf the layer itself in compile time and memory.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from keras import ops

from keras_softconv.geometry import VOID, Geometry

Tensor = Any


class DenseWeightSharing:
    """Families and template within the dense kernel of a `Geometry`.

    The kernel is read as a matrix of rows, each holding the weights from one input
    entry to the filters of one channel group at one output position: its row number
    is the raveled `(input position, channel, output position, group)`, its length
    `filters / groups`. Whole rows lie on the template or off it.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.row_length = geometry.filters // geometry.groups

    @cached_property
    def _template_rows(self) -> np.ndarray:
        """Row of each (output position, tap, channel of the group, group), or `VOID`."""
        geometry = self.geometry
        positions = len(geometry.inputs)
        group = np.arange(geometry.groups)
        channel = np.arange(geometry.in_channels).reshape(geometry.groups, -1).T
        near = geometry.inputs[:, :, None, None]  # [positions, taps, 1, 1]
        position = np.arange(positions)[:, None, None, None]
        rows = near * geometry.in_channels + channel
        rows = (rows * positions + position) * geometry.groups + group
        return np.where(near == VOID, VOID, rows).reshape(-1).astype("int32")

    @cached_property
    def _member_rows(self) -> np.ndarray:
        """Rows of the template, voids left out."""
        return self._template_rows[self._template_rows != VOID]

    @cached_property
    def _member_taps(self) -> np.ndarray:
        """Row of the shared kernel, read the same way, that each member row copies."""
        shared_rows = self._template_rows.size // self.geometry.inputs.shape[0]
        taps = np.tile(np.arange(shared_rows), self.geometry.inputs.shape[0])
        return taps[self._template_rows != VOID].astype("int32")

    @cached_property
    def member_counts(self) -> np.ndarray:
        """Members per family, float32, shape `(taps, 1)`: alike for all channels."""
        return (self.geometry.inputs != VOID).sum(0).astype("float32")[:, None]

    @property
    def template_size(self) -> int:
        """Number of template entries of the kernel."""
        return self._member_rows.size * self.row_length

    def _as_rows(self, kernel: Tensor) -> Tensor:
        return ops.reshape(kernel, (-1, self.row_length))

    def _by_tap(self, shared_kernel: Tensor) -> Tensor:
        return ops.reshape(shared_kernel, (self.geometry.inputs.shape[1], -1))

    def expand(self, shared_kernel: Tensor) -> Tensor:
        """E(S): the dense kernel of the convolution with kernel `shared_kernel`."""
        shape = self.geometry.kernel_shape
        rows = ops.zeros((np.prod(shape) // self.row_length, self.row_length),
                         shared_kernel.dtype)  # fmt: skip
        members = ops.take(self._as_rows(shared_kernel), self._member_taps, axis=0)
        rows = ops.scatter_update(rows, self._member_rows[:, None], members)
        return ops.reshape(rows, shape)

    def template(self, kernel: Tensor) -> Tensor:
        """The template entries of a dense kernel, one row of members an output.

        Returns:
            Tensor of shape `(*output_grid, families)`, families in the raveled order
            of the Conv kernel, void members 0.
        """
        inputs = self.geometry.inputs
        rows = np.maximum(self._template_rows, 0)
        members = ops.take(self._as_rows(kernel), rows, axis=0)
        members = ops.reshape(members, (*inputs.shape, -1))
        members = ops.where(inputs[:, :, None] != VOID, members, 0)
        return ops.reshape(members, (*self.geometry.output_grid, -1))

    def off_template(self, kernel: Tensor) -> Tensor:
        """The dense kernel with every template entry set to zero."""
        zeros = ops.zeros((self._member_rows.size, self.row_length), kernel.dtype)
        rows = ops.scatter_update(self._as_rows(kernel), self._member_rows[:, None], zeros)
        return ops.reshape(rows, self.geometry.kernel_shape)

    def partition_sums(
        self, elementwise: Callable[[Tensor], Tensor], kernel: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sums of `elementwise(kernel)` over the template and off it.

        Each row is summed first and only the short vector of row sums is divided, so
        that value and gradient cost no more passes over the kernel than one plain sum,
        and neither part is found as a difference of large numbers.
        """
        row_sums = ops.sum(elementwise(self._as_rows(kernel)), axis=-1)
        members = self._member_rows
        off_template = ops.scatter_update(
            row_sums, members[:, None], ops.zeros(members.size, row_sums.dtype)
        )
        return ops.sum(ops.take(row_sums, members)), ops.sum(off_template)

    def project(self, kernel: Tensor) -> Tensor:
        """`(E'E)^-1 E' W`: family means, of the Conv kernel's shape (0 if no member)."""
        members = ops.reshape(self.template(kernel), (*self.geometry.inputs.shape, -1))
        means = ops.sum(members, axis=0) / np.maximum(self.member_counts, 1)
        return ops.reshape(means, self.geometry.shared_kernel_shape)

    def product(self, inputs: Tensor, shared_kernel: Tensor, deviations: Tensor) -> Tensor:
        """`inputs @ (E(S) + D)`, as a convolution plus a matrix product.

        Adding E(S) to D first would copy the dense kernel at every step.

        Args:
            inputs: `(batch, *input_grid, in_channels)`.
            shared_kernel: S, of the Conv kernel's shape.
            deviations: D, of the dense kernel's shape.

        Returns:
            Tensor of shape `(batch, *output_grid, filters)`.
        """
        geometry = self.geometry
        output_shape = (-1, *geometry.output_grid, geometry.filters)
        n_inputs = int(np.prod(geometry.input_grid)) * geometry.in_channels
        convolved = ops.conv(
            self._pad(inputs),
            shared_kernel,
            strides=geometry.strides,
            padding="valid",
            data_format="channels_last",
            dilation_rate=geometry.dilation_rate,
        )  # [batch, *output_grid, filters]
        deviated = ops.matmul(
            ops.reshape(inputs, (-1, n_inputs)), ops.reshape(deviations, (n_inputs, -1))
        )  # [batch, positions * filters]
        return convolved + ops.reshape(deviated, output_shape)

    def _pad(self, inputs: Tensor) -> Tensor:
        geometry = self.geometry
        if not any(map(any, geometry.pads)):
            return inputs
        if geometry.padding != "circular":
            return ops.pad(inputs, ((0, 0), *geometry.pads, (0, 0)))
        for axis, (before, after) in enumerate(geometry.pads):
            size = geometry.input_grid[axis]
            around = np.arange(-before, size + after) % size
            inputs = ops.take(inputs, around, axis=axis + 1)
        return inputs

    def family_ids(self) -> np.ndarray:
        """Index of each kernel entry's tap in the raveled Conv kernel, -1 off template.

        Returns:
            int32 array of the dense kernel's shape. For small layers: it is as large
            as the kernel.
        """
        shared = np.arange(np.prod(self.geometry.shared_kernel_shape), dtype="int32")
        ids = np.full((np.prod(self.geometry.kernel_shape) // self.row_length,
                       self.row_length), -1, "int32")  # fmt: skip
        ids[self._member_rows] = shared.reshape(-1, self.row_length)[self._member_taps]
        return ids.reshape(self.geometry.kernel_shape)
