"""The problem children of a layer in parts: how many there are, and where."""

from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any

import numpy as np

from keras_softconv.diagnostics.parts import Part, Parts
from keras_softconv.diagnostics.problem_children import (
    REMARKABLE,
    Highest,
    Scale,
    Scores,
    by_tap,
    sum_of_squares,
)
from keras_softconv.diagnostics.spreads import Layout, spreads_of
from keras_softconv.geometry import Geometry


@dataclass(frozen=True)
class Outliers:
    """What a report says of a layer's problem children.

    Args:
        children: the members of the highest scores, see `problem_children`.
        by_position: how many score above 3.5 at each output position, `(*output_grid)`.
        by_filter: the same for each filter.
        expected: how many would by chance.
    """

    children: list[dict[str, Any]]
    by_position: np.ndarray
    by_filter: np.ndarray
    expected: float

    @classmethod
    def of(cls, parts: Parts, limit: int) -> "Outliers":
        """The outliers of a layer.

        The parts are read twice: for the spread of the layer, and for the scores.

        Args:
            parts: of the layer.
            limit: how many `children` at most.
        """
        geometry = parts.geometry
        layout = Layout.of(geometry)
        spreads, squares = [], 0.0
        for part in parts:
            spreads.append(spreads_of(_values(part), layout))
            squares += sum_of_squares(part.members.weights)
        scale = Scale.of(spreads, squares, geometry)
        highest, expected = Highest(limit), 0.0
        by_position = np.zeros(geometry.sees_padding.size, int)
        by_filter = np.zeros(geometry.filters, int)
        for part, of_part in zip(parts, spreads, strict=True):
            found = Scores(_values(part), of_part, scale)
            expected += found.expected
            highest.add(found.scores, part.members, part.families)
            position, family = np.nonzero(found.scores > REMARKABLE)
            by_position += np.bincount(position, minlength=len(by_position))
            filters = part.families[family] % geometry.filters
            by_filter += np.bincount(filters, minlength=len(by_filter))
        by_position = by_position.reshape(geometry.output_grid)
        return cls(highest.children(geometry), by_position, by_filter, expected)


def _values(part: Part) -> np.ndarray:
    return by_tap(part.members.template, part.geometry)


def members_by_position(geometry: Geometry) -> np.ndarray:
    """How many members there are at each output position, `(*output_grid)`."""
    taps = reduce(np.multiply.outer, [axis.sum(axis=1) for axis in geometry.has_member])
    return taps * prod(geometry.shared_kernel_shape[-2:])
