"""A layer in parts of some filters each, so that a report needs little memory.

A part has some of the filters of every channel group. It is a layer of fewer filters, so
that what is computed of a layer can be computed of a part: sums are added up over the
parts, and arrays are put side by side.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from math import prod
from typing import Any

import numpy as np

from keras_softconv.compat import keras, ops
from keras_softconv.diagnostics.spreads import is_member
from keras_softconv.diagnostics.structure import Members
from keras_softconv.geometry import Geometry
from keras_softconv.layers import BaseSoftConv
from keras_softconv.weight_sharing import (
    ABSOLUTE,
    SQUARE,
    WeightSharing,
    in_full_precision,
    weight_sharing_of,
)

Tensor = Any

# How many weights and template entries a part has, at most, unless its rows would become
# short.
PART_SIZE = 2**19
# Slices of fewer filters than this would read the same memory again and again.
FEWEST_FILTERS = 16


class FetchedMembers(Members):
    """The members of a part, fetched once and computed with NumPy.

    JAX would compile each operation for each shape. Sums are taken in float64.

    Args:
        geometry: of the part.
        template: stored deviations on the template, `(positions, families)`.
        shared_kernel: returns the shared kernel as a tensor; called when it is needed.
    """

    operations = np

    def __init__(
        self, geometry: Geometry, template: np.ndarray, shared_kernel: Callable[[], Tensor]
    ) -> None:
        self.geometry = geometry
        self._template = template
        self._shared_kernel = shared_kernel

    @cached_property
    def _shared(self) -> np.ndarray:
        return ops.convert_to_numpy(in_full_precision(self._shared_kernel())).ravel()

    @property
    def template(self) -> np.ndarray:
        """The stored deviations on the template; any number for padding entries."""
        return self._template

    def _without_void(self, template: np.ndarray) -> np.ndarray:
        if not self.geometry.sees_padding.any():
            return template
        has_member = is_member(self.geometry)[..., None]
        by_tap = template.reshape(*has_member.shape[:2], -1)
        by_tap = np.where(has_member, by_tap, np.zeros((), template.dtype))
        return by_tap.reshape(template.shape)

    def _totals(self, by_position: np.ndarray) -> np.ndarray:
        return by_position.sum(axis=0, dtype="float64").astype(by_position.dtype)

    def _as_tensor(self, array: np.ndarray, like: np.ndarray) -> np.ndarray:
        return array.astype(like.dtype)


@dataclass(frozen=True)
class OffTemplate:
    """What a report says of the weights off the template of a part.

    Args:
        mass: sum of the absolute weights.
        energy: sum of the squares.
        energies: sums of the squares by output position, raveled.
        weights: the weights in any order, with zeros among them that are none.
    """

    mass: float
    energy: float
    energies: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Part:
    """Some filters of a layer.

    Args:
        geometry: of a layer that has these filters alone.
        deviations: of these filters.
        shared_kernel: returns their shared kernel as a tensor.
        families: the numbers of the part's families in the whole layer.
    """

    geometry: Geometry
    deviations: Tensor
    shared_kernel: Callable[[], Tensor]
    families: np.ndarray

    @cached_property
    def members(self) -> FetchedMembers:
        """The members of the part."""
        [template] = self._read(_template)
        template = template.reshape(-1, self.geometry.families)
        # The members do not refer to the part, so that both are freed at once.
        return FetchedMembers(self.geometry, template, self.shared_kernel)

    def off_template(self) -> OffTemplate:
        """What is off the template of the part."""
        geometry = self.geometry
        if geometry.size == geometry.template_size:
            nothing = np.zeros(prod(geometry.output_grid))
            return OffTemplate(0.0, 0.0, nothing, nothing[:0])
        mass, energy, energies, weights = self._read(_off_template)
        return OffTemplate(float(mass), float(energy), energies.ravel(), weights.ravel())

    def _read(self, function: Callable) -> list[np.ndarray]:
        program = _program(function, self.geometry)
        return [ops.convert_to_numpy(tensor) for tensor in program(self.deviations)]


class Parts:
    """The parts of a built layer, which are read again in each iteration.

    Args:
        layer: a built SoftConv layer.
    """

    def __init__(self, layer: BaseSoftConv) -> None:
        self.geometry = layer.weight_sharing.geometry
        # Without the gradient torch would keep what it needs to compute one.
        self._deviations, self._shared = (
            ops.stop_gradient(ops.convert_to_tensor(weight))
            for weight in (layer.deviations, layer.shared_kernel)
        )
        self._step = _filters_of_a_part(self.geometry)
        self._only = None  # the part of a layer that has a single one is read once

    def __iter__(self) -> Iterator[Part]:
        size = self.geometry.filters // self.geometry.groups
        if self._step >= size:
            self._only = self._only or self._part(slice(0, size))
            yield self._only
            return
        for begin in range(0, size, self._step):
            yield self._part(slice(begin, min(begin + self._step, size)))

    def _part(self, filters: slice) -> Part:
        groups = self.geometry.groups
        size = self.geometry.filters // groups
        # Each tap, channel and group has a first family.
        firsts = np.arange(0, self.geometry.families, size)
        families = np.add.outer(firsts, np.arange(filters.start, filters.stop))
        count = (filters.stop - filters.start) * groups
        return Part(
            replace(self.geometry, filters=count),
            _of_filters(self._deviations, groups, filters),
            partial(_of_filters, self._shared, groups, filters),
            families.ravel(),
        )


def _filters_of_a_part(geometry: Geometry) -> int:
    """How many filters of each group, equally many in each part where that is possible."""
    size = geometry.filters // geometry.groups
    template = prod(geometry.output_grid) * geometry.families
    larger = max(prod(geometry.deviations_shape), template)
    most = max(PART_SIZE * size // larger, FEWEST_FILTERS)
    if most >= size:
        return size
    divisors = [step for step in range(most // 2 + 1, most + 1) if size % step == 0]
    return max(divisors, default=most)


def _of_filters(tensor: Tensor, groups: int, filters: slice) -> Tensor:
    """Some filters of each group, which are along the last axis."""
    *others, size = tensor.shape
    if filters == slice(0, size // groups):
        return tensor
    if groups == 1:
        return tensor[..., filters]
    by_group = ops.reshape(tensor, (*others, groups, size // groups))
    count = (filters.stop - filters.start) * groups
    return ops.reshape(by_group[..., filters], (*others, count))


# What the storage computes, on the device.


def _template(sharing: WeightSharing, deviations: Tensor) -> list[Tensor]:
    return [sharing.template(deviations)]


def _off_template(sharing: WeightSharing, deviations: Tensor) -> list[Tensor]:
    return [
        *(sharing.partition_sums(power, deviations)[1] for power in (ABSOLUTE, SQUARE)),
        sharing.off_template_by_position(SQUARE, deviations),
        sharing.off_template(deviations),
    ]


@lru_cache(maxsize=256)
def _program(function: Callable, geometry: Geometry) -> Callable:
    """The function of the deviations of one geometry, for JAX as one compiled program."""
    sharing = weight_sharing_of(geometry)

    def of_deviations(deviations: Tensor) -> list[Tensor]:
        return function(sharing, in_full_precision(deviations))

    if keras.backend.backend() != "jax":
        return of_deviations
    import jax

    return jax.jit(of_deviations)
