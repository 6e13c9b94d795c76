"""The two rules of a convolution as linear maps between its kernel and a dense one.

E copies each entry of the shared kernel S to every member of its family; its adjoint
E' sums a family, and E'E counts the members. `E (E'E)^-1 E'` projects a dense kernel
onto the convolutions. All maps are made from one index vector for each axis: an index
or mask as large as the dense kernel would dwarf the layer itself in compile time and
memory.
"""

from collections.abc import Callable
from functools import reduce
from math import prod
from operator import add
from typing import Any

import numpy as np
from keras import ops

from keras_softconv.geometry import Geometry

Tensor = Any
Shape = tuple[int, ...]


class DenseWeightSharing:
    """Families and template within the dense kernel of a `Geometry`.

    Kernels are read as matrices whose rows run over the filters of one channel group,
    so that whole rows lie on the template or off it. The *members* are the rows on the
    template, in an order of their own: by the joins of each axis, the channel within
    its group and the group.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.row_length = geometry.filters // geometry.groups

        # An open mesh of all joins: one axis of it for each axis of the convolution,
        # one for the channels of a group, one for the groups.
        ndim = len(geometry.input_grid) + 2
        self._inputs, self._taps, self._outputs = (
            [_along(vector, axis, ndim) for axis, vector in enumerate(vectors)]
            for vectors in zip(*geometry.joins, strict=True)
        )
        channels = np.arange(geometry.in_channels // geometry.groups)
        self._channel = _along(channels, ndim - 2, ndim)
        self._group = _along(np.arange(geometry.groups), ndim - 1, ndim)

    # Where the members are, in each of three matrices.

    def _kernel_rows(self) -> Tensor:
        """Rows of the dense kernel."""
        geometry = self.geometry
        groups, channels = geometry.groups, geometry.in_channels // geometry.groups
        return _raveled(
            (*geometry.input_grid, groups, channels, *geometry.output_grid, groups),
            (*self._inputs, self._group, self._channel, *self._outputs, self._group),
        )

    @property
    def _shared_shape(self) -> Shape:
        """The shared kernel's shape with its filters as groups of rows."""
        return (*self.geometry.shared_kernel_shape[:-1], self.geometry.groups)

    def _shared_rows(self) -> Tensor:
        """Rows of the shared kernel that they would copy."""
        return _raveled(self._shared_shape, (*self._taps, self._channel, self._group))

    def _template_rows(self) -> Tensor:
        """Rows of what `template` returns."""
        return _raveled(
            (*self.geometry.output_grid, *self._shared_shape),
            (*self._outputs, *self._taps, self._channel, self._group),
        )

    def _as_rows(self, kernel: Tensor) -> Tensor:
        return ops.reshape(kernel, (-1, self.row_length))

    # The maps.

    def members(self, kernel: Tensor) -> Tensor:
        """Template entries of a dense kernel, `(members, row_length)`."""
        return ops.take(self._as_rows(kernel), self._kernel_rows(), axis=0)

    def copies(self, shared_kernel: Tensor) -> Tensor:
        """What the members would be in a convolution, in the order of `members`."""
        return ops.take(self._as_rows(shared_kernel), self._shared_rows(), axis=0)

    def expand(self, shared_kernel: Tensor) -> Tensor:
        """E(S): the dense kernel of the convolution with kernel `shared_kernel`."""
        kernel = ops.zeros(self.geometry.kernel_shape, shared_kernel.dtype)
        return self._with_members(kernel, self.copies(shared_kernel))

    def template(self, kernel: Tensor) -> Tensor:
        """The template entries of a dense kernel, by output position and family.

        Returns:
            Tensor of shape `(*output_grid, families)`, families in the raveled order
            of the Conv kernel, void members 0.
        """
        geometry = self.geometry
        shape = (*geometry.output_grid, prod(geometry.shared_kernel_shape))
        members = self.members(kernel)
        rows = ops.zeros((prod(shape) // self.row_length, self.row_length), members.dtype)
        rows = ops.scatter_update(rows, self._template_rows()[:, None], members)
        return ops.reshape(rows, shape)

    def off_template(self, kernel: Tensor) -> Tensor:
        """The dense kernel with every template entry set to zero."""
        return self._with_members(kernel, ops.zeros_like(self.members(kernel)))

    def _with_members(self, kernel: Tensor, members: Tensor) -> Tensor:
        rows = self._kernel_rows()[:, None]
        rows = ops.scatter_update(self._as_rows(kernel), rows, members)
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
        rows = self._kernel_rows()
        members = ops.take(row_sums, rows)
        off_template = ops.scatter_update(row_sums, rows[:, None], ops.zeros_like(members))
        return ops.sum(members), ops.sum(off_template)

    def project(self, kernel: Tensor) -> Tensor:
        """`(E'E)^-1 E' W`: family means, of the Conv kernel's shape (0 if no member)."""
        geometry = self.geometry
        axes = tuple(range(len(geometry.output_grid)))
        sums = ops.sum(self.template(kernel), axis=axes)
        counts = np.maximum(geometry.member_counts, 1)[..., None, None]
        sums = ops.reshape(sums, geometry.shared_kernel_shape)
        return sums / ops.convert_to_tensor(counts, sums.dtype)

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
        n_inputs = prod(geometry.input_grid) * geometry.in_channels
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
        shape = self.geometry.shared_kernel_shape
        numbers = np.arange(prod(shape), dtype="int32").reshape(-1, self.row_length)
        ids = np.full(self.geometry.kernel_shape, -1, "int32")
        rows = ids.reshape(-1, self.row_length)  # a view
        kernel_rows = ops.convert_to_numpy(self._kernel_rows())
        rows[kernel_rows] = numbers[ops.convert_to_numpy(self._shared_rows())]
        return ids


def _along(vector: np.ndarray, axis: int, ndim: int) -> np.ndarray:
    """A vector laid along one axis of an open mesh."""
    return vector.reshape(*(-1 if a == axis else 1 for a in range(ndim)))


def _raveled(shape: Shape, indices: tuple[np.ndarray, ...]) -> Tensor:
    """Raveled indices into an array of `shape`, of all points of an open mesh.

    As `np.ravel_multi_index`, but the mesh is filled on the device: what is kept of it,
    also in a saved graph, are the vectors.
    """
    strides = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
    terms = [
        ops.convert_to_tensor(index * stride, "int32")
        for index, stride in zip(indices, strides, strict=True)
    ]
    return ops.reshape(reduce(add, terms), (-1,))
