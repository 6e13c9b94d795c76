"""The structure of a layer in a few numbers, computed on the device.

The energy of a dense kernel W splits into three parts (analysis of variance), with
m_f the mean and n_f the size of family f:

    ||W||^2 = sum_f n_f m_f^2 + sum_template (w - m_f)^2 + sum_off_template w^2
"""

from functools import cached_property
from typing import Any

import numpy as np

from keras_softconv.compat import ops
from keras_softconv.layers import BaseSoftConv
from keras_softconv.weight_sharing import (
    ABSOLUTE,
    SQUARE,
    in_full_precision,
    total,
    totals,
)

Tensor = Any


class Members:
    """What a layer has on its template, by output position and family.

    All that this package says of families, in numbers, reports, pictures and TensorBoard,
    is computed from these tensors, in float32 or better. Families are in the raveled order
    of the Conv kernel; void members are 0.

    Args:
        layer: a built SoftConv layer.

    Attributes:
        operations: what computes, `keras.ops` or in a subclass NumPy. Only functions that
            both have by the same name are used.
    """

    operations: Any = ops

    def __init__(self, layer: BaseSoftConv) -> None:
        self.sharing = layer.weight_sharing
        self.geometry = self.sharing.geometry
        deviations = in_full_precision(layer.deviations)
        self._template = self.sharing.template(deviations)  # [*output_grid, families]
        self._shared = ops.reshape(in_full_precision(layer.shared_kernel), (-1,))

    @cached_property
    def deviations(self) -> Tensor:
        """The stored deviations on the template, `(*output_grid, families)`."""
        return self._without_void(self._template)

    @cached_property
    def weights(self) -> Tensor:
        """The effective weights, `(*output_grid, families)`."""
        return self._without_void(self._template + self._shared)

    @cached_property
    def shades(self) -> Tensor:
        """Weights minus the mean of their family, `(*output_grid, families)`."""
        # The shared kernel cancels; subtracting it last would leave only rounding errors
        # of families that are nearly tied.
        return self._without_void(self._template - self._mean_deviations)

    @cached_property
    def means(self) -> Tensor:
        """Mean weight of each family, 0 where it has no member, `(families,)`."""
        nothing = self.operations.zeros_like(self._shared)
        has_members = self.geometry.family_sizes > 0
        shared = self.operations.where(has_members, self._shared, nothing)
        return shared + self._mean_deviations

    @cached_property
    def energies(self) -> Tensor:
        """Sum of the squared shades of each family, `(families,)`."""
        return self._totals(self.operations.square(self.shades))

    @cached_property
    def variances(self) -> Tensor:
        """Mean squared shade of each family, 0 where it has no member, `(families,)`."""
        return self.energies / self._divisors(self.energies)

    @cached_property
    def convolution_energies(self) -> Tensor:
        """Number of members times the squared mean of each family, `(families,)`."""
        sizes = self._as_tensor(self.geometry.family_sizes, self.means)
        return sizes * self.operations.square(self.means)

    @cached_property
    def _mean_deviations(self) -> Tensor:
        totals = self._totals(self._template)
        return totals / self._divisors(totals)

    def _divisors(self, like: Tensor) -> Tensor:
        """Sizes of the families, and 1 for those without members."""
        return self._as_tensor(np.maximum(self.geometry.family_sizes, 1), like)

    def _without_void(self, template: Tensor) -> Tensor:
        if not self.geometry.sees_padding.any():
            return template
        nothing = self.operations.zeros_like(template)
        return self.operations.where(self._is_member(), template, nothing)

    # What a subclass does in NumPy.

    def _is_member(self) -> Tensor:
        return self.sharing.is_member()

    def _totals(self, by_position: Tensor) -> Tensor:
        """Sums over the positions, `(families,)`."""
        return totals(ops.reshape(by_position, (-1, self.geometry.families)))

    def _as_tensor(self, array: np.ndarray, like: Tensor) -> Tensor:
        return ops.convert_to_tensor(array, like.dtype)


def structure_numbers(
    layer: BaseSoftConv,
    members: Members | None = None,
    parts: tuple[Tensor, Tensor, Tensor] | None = None,
) -> dict[str, Tensor]:
    """The structure of one layer's effective kernel in five numbers.

        family_variance   = sum_template (w - m_f)^2 / (number of template entries)
        family_variance_min, family_variance_max: of the single families with members
        off_template_mass = sum_off_template |w| / sum |w|       (0 if all w are 0)
        convolution_share = sum_f n_f m_f^2 / ||W||^2            (1 if all w are 0)

    The dense kernel is never built: the sums are taken over the deviations, on the
    device, in float32 or better.

    Args:
        layer: a built SoftConv layer.
        members: its members, if they are at hand.
        parts: its `energies`, if they are at hand.

    Returns:
        Dict of scalar tensors.
    """
    members = members or Members(layer)
    geometry = members.geometry
    deviations = in_full_precision(layer.deviations)
    _, off_template_mass = members.sharing.partition_sums(ABSOLUTE, deviations)
    least, greatest = _range(members.variances, geometry.family_sizes > 0)
    convolution, family, off_template = parts or energies(layer, members)
    sums = {
        "convolution": convolution,
        "family": family,
        "off_template": off_template,
        "template_mass": total(ops.absolute(members.weights)),
        "off_template_mass": off_template_mass,
    }
    return numbers_of_sums(sums, (least, greatest), geometry.template_size)


def numbers_of_sums(
    sums: dict[str, Any],
    variances: tuple[Any, Any],
    template_size: int,
    operations: Any = ops,
) -> dict[str, Any]:
    """The five numbers of `structure_numbers`, from sums over the weights.

    Args:
        sums: the three parts of the energy, `convolution`, `family` and `off_template`,
            and the sums of the absolute weights, `template_mass` and `off_template_mass`.
        variances: the least and the greatest of the families with members.
        template_size: number of template entries.
        operations: `keras.ops` for tensors, NumPy for its numbers.
    """
    convolution, family = sums["convolution"], sums["family"]
    mass = sums["template_mass"] + sums["off_template_mass"]
    energy = convolution + family + sums["off_template"]
    return {
        "family_variance": family / max(template_size, 1),
        "family_variance_min": variances[0],
        "family_variance_max": variances[1],
        "off_template_mass": share(sums["off_template_mass"], mass, 0, operations),
        "convolution_share": share(convolution, energy, 1, operations),
    }


def _range(variances: Tensor, has_members: np.ndarray) -> tuple[Tensor, Tensor]:
    if not has_members.any():
        return ops.zeros(()), ops.zeros(())
    variances = ops.take(variances, np.flatnonzero(has_members))
    return ops.min(variances), ops.max(variances)


def energies(
    layer: BaseSoftConv, members: Members | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The three parts of the energy `||W||^2` of a layer's effective kernel.

    Returns:
        What the nearest convolution explains, what is left within the families, and what
        is off the template, as scalar tensors.
    """
    members = members or Members(layer)
    deviations = in_full_precision(layer.deviations)
    _, off_template = members.sharing.partition_sums(SQUARE, deviations)
    return total(members.convolution_energies), total(members.energies), off_template


def share(part: Any, whole: Any, of_nothing: float, operations: Any = ops) -> Any:
    """`part / whole`, and NaN where the weights are."""
    nothing = operations.equal(whole, 0)
    quotient = part / operations.where(nothing, 1, whole)
    return operations.where(nothing, of_nothing, quotient)
