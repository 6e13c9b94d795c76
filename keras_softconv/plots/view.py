"""What a picture is drawn from, read once from a layer, as NumPy."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from keras_softconv.compat import ops
from keras_softconv.diagnostics import (
    REMARKABLE,
    Members,
    problem_children,
    readable,
    scores,
)
from keras_softconv.layers import BaseSoftConv
from keras_softconv.plots.checks import check_layer
from keras_softconv.weight_sharing import SQUARE, in_full_precision

Shape = tuple[int, ...]

SHADES_REACH = 0.1


@dataclass(frozen=True)
class Reach:
    """Where the scales of a picture end: its largest absolute shade and weight."""

    shade: float
    weight: float

    def joined(self, other: "Reach") -> "Reach":
        """Scales that hold both pictures."""
        shade, weight = max(self.shade, other.shade), max(self.weight, other.weight)
        return Reach(shade, weight)


class View:
    """The weights of a layer as they are now.

    Args:
        layer: a built SoftConv layer.
        every_position: whether `units` will be asked for all of them.

    Raises:
        ValueError: for anything else.
    """

    def __init__(self, layer: BaseSoftConv, *, every_position: bool = False) -> None:
        check_layer(layer)
        self._members = Members(layer)
        self._deviations = in_full_precision(layer.deviations)
        if every_position:
            self._deviations = ops.convert_to_numpy(self._deviations)
        self.geometry = self._members.geometry
        self.name = f"{type(layer).__name__} '{layer.name}'"
        self.means = ops.convert_to_numpy(self._members.means)

    @cached_property
    def weights(self) -> np.ndarray:
        """Of all members, `(*output_grid, families)`, NaN where void."""
        return self._without_void(self._members.weights)

    @cached_property
    def shades(self) -> np.ndarray:
        """The same minus family means."""
        return self._without_void(self._members.shades)

    def _without_void(self, members: Any) -> np.ndarray:
        is_member = ops.convert_to_numpy(self._members.sharing.is_member())
        return np.where(is_member, ops.convert_to_numpy(members).astype("float64"), np.nan)

    @property
    def title(self) -> str:
        """The layer and its shapes, without the batch."""
        geometry = self.geometry
        inputs = (*geometry.input_grid, geometry.in_channels)
        return f"{self.name}: {inputs} → {(*geometry.output_grid, geometry.filters)}"

    @property
    def positions(self) -> list[Shape]:
        """Indices of all outputs."""
        return list(np.ndindex(self.geometry.output_grid))

    # Families.

    def taps_of(self, channel: int, filter: int) -> np.ndarray:
        """Families that join a channel to a filter, `kernel_size`; none of other groups."""
        geometry = self.geometry
        families = np.arange(geometry.families).reshape(geometry.shared_kernel_shape)
        channels = geometry.in_channels // geometry.groups
        if channel // channels != filter // (geometry.filters // geometry.groups):
            return families[..., 0, 0].ravel()[:0]
        return families[..., channel % channels, filter]

    def colour_number(self, families: np.ndarray) -> np.ndarray:
        """Number of their taps in the window, whatever their channel and filter."""
        channels, filters = self.geometry.shared_kernel_shape[-2:]
        return families // (channels * filters)

    def tap(self, family: int) -> str:
        """Its indices in the Conv kernel, as reports show them."""
        shape = self.geometry.shared_kernel_shape
        return str(tuple(map(int, np.unravel_index(family, shape))))

    def family_of(self, child: dict[str, Any]) -> int:
        """The family of a problem child, by its number."""
        shape = self.geometry.shared_kernel_shape
        return int(np.ravel_multi_index(child["family"], shape))

    def place_of(self, child: dict[str, Any]) -> int:
        """Its raveled output position."""
        return int(np.ravel_multi_index(child["position"], self.geometry.output_grid))

    def mean(self, family: int) -> str:
        """Its mean, as reports show it."""
        return readable(float(self.means[family]))

    def remarkable(self, families: np.ndarray, limit: int) -> list[dict[str, Any]]:
        """The problem children of some families that score above `REMARKABLE`."""
        found = scores(self._members)
        chosen = np.isin(np.arange(found.shape[-1]), families) & (found > REMARKABLE)
        return problem_children(self._members, np.where(chosen, found, 0.0), limit)

    # Units.

    def units(self, position: Shape) -> tuple[np.ndarray, np.ndarray]:
        """All that leads to the units of one output position.

        Returns:
            Weights, NaN where there is none, and their families, -1 off the template, both
            of shape `(*input_grid, in_channels, filters)`.
        """
        sharing, families = self._members.sharing, self._families_at(position)
        weights = sharing.incoming(self._deviations, position).astype("float64")
        on_template = families >= 0
        members = ops.convert_to_numpy(self._members.weights[position])
        weights[on_template] = members[families[on_template]]
        return weights, families

    def _families_at(self, position: Shape) -> np.ndarray:
        geometry = self.geometry
        numbers = np.arange(geometry.families).reshape(geometry.shared_kernel_shape)
        joins = [
            (inputs[outputs == at], taps[outputs == at])
            for (inputs, taps, outputs), at in zip(geometry.joins, position, strict=True)
        ]
        inputs, taps = zip(*joins, strict=True)
        shape = (*geometry.input_grid, geometry.in_channels, geometry.filters)
        families = np.full(shape, -1)
        channels = np.arange(geometry.in_channels).reshape(geometry.groups, -1)
        filters = np.arange(geometry.filters).reshape(geometry.groups, -1)
        for of_group, to_group in zip(channels, filters, strict=True):
            tapped = numbers[np.ix_(*taps, channels[0], to_group)]
            families[np.ix_(*inputs, of_group, to_group)] = tapped
        return families

    def off_template_energies(self) -> np.ndarray:
        """Sum of the squared off-template weights of each output position."""
        sharing = self._members.sharing
        energies = sharing.off_template_by_position(SQUARE, self._deviations)
        return ops.convert_to_numpy(energies)


def reach_of(shades: np.ndarray, weights: np.ndarray) -> Reach:
    """The scales for some shades and weights.

    That of the shades reaches a tenth of the largest weight at least: families that are
    all but tied are to look so.
    """
    weight = largest(weights)
    return Reach(max(largest(shades), SHADES_REACH * weight), weight)


def largest(values: np.ndarray) -> float:
    """The largest absolute value, of those that are finite."""
    sizes = np.abs(values[np.isfinite(values)])
    return float(sizes.max()) if sizes.size else 0.0
