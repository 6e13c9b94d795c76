"""The halo storage: a window of weights around each receptive field."""

from functools import reduce
from math import prod
from typing import Any

import numpy as np

from keras_softconv.compat import ops, pad
from keras_softconv.geometry import Geometry
from keras_softconv.weight_sharing.base import WeightSharing
from keras_softconv.weight_sharing.gradients import with_gradient
from keras_softconv.weight_sharing.mesh import along, constant, raveled
from keras_softconv.weight_sharing.sums import Power, row_sums, total, totals

Tensor = Any
Shape = tuple[int, ...]


class HaloWeightSharing(WeightSharing):
    """Deviations of shape `(*output_grid, window, filters)`.

    A window runs over the slots of each axis (`geometry.axis_window`) and the input
    channels. A slot is the same number of steps from the receptive field everywhere, so
    E(S) is one window for all positions. Slots beyond the input are void: they multiply
    zeros, stand in no sum, and no gradient reaches them. The members are ordered by
    position and by the entries of the shared kernel.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        self._positions = prod(geometry.output_grid)
        self._slots = tuple(len(window.steps) for window in geometry.windows)
        # Each axis has one more input, of zeros, which is that of its void slots.
        self._has_void = tuple(bool(window.has_void) for window in geometry.windows)
        self._zeros_grid = tuple(
            size + has_void
            for size, has_void in zip(geometry.input_grid, self._has_void, strict=True)
        )
        self._add_constants(self._find_template_rows())

    def _add_constants(self, template_rows: np.ndarray) -> None:
        """Index vectors and masks of a window, and of the mesh of all windows."""
        geometry, windows = self.geometry, self.geometry.windows
        rank, rows = len(windows), prod(self._window_shape)
        is_template_row = np.zeros(rows, bool)
        is_template_row[template_rows] = True
        # Rows of the window with, on the template, those of members that follow them.
        row = np.arange(rows)
        row[template_rows] = rows + np.arange(len(template_rows))
        self._template_rows = constant(template_rows)
        self._is_template_row = constant(is_template_row)
        self._rows_with_members = constant(row)
        self._places = [
            (
                constant(along(window.first_taps, axis, 2 * rank)),
                constant(along(window.steps, rank + axis, 2 * rank)),
            )
            for axis, window in enumerate(windows)
        ]
        self._distances = [
            constant(along(geometry.slot_distances(axis), axis, rank))
            for axis in range(rank)
        ]

    @property
    def _window_shape(self) -> Shape:
        """A window as groups of rows: by slot, group of input, channel, group of filter."""
        groups = self.geometry.groups
        return (*self._slots, groups, self.geometry.in_channels // groups, groups)

    def _find_template_rows(self) -> np.ndarray:
        """Rows of a window on the template, in the order of the shared kernel's."""
        *_, groups, channels, _ = self._window_shape
        windows = self.geometry.windows
        ndim = len(windows) + 2
        taps = [along(window.tap_slots, axis, ndim) for axis, window in enumerate(windows)]
        channel = along(np.arange(channels), ndim - 2, ndim)
        group = along(np.arange(groups), ndim - 1, ndim)
        mesh = np.broadcast_arrays(*taps, group, channel, group)
        return np.ravel_multi_index(mesh, self._window_shape).ravel()

    def without_void(self, deviations: Tensor) -> Tensor:
        windows = self._without_void(self._as_windows(deviations))
        return ops.reshape(windows, self.geometry.deviations_shape)

    def _without_void(self, windows: Tensor) -> Tensor:
        """`(positions, rows, ...)` with zeros in the void slots."""
        if not any(self._has_void):
            return windows
        is_weight = ops.cast(ops.expand_dims(self._is_weight(), -1), windows.dtype)
        by_slot = ops.reshape(windows, (self._positions, prod(self._slots), -1))
        return ops.reshape(by_slot * is_weight, windows.shape)

    def _is_weight(self) -> Tensor:
        """Boolean tensor `(positions, slots)`, False where void."""
        axes = zip(self._inputs(), self.geometry.input_grid, strict=True)
        is_weight = reduce(ops.logical_and, [inputs < size for inputs, size in axes])
        return ops.reshape(is_weight, (self._positions, -1))

    def _as_windows(self, deviations: Tensor) -> Tensor:
        """`(positions, rows, row_length)`."""
        return ops.reshape(deviations, (self._positions, -1, self.row_length))

    # The maps.

    def members(self, deviations: Tensor) -> Tensor:
        windows = self._without_void(self._as_windows(deviations))
        return ops.take(windows, self._template_rows, axis=1)

    def copies(self, shared_kernel: Tensor) -> Tensor:
        window = self._window(shared_kernel)
        shape = (self._positions, *window.shape)
        windows = self._without_void(ops.broadcast_to(window, shape))
        return ops.take(windows, self._template_rows, axis=1)

    def _window(self, shared_kernel: Tensor) -> Tensor:
        """E(S) of every position, `(rows, row_length)`: not yet zero where void."""
        window = ops.zeros((prod(self._window_shape), self.row_length), shared_kernel.dtype)
        shared_rows = ops.reshape(shared_kernel, (-1, self.row_length))
        return ops.scatter_update(window, self._template_rows[:, None], shared_rows)

    def template(self, deviations: Tensor) -> Tensor:
        geometry = self.geometry
        shape = (*geometry.output_grid, prod(geometry.shared_kernel_shape))
        return ops.reshape(self.members(deviations), shape)

    def off_template(self, deviations: Tensor) -> Tensor:
        windows = self._without_void(self._as_windows(deviations))
        windows = ops.where(self._is_template_row[:, None], 0, windows)
        return ops.reshape(windows, self.geometry.deviations_shape)

    def with_template(self, deviations: Tensor, template: Tensor) -> Tensor:
        windows = self._as_windows(deviations)
        members = ops.reshape(template, (self._positions, -1, self.row_length))
        both = ops.concatenate([windows, members], axis=1)
        windows = self._without_void(ops.take(both, self._rows_with_members, axis=1))
        return ops.reshape(windows, self.geometry.deviations_shape)

    def distances(self) -> Tensor:
        steps = reduce(ops.maximum, map(ops.convert_to_tensor, self._distances))
        steps = ops.cast(steps, "float32")[..., None]  # [*slots, 1]
        steps = ops.broadcast_to(steps, (*self._slots, self.geometry.in_channels))
        return ops.reshape(steps, (-1, 1))  # [window, 1]

    def partition_sums(self, power: Power, deviations: Tensor) -> tuple[Tensor, Tensor]:
        sums = self._without_void(row_sums(power, self._as_windows(deviations)))
        # Over the positions first: what is left to divide is one window.
        sums = totals(sums)
        is_template = self._is_template_row
        return (
            total(ops.where(is_template, sums, 0)),
            total(ops.where(is_template, 0, sums)),
        )

    def off_template_by_position(self, power: Power, deviations: Tensor) -> Tensor:
        sums = self._without_void(row_sums(power, self._as_windows(deviations)))
        sums = ops.where(self._is_template_row, 0, sums)  # [positions, rows]
        return ops.reshape(ops.sum(sums, axis=1), self.geometry.output_grid)

    def incoming(self, deviations: Tensor, position: Shape) -> np.ndarray:
        geometry = self.geometry
        slots, inputs = [], []
        for window, at in zip(geometry.windows, position, strict=True):
            seen = window.first_taps[at] + window.steps
            seen = seen % window.size if window.wraps else seen
            slots.append((seen >= 0) & (seen < window.size))
            inputs.append(seen[slots[-1]])
        shape = (*self._slots, geometry.in_channels, geometry.filters)
        window = ops.convert_to_numpy(deviations[position]).reshape(shape)
        kernel = np.full((*geometry.input_grid, *shape[-2:]), np.nan, window.dtype)
        kernel[np.ix_(*inputs)] = window[np.ix_(*slots)]
        return kernel

    def product(self, inputs: Tensor, shared_kernel: Tensor, deviations: Tensor) -> Tensor:
        # With the batch last, what is fetched for a slot is contiguous.
        geometry = self.geometry
        channels = geometry.in_channels
        inputs = pad(inputs, ((0, 0), *((0, z) for z in map(int, self._has_void)), (0, 0)))
        inputs = ops.moveaxis(inputs, 0, -1)  # [*zeros_grid, in_channels, batch]
        inputs = ops.reshape(inputs, (prod(self._zeros_grid), -1))
        slot_inputs = raveled(self._zeros_grid, self._inputs())
        seen = ops.take(inputs, ops.reshape(slot_inputs, (-1,)), axis=0)
        seen = ops.reshape(seen, (self._positions, prod(self._slots) * channels, -1))
        kernel = self._as_windows(deviations) + self._window(shared_kernel)
        kernel = ops.reshape(kernel, (self._positions, -1, geometry.filters))
        outputs = _product_of_each(seen, kernel)  # [positions, batch, filters]
        outputs = ops.transpose(outputs, (1, 0, 2))
        return ops.reshape(outputs, (-1, *geometry.output_grid, geometry.filters))

    def _inputs(self) -> list[Tensor]:
        """Input in each slot of each output along each axis, its size where void.

        Returns:
            int32 tensors, together an open mesh of `(*output_grid, *slots)`.
        """
        inputs = []
        for window, places in zip(self.geometry.windows, self._places, strict=True):
            first_taps, steps = map(ops.convert_to_tensor, places)
            # Not by `ops.add`, which on TensorFlow takes some meshes for a bias.
            places = first_taps + steps
            if window.wraps:
                inputs.append(ops.mod(places, window.size))
            else:
                is_inside = ops.logical_and(places >= 0, places < window.size)
                inputs.append(ops.where(is_inside, places, window.size))
        return inputs

    def kernel(self, shared_kernel: Tensor, deviations: Tensor) -> Tensor:
        geometry = self.geometry
        windows = self._as_windows(deviations) + self._window(shared_kernel)
        blocks = ops.reshape(windows, (-1, geometry.in_channels * geometry.filters))
        position = ops.arange(self._positions, dtype="int32")[:, None]
        slot_inputs = raveled(geometry.input_grid, self._inputs())
        slot_inputs = ops.reshape(slot_inputs, (self._positions, -1))
        n_rows = prod(geometry.input_grid) * self._positions
        rows = slot_inputs * self._positions + position  # [positions, slots]
        rows = ops.where(self._is_weight(), rows, n_rows)  # one more row for the void
        kernel = ops.zeros((n_rows + 1, blocks.shape[1]), blocks.dtype)
        kernel = ops.scatter_update(kernel, ops.reshape(rows, (-1, 1)), blocks)[:-1]
        channels_and_filters = geometry.in_channels, geometry.filters
        shape = (prod(geometry.input_grid), self._positions, *channels_and_filters)
        kernel = ops.swapaxes(ops.reshape(kernel, shape), 1, 2)
        return ops.reshape(kernel, geometry.kernel_shape)


def _product_of_each(seen: Tensor, kernel: Tensor) -> Tensor:
    """`seen[p].T @ kernel[p]` for every position p."""

    def product(seen: Tensor, kernel: Tensor) -> Tensor:
        return ops.matmul(ops.swapaxes(seen, 1, 2), kernel)

    def gradient(seen: Tensor, kernel: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
        to_seen = ops.matmul(kernel, ops.swapaxes(upstream, 1, 2))
        return to_seen, ops.matmul(seen, upstream)

    return with_gradient(product, gradient, seen, kernel)
