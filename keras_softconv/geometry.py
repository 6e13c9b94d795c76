"""Which tap of a convolution joins which input to which output.

A convolution with `kernel_size` k, `strides` s and `dilation_rate` d, padded by
`before` on the near side, lets output p see input

    i = p * s + t * d - before

through tap t, along each axis on its own; in several dimensions the axes combine as
a product. Everything here is integer arithmetic on NumPy index vectors.
"""

from dataclasses import dataclass
from functools import cached_property, reduce
from math import prod

import numpy as np

from keras_softconv.arguments import Pads

VOID = -1  # the tap sees only padding there


def axis_pads(
    size: int, taps: int, stride: int, dilation: int, padding: str | tuple[int, int]
) -> tuple[int, int]:
    """Steps of padding `(before, after)` along one axis.

    'same' is Keras's rule: `ceil(size / stride)` outputs, and whatever padding they
    need beyond the input, the smaller half first. 'circular' has the same outputs
    and wraps the same number of steps. 'causal' pads so that no output sees later inputs.
    """
    if padding == "valid":
        return 0, 0
    if padding == "causal":
        return dilation * (taps - 1), 0
    if padding in ("same", "circular"):
        outputs = -(-size // stride)
        total = max((outputs - 1) * stride + dilation * (taps - 1) + 1 - size, 0)
        return total // 2, total - total // 2
    return padding


def axis_outputs(
    size: int, taps: int, stride: int, dilation: int, padding: str | tuple[int, int]
) -> int:
    """Number of outputs along one axis; not positive where the kernel does not fit."""
    before, after = axis_pads(size, taps, stride, dilation, padding)
    return (size + before + after - dilation * (taps - 1) - 1) // stride + 1


def axis_inputs(
    size: int, taps: int, stride: int, dilation: int, padding: str | tuple[int, int]
) -> np.ndarray:
    """Input seen by each output (row) through each tap (column) of one axis.

    Example, three inputs, two taps, 'same':

        [[0, 1],
         [1, 2],
         [2, VOID]]
    """
    before, _ = axis_pads(size, taps, stride, dilation, padding)
    position = np.arange(axis_outputs(size, taps, stride, dilation, padding))
    tap = np.arange(taps)
    inputs = position[:, None] * stride + tap * dilation - before  # [outputs, taps]
    if padding == "circular":
        return inputs % size
    return np.where((inputs >= 0) & (inputs < size), inputs, VOID)


@dataclass(frozen=True)
class AxisWindow:
    """What each output sees along one axis, and some steps around it.

    A *slot* of the window is a distance from the first tap, the same for every output:
    slot j of output p holds the input `first_taps[p] + steps[j]`, modulo `size` if the
    axis wraps, and is void where there is no such input.

    Args:
        size: number of inputs.
        first_taps: where the first tap of each output lies, in ascending order.
        steps: of each slot, in ascending order.
        tap_slots: the slot of each tap.
        wraps: whether the axis is circular.
    """

    size: int
    first_taps: np.ndarray
    steps: np.ndarray
    tap_slots: np.ndarray
    wraps: bool

    @cached_property
    def pairs(self) -> int:
        """Number of pairs of an output and an input in its window."""
        if self.wraps:
            return len(self.first_taps) * len(self.steps)
        return int(outputs_in_reach(self.first_taps, self.steps, self.size).sum())

    @property
    def has_void(self) -> bool:
        return self.pairs < len(self.first_taps) * len(self.steps)

    @property
    def reaches_all(self) -> bool:
        return self.pairs == len(self.first_taps) * self.size


def outputs_in_reach(first_taps: np.ndarray, steps: np.ndarray, size: int) -> np.ndarray:
    """For each step, how many outputs see an input there."""
    below = np.searchsorted(first_taps, -steps)
    return np.searchsorted(first_taps, size - steps) - below


def axis_window(
    size: int,
    taps: int,
    stride: int,
    dilation: int,
    padding: str | tuple[int, int],
    halo: int,
) -> AxisWindow:
    """The window of the taps along one axis and `halo` steps around each of them.

    Slots that hold an input for no output are left out, unless they are a tap's.

    Example, three inputs, two taps, 'same', a halo of 1; the inputs in the slots are

        [[VOID, 0, 1,    2],
         [0,    1, 2,    VOID],
         [1,    2, VOID, VOID]]
    """
    before, after = axis_pads(size, taps, stride, dilation, padding)
    halo = min(halo, before + size + after)  # more reaches nothing further
    around = np.arange(-halo, halo + 1)
    tap_steps = np.arange(taps) * dilation
    steps = np.unique(np.add.outer(tap_steps, around))
    outputs = axis_outputs(size, taps, stride, dilation, padding)
    first_taps = np.arange(outputs) * stride - before
    wraps = padding == "circular"
    if wraps:
        steps, tap_steps = np.unique(steps % size), tap_steps % size
    else:
        in_reach = outputs_in_reach(first_taps, steps, size) > 0
        steps = steps[in_reach | np.isin(steps, tap_steps)]
    tap_slots = np.searchsorted(steps, tap_steps)
    return AxisWindow(size, first_taps, steps, tap_slots, wraps)


def _distances(
    steps: np.ndarray, size: int, taps: int, dilation: int, padding: str | tuple[int, int]
) -> np.ndarray:
    """How far each step from the first tap is from the nearest tap."""
    nearest = np.full(steps.shape, np.iinfo("int32").max)
    for tap in range(taps):
        distances = np.abs(steps - tap * dilation)
        if padding == "circular":
            distances = np.minimum(distances % size, -distances % size)
        nearest = np.minimum(nearest, distances)
    return nearest


@dataclass(frozen=True)
class Geometry:
    """The joins of one convolution, in any number of dimensions.

    Args:
        input_grid: input steps per axis, without batch and channels.
        kernel_size, strides, dilation_rate: one positive integer per axis.
        padding: 'valid', 'same', 'circular', 'causal' or one `(before, after)` pair per
            axis.
        in_channels, filters, groups: as in Keras's convolutions.
        halo: how many input steps around each receptive field have a weight, along
            every axis; None for all.

    Raises:
        ValueError: when there is no output, or a circular kernel meets itself.
    """

    input_grid: tuple[int, ...]
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    dilation_rate: tuple[int, ...]
    padding: str | Pads
    in_channels: int
    filters: int
    groups: int = 1
    halo: int | None = None

    def __post_init__(self) -> None:
        if min(self.output_grid) <= 0:
            raise ValueError(
                "Computed output size would be zero or negative. Received "
                f"`inputs shape={(None, *self.input_grid, self.in_channels)}`, "
                f"`kernel shape={self.shared_kernel_shape}`, "
                f"`dilation_rate={self.dilation_rate}`, `padding={self.padding}`. "
                "Use a smaller kernel or dilation, or `padding='same'`."
            )
        spans = tuple(
            d * (k - 1) + 1
            for k, d in zip(self.kernel_size, self.dilation_rate, strict=True)
        )
        if self.padding == "circular" and any(
            span > size for span, size in zip(spans, self.input_grid, strict=True)
        ):
            raise ValueError(
                "With `padding='circular'` the dilated kernel may not be larger "
                "than the input, or it would meet itself. Received a kernel that "
                f"spans {spans} steps on an input of {self.input_grid} (kernel_size="
                f"{self.kernel_size}, dilation_rate={self.dilation_rate}). "
                "Use a smaller kernel or dilation."
            )

    @property
    def _axes(self) -> list[tuple]:
        paddings = (
            (self.padding,) * len(self.input_grid)
            if isinstance(self.padding, str)
            else self.padding
        )
        axes = (
            self.input_grid, self.kernel_size, self.strides, self.dilation_rate, paddings
        )  # fmt: skip
        return list(zip(*axes, strict=True))

    @cached_property
    def pads(self) -> Pads:
        """Padding `(before, after)` per axis."""
        return tuple(axis_pads(*axis) for axis in self._axes)

    @cached_property
    def rest(self) -> tuple[int, ...]:
        """Steps per axis, with padding, behind what the last output sees."""
        rests = []
        for axis, pads, outputs in zip(
            self._axes, self.pads, self.output_grid, strict=True
        ):
            size, taps, stride, dilation, _ = axis
            seen = (outputs - 1) * stride + dilation * (taps - 1) + 1
            rests.append(size + sum(pads) - seen)
        return tuple(rests)

    @cached_property
    def output_grid(self) -> tuple[int, ...]:
        """Output steps per axis."""
        return tuple(axis_outputs(*axis) for axis in self._axes)

    @property
    def shared_kernel_shape(self) -> tuple[int, ...]:
        """Shape of the Conv kernel: `(*kernel_size, in_channels // groups, filters)`."""
        return (*self.kernel_size, self.in_channels // self.groups, self.filters)

    @property
    def families(self) -> int:
        """Number of entries of the Conv kernel."""
        return prod(self.shared_kernel_shape)

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """Dense kernel's shape: `(*input_grid, in_channels, *output_grid, filters)`."""
        return (*self.input_grid, self.in_channels, *self.output_grid, self.filters)

    @cached_property
    def joins(self) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]:
        """For each axis, all `(input, tap, output)` that are joined, as index vectors.

        An input, tap and output of the whole convolution are joined if they are along
        each axis: its joins are the product of those of the axes.
        """
        joins = []
        for axis in self._axes:
            inputs = axis_inputs(*axis)
            output, tap = np.nonzero(inputs != VOID)
            joins.append((inputs[output, tap], tap, output))
        return tuple(joins)

    @cached_property
    def has_member(self) -> tuple[np.ndarray, ...]:
        """For each axis, whether an output (row) has a member for a tap (column).

        An output of the whole convolution has one if it has along each axis.
        """
        return tuple(axis_inputs(*axis) != VOID for axis in self._axes)

    @cached_property
    def wraps(self) -> bool:
        """Whether the output grid is a torus, as the input grid is."""
        return self.padding == "circular" and set(self.strides) == {1}

    def step_distances(self, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Steps from the inputs along an axis to the nearest tap of each output.

        Returns:
            `offsets`, one for each output, and `distances`: input i is
            `distances[i + offsets[p]]` steps from the nearest tap of output p.
        """
        size, taps, stride, dilation, padding = self._axes[axis]
        before, _ = self.pads[axis]
        outputs = self.output_grid[axis]
        offsets = np.arange(outputs - 1, -1, -1) * stride
        steps = np.arange(offsets[0] + size) - offsets[0] + before
        return offsets, _distances(steps, size, taps, dilation, padding)

    def slot_distances(self, axis: int) -> np.ndarray:
        """Steps from each slot of the window along an axis to the nearest tap."""
        size, taps, _, dilation, padding = self._axes[axis]
        return _distances(self.windows[axis].steps, size, taps, dilation, padding)

    @cached_property
    def member_counts(self) -> np.ndarray:
        """Size of the families of each tap, shape `kernel_size`."""
        counts = np.ones((), int)
        for (_, tap, _), taps in zip(self.joins, self.kernel_size, strict=True):
            counts = np.multiply.outer(counts, np.bincount(tap, minlength=taps))
        return counts

    @property
    def family_sizes(self) -> np.ndarray:
        """Members of each family, in the raveled order of the Conv kernel."""
        return self.member_counts.ravel().repeat(prod(self.shared_kernel_shape[-2:]))

    @cached_property
    def sees_padding(self) -> np.ndarray:
        """Whether some tap of an output has no member, `(*output_grid)`."""
        axes = [~has_member.all(axis=1) for has_member in self.has_member]
        return reduce(np.logical_or.outer, axes)

    @property
    def template_size(self) -> int:
        """Number of entries of the dense kernel that the convolution would use."""
        return int(self.member_counts.sum()) * prod(self.shared_kernel_shape[-2:])

    # Which weights there are.

    @cached_property
    def windows(self) -> tuple[AxisWindow, ...] | None:
        """The window along each axis; None where every output sees every input.

        An input is in the window of an output if it is along each axis.
        """
        if self.halo is None:
            return None
        windows = tuple(axis_window(*axis, self.halo) for axis in self._axes)
        return None if all(window.reaches_all for window in windows) else windows

    @property
    def deviations_shape(self) -> tuple[int, ...]:
        """The dense kernel's, or with a halo `(*output_grid, window, filters)`.

        A window runs over the slots of each axis and the input channels.
        """
        if self.windows is None:
            return self.kernel_shape
        slots = prod(len(window.steps) for window in self.windows)
        return (*self.output_grid, slots * self.in_channels, self.filters)

    @property
    def size(self) -> int:
        """Number of weights, without the void ones of a halo."""
        if self.windows is None:
            return prod(self.kernel_shape)
        pairs = prod(window.pairs for window in self.windows)
        return pairs * self.in_channels * self.filters

    @property
    def fans(self) -> tuple[float, float]:
        """Mean number of weights that lead to an output, and from an input."""
        inputs = prod(self.input_grid) * self.in_channels
        return self.size / (prod(self.output_grid) * self.filters), self.size / inputs
