"""All that a report says of one layer, as plain Python data."""

from math import prod

import numpy as np

from keras_softconv.compat import ops
from keras_softconv.diagnostics.lazy_dict import LazyDict
from keras_softconv.diagnostics.outliers import Outliers, members_by_position
from keras_softconv.diagnostics.parts import Parts
from keras_softconv.diagnostics.records import Records, most_remarkable
from keras_softconv.diagnostics.structure import numbers_of_sums
from keras_softconv.layers import BaseSoftConv
from keras_softconv.weight_sharing import in_full_precision

PARTS = ("convolution", "family", "off_template")


def layer_numbers(
    kind: type[LazyDict], path: str, layer: BaseSoftConv, children: int
) -> LazyDict:
    """What `LayerReport` documents.

    Args:
        kind: of dict.
        path: of the layer.
        layer: a SoftConv layer.
        children: how many problem children to list, at most.
    """
    # What diverged is reported as such.
    with np.errstate(invalid="ignore", over="ignore"):
        return _layer_numbers(kind, path, layer, children)


def _layer_numbers(
    kind: type[LazyDict], path: str, layer: BaseSoftConv, children: int
) -> LazyDict:
    parts = Parts(layer)
    geometry = parts.geometry
    # First the outliers, which take more memory, but leave less to keep.
    outliers = Outliers.of(parts, children)
    totals = Totals(parts)
    of_a_filter = np.full(geometry.filters, geometry.template_size // geometry.filters)
    values = dict(
        layer=path,
        weights=geometry.size,
        template_weights=geometry.template_size,
        **totals.numbers(),
        energies={name: totals.sums[name] for name in PARTS},
        distinct_weights=totals.distinct,
        zero_weights=totals.zeros,
        families=None,
        positions=None,
        problem_children=outliers.children,
        remarkable_children=int(outliers.by_position.sum()),
        expected_by_chance=outliers.expected,
        remarkable_by_position=None,
        remarkable_by_filter=None,
        bias_variance=_bias_variance(layer),
    )
    if layer.effective_weights:
        values["effective_weights"] = _effective_weights(layer)
    makers = {
        "families": totals.families(),
        "positions": totals.positions(),
        "remarkable_by_position": most_remarkable(
            "position", outliers.by_position, members_by_position(geometry)
        ),
        "remarkable_by_filter": most_remarkable(
            "filter", outliers.by_filter, of_a_filter, unpack=True
        ),
    }
    return kind.with_makers(values, makers)


def _effective_weights(layer: BaseSoftConv) -> dict[str, dict[str, float | int]]:
    """How many weights the data determine at each place, and of how many."""
    geometry = layer.weight_sharing.geometry
    biases = prod(geometry.output_grid) * geometry.filters if layer.use_bias else 0
    sizes = {
        "tie": geometry.template_size,
        "bias_tie": biases,
        "off_template": geometry.size - geometry.template_size,
        "shared_kernel": geometry.families,
        "shared_bias": geometry.filters,
    }
    found = layer.effective_weights
    if "bias_tie" not in found:  # those of the biases are among the ties
        sizes["tie"] += biases
    return {
        place: {"determined": number, "weights": sizes[place]}
        for place, number in found.items()
    }


class Totals:
    """Numbers of a layer, added up and put together over its parts.

    Args:
        parts: of the layer.

    Attributes:
        sums: see `numbers_of_sums`.
        distinct, zeros: how many different values the weights have, and how many are 0.
    """

    def __init__(self, parts: Parts) -> None:
        self._geometry = geometry = parts.geometry
        self.sums = dict.fromkeys((*PARTS, "template_mass", "off_template_mass"), 0.0)
        positions = prod(geometry.output_grid)
        self._within, self._off_template = np.zeros(positions), np.zeros(positions)
        self._means = self._variances = None
        values = _Values(geometry.size)
        for part in parts:
            members, off_template = part.members, part.off_template()
            if self._means is None:
                self._means = np.empty(geometry.families, members.means.dtype)
                self._variances = np.empty_like(self._means)
            self._means[part.families] = members.means
            self._variances[part.families] = members.variances
            self._within += np.square(members.shades).sum(axis=1, dtype="float64")
            self._off_template += off_template.energies
            values.add(members.weights)
            values.add(off_template.weights)
            self._add(
                convolution=members.convolution_energies.sum(dtype="float64"),
                family=members.energies.sum(dtype="float64"),
                off_template=off_template.energy,
                template_mass=np.abs(members.weights).sum(dtype="float64"),
                off_template_mass=off_template.mass,
            )
        self.distinct, self.zeros = values.counts()

    def _add(self, **sums: float) -> None:
        for name, value in sums.items():
            self.sums[name] += float(value)

    def numbers(self) -> dict[str, float]:
        """The numbers of `structure_numbers`."""
        geometry = self._geometry
        by_tap = self._variances.reshape(geometry.member_counts.size, -1)
        by_tap = [by_tap[tap] for tap in np.flatnonzero(geometry.member_counts)]
        ends = 0.0, 0.0
        if by_tap:
            ends = np.min([*map(np.min, by_tap)]), np.max([*map(np.max, by_tap)])
        numbers = numbers_of_sums(self.sums, ends, geometry.template_size, np)
        return {name: float(value) for name, value in numbers.items()}

    def families(self) -> Records:
        shape = self._geometry.shared_kernel_shape
        columns = {
            "mean": self._means.reshape(shape),
            "variance": self._variances.reshape(shape),
            "size": self._geometry.member_counts[..., None, None],
        }
        return Records("family", shape, columns)

    def positions(self) -> Records:
        shape = self._geometry.output_grid
        columns = {
            "deviation_energy": self._within.reshape(shape),
            "off_template_energy": self._off_template.reshape(shape),
        }
        return Records("position", shape, columns)


class _Values:
    """Weights that are not 0, to be counted.

    Args:
        size: how many weights the layer has.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._found = None
        self._count = 0

    def add(self, weights: np.ndarray) -> None:
        """Add the weights of a part, zeros among them that are none."""
        values = weights[weights != 0]
        if self._found is None:
            self._found = np.empty(self._size, weights.dtype)
        # The padding entries of a diverged halo can be NaN.
        values = values[: self._size - self._count]
        self._found[self._count : self._count + len(values)] = values
        self._count += len(values)

    def counts(self) -> tuple[int, int]:
        """How many different weights there are, 0 among them, and how many are 0."""
        zeros = self._size - self._count
        values = self._found[: self._count]
        values.sort()
        numbers = values[: len(values) - np.isnan(values).sum()]  # NaN is sorted last
        distinct = np.count_nonzero(numbers[1:] != numbers[:-1]) + (len(numbers) > 0)
        has_nan = len(numbers) < len(values)
        return int(distinct + has_nan + (zeros > 0)), int(zeros)


def _bias_variance(layer: BaseSoftConv) -> float | None:
    if not layer.use_bias:
        return None
    deviations = ops.convert_to_numpy(in_full_precision(layer.bias_deviations))
    axes = tuple(range(deviations.ndim - 1))
    return float(deviations.astype("float64").var(axis=axes).mean())
