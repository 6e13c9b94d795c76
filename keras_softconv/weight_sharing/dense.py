"""The dense storage: a weight for every pair of input and output."""

from functools import reduce
from math import prod
from typing import Any

import numpy as np

from keras_softconv.compat import keras, ops, pad
from keras_softconv.geometry import Geometry
from keras_softconv.weight_sharing.base import WeightSharing
from keras_softconv.weight_sharing.gradients import with_gradient
from keras_softconv.weight_sharing.mesh import along, constant, raveled
from keras_softconv.weight_sharing.sums import Power, row_sums, total, totals

Tensor = Any
Shape = tuple[int, ...]

# Over rows no longer than this TensorFlow without XLA sums so slowly that a copy of all
# weights costs less: half the time for one or two filters. With XLA, which a layer cannot
# know of, the copy takes a quarter longer.
SHORT_ROW = 4
# Up to so many weights E(S) + D is one product: so small a copy costs less than a
# convolution beside the product, far less with many images of few channels.
SMALL_KERNEL = 2**14
FULL_PRECISION = ("float32", "float64")


class DenseWeightSharing(WeightSharing):
    """Deviations of the dense kernel's shape.

    The members are ordered by the joins of each axis, the channel within its group and
    the group.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        # An open mesh of all joins: one axis of it for each axis of the convolution,
        # one for the channels of a group, one for the groups.
        rank = len(geometry.input_grid)
        ndim = rank + 2
        self._inputs, self._taps, self._outputs = (
            [constant(along(vector, axis, ndim)) for axis, vector in enumerate(vectors)]
            for vectors in zip(*geometry.joins, strict=True)
        )
        channels = np.arange(geometry.in_channels // geometry.groups)
        self._channel = constant(along(channels, ndim - 2, ndim))
        self._group = constant(along(np.arange(geometry.groups), ndim - 1, ndim))
        # For `distances`, whose mesh has the axes of the dense kernel. For each axis:
        # the inputs, the offsets of the outputs, and what their sum is the index of.
        self._steps = []
        for axis, inputs in enumerate(geometry.input_grid):
            offsets, distances = geometry.step_distances(axis)
            inputs = along(np.arange(inputs), axis, 2 * rank + 2)
            offsets = along(offsets, rank + 1 + axis, 2 * rank + 2)
            self._steps.append(tuple(map(constant, (inputs, offsets, distances))))
        self._add_conv_arguments()

    def _add_conv_arguments(self) -> None:
        """What `product` needs to apply the shared kernel as a convolution."""
        geometry = self.geometry
        self._pads = tuple((int(before), int(after)) for before, after in geometry.pads)
        # With circular padding, which input each padded place holds.
        self._around = [
            constant(np.arange(-before, size + after) % size)
            for (before, after), size in zip(self._pads, geometry.input_grid, strict=True)
        ]
        # Where the last window ends: see `_without_rest`.
        sizes = zip(geometry.input_grid, self._pads, geometry.rest, strict=True)
        ends = [int(size + sum(pads) - rest) for size, pads, rest in sizes]
        self._ends = ends if any(geometry.rest) else None
        # As given, except that after a single output there is no next one.
        axes = zip(geometry.strides, geometry.output_grid, strict=True)
        self._strides = tuple(stride if outputs > 1 else 1 for stride, outputs in axes)

    # Where the members are, in each of three matrices.

    def _kernel_rows(self) -> Tensor:
        """Rows of the dense kernel."""
        geometry = self.geometry
        groups, channels = geometry.groups, geometry.in_channels // geometry.groups
        rows = raveled(
            (*geometry.input_grid, groups, channels, *geometry.output_grid, groups),
            (*self._inputs, self._group, self._channel, *self._outputs, self._group),
        )
        return ops.reshape(rows, (-1,))

    @property
    def _shared_shape(self) -> Shape:
        """The shared kernel's shape with its filters as groups of rows."""
        return (*self.geometry.shared_kernel_shape[:-1], self.geometry.groups)

    def _shared_rows(self) -> Tensor:
        """Rows of the shared kernel that they would copy."""
        rows = raveled(self._shared_shape, (*self._taps, self._channel, self._group))
        return ops.reshape(rows, (-1,))

    def _template_rows(self) -> Tensor:
        """Rows of what `template` returns."""
        rows = raveled(
            (*self.geometry.output_grid, *self._shared_shape),
            (*self._outputs, *self._taps, self._channel, self._group),
        )
        return ops.reshape(rows, (-1,))

    def _as_rows(self, kernel: Tensor) -> Tensor:
        return ops.reshape(kernel, (-1, self.row_length))

    # The maps.

    def members(self, deviations: Tensor) -> Tensor:
        return ops.take(self._as_rows(deviations), self._kernel_rows(), axis=0)

    def copies(self, shared_kernel: Tensor) -> Tensor:
        return ops.take(self._as_rows(shared_kernel), self._shared_rows(), axis=0)

    def kernel(self, shared_kernel: Tensor, deviations: Tensor) -> Tensor:
        return ops.add(self.expand(shared_kernel), deviations)

    def expand(self, shared_kernel: Tensor) -> Tensor:
        """E(S): the dense kernel of the convolution with kernel `shared_kernel`."""
        kernel = ops.zeros(self.geometry.kernel_shape, shared_kernel.dtype)
        return self._with_members(kernel, self.copies(shared_kernel))

    def template(self, deviations: Tensor) -> Tensor:
        geometry = self.geometry
        shape = (*geometry.output_grid, prod(geometry.shared_kernel_shape))
        members = self.members(deviations)
        rows = ops.zeros((prod(shape) // self.row_length, self.row_length), members.dtype)
        rows = ops.scatter_update(rows, self._template_rows()[:, None], members)
        return ops.reshape(rows, shape)

    def off_template(self, deviations: Tensor) -> Tensor:
        return self._with_members(deviations, ops.zeros_like(self.members(deviations)))

    def _with_members(self, kernel: Tensor, members: Tensor) -> Tensor:
        rows = self._kernel_rows()[:, None]
        rows = ops.scatter_update(self._as_rows(kernel), rows, members)
        return ops.reshape(rows, self.geometry.kernel_shape)

    def with_template(self, deviations: Tensor, template: Tensor) -> Tensor:
        members = ops.take(self._as_rows(template), self._template_rows(), axis=0)
        return self._with_members(deviations, members)

    def distances(self) -> Tensor:
        axes = []
        for inputs, offsets, distances in self._steps:
            place = ops.convert_to_tensor(inputs) + ops.convert_to_tensor(offsets)
            axes.append(ops.take(ops.cast(distances, "float32"), place, axis=0))
        return reduce(ops.maximum, axes)

    def partition_sums(self, power: Power, deviations: Tensor) -> tuple[Tensor, Tensor]:
        if self.row_length <= SHORT_ROW and keras.config.backend() == "tensorflow":
            return self._partition_sums_of_copy(power, deviations)
        members, off_template = self._row_sums(power, deviations)
        return total(members), total(off_template)

    def _row_sums(self, power: Power, deviations: Tensor) -> tuple[Tensor, Tensor]:
        """Of the rows on the template, and of all rows with zeros in the place of those."""
        sums = row_sums(power, self._as_rows(deviations))
        rows = self._kernel_rows()
        members = ops.take(sums, rows)
        return members, ops.scatter_update(sums, rows[:, None], ops.zeros_like(members))

    def _partition_sums_of_copy(
        self, power: Power, deviations: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same with a copy of the deviations from which the template is taken out."""

        def sums(deviations: Tensor) -> Tensor:
            members = power.of(self.members(deviations))
            off_template = power.of(self.off_template(deviations))
            return ops.stack([total(members), total(off_template)])

        def gradient(deviations: Tensor, upstream: Tensor) -> Tensor:
            of_members = power.gradient(self.members(deviations), upstream[0])
            return self._with_members(power.gradient(deviations, upstream[1]), of_members)

        both = with_gradient(sums, gradient, deviations)
        return both[0], both[1]

    def off_template_by_position(self, power: Power, deviations: Tensor) -> Tensor:
        geometry = self.geometry
        _, sums = self._row_sums(power, deviations)
        shape = (-1, prod(geometry.output_grid), geometry.groups)
        by_position = totals(ops.reshape(sums, shape))  # [positions, groups]
        return ops.reshape(ops.sum(by_position, axis=1), geometry.output_grid)

    def incoming(self, deviations: Tensor, position: Shape) -> np.ndarray:
        of_all_inputs = (slice(None),) * (len(position) + 1)
        return ops.convert_to_numpy(deviations[(*of_all_inputs, *position)])

    def template_sum(self, power: Power, deviations: Tensor) -> Tensor:
        # The template is a small part: fetching it is cheaper than a pass over all.
        return total(row_sums(power, self.members(deviations)))

    def product(self, inputs: Tensor, shared_kernel: Tensor, deviations: Tensor) -> Tensor:
        if self._is_small(deviations):
            return self._matmul(inputs, self.kernel(shared_kernel, deviations))
        # Adding E(S) to D first would copy a large kernel at every step, and in half
        # precision round small D away.
        convolved = ops.conv(
            self._without_rest(self._pad(inputs)),
            shared_kernel,
            strides=self._strides,
            padding="valid",
            data_format="channels_last",
            dilation_rate=self.geometry.dilation_rate,
        )  # [batch, *output_grid, filters]
        return convolved + self._matmul(inputs, deviations)

    def _is_small(self, deviations: Tensor) -> bool:
        """Whether E(S) + D is cheap, and in a precision that keeps small D."""
        is_full = keras.backend.standardize_dtype(deviations.dtype) in FULL_PRECISION
        return is_full and prod(self.geometry.kernel_shape) <= SMALL_KERNEL

    def _matmul(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        geometry = self.geometry
        n_inputs = prod(geometry.input_grid) * geometry.in_channels
        outputs = ops.matmul(
            ops.reshape(inputs, (-1, n_inputs)), ops.reshape(kernel, (n_inputs, -1))
        )  # [batch, positions * filters]
        return ops.reshape(outputs, (-1, *geometry.output_grid, geometry.filters))

    def _pad(self, inputs: Tensor) -> Tensor:
        if not any(map(any, self._pads)):
            return inputs
        if self.geometry.padding != "circular":
            return pad(inputs, ((0, 0), *self._pads, (0, 0)))
        for axis, around in enumerate(self._around):
            inputs = ops.take(inputs, around, axis=axis + 1)
        return inputs

    def _without_rest(self, inputs: Tensor) -> Tensor:
        """Padded inputs without those that strides leave over behind the last window.

        Where there are some, torch's Conv3D with oneDNN reads beyond its memory, and where
        besides there is one output along an axis, so does TensorFlow's Conv2D.
        """
        if self._ends is None:
            return inputs
        return inputs[:, *(slice(end) for end in self._ends)]

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
