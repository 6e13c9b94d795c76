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
    """

    def __init__(self, layer: BaseSoftConv) -> None:
        self.sharing = layer.weight_sharing
        self.geometry = self.sharing.geometry
        deviations = in_full_precision(layer.deviations)
        self._template = self.sharing.template(deviations)  # [*output_grid, families]
        self._shared = ops.reshape(in_full_precision(layer.shared_kernel), (-1,))

    @cached_property
    def weights(self) -> Tensor:
        """The effective weights, `(*output_grid, families)`."""
        return self._without_void(self._template + self._shared)

    @cached_property
    def shades(self) -> Tensor:
        """Weights minus the mean of their family, `(*output_grid, families)`."""
        # The shared kernel cancels; subtracting it last would leave only rounding errors
        # of families that are nearly tied.
        means = ops.reshape(self.sharing.means(self._template), (-1,))
        return self._without_void(self._template - means)

    @cached_property
    def means(self) -> Tensor:
        """Mean weight of each family, 0 where it has no member, `(families,)`."""
        shared = ops.reshape(self._shared, self.geometry.shared_kernel_shape)
        return ops.reshape(self.sharing.family_means(shared, self._template), (-1,))

    @cached_property
    def energies(self) -> Tensor:
        """Sum of the squared shades of each family, `(families,)`."""
        squares = ops.reshape(ops.square(self.shades), (-1, self.geometry.families))
        return totals(squares)

    @cached_property
    def variances(self) -> Tensor:
        """Mean squared shade of each family, 0 where it has no member, `(families,)`."""
        sizes = np.maximum(self.geometry.family_sizes, 1)
        return self.energies / ops.convert_to_tensor(sizes, self.energies.dtype)

    def _without_void(self, template: Tensor) -> Tensor:
        if not self.geometry.sees_padding.any():
            return template
        is_member = self.sharing.is_member()
        return ops.where(is_member, template, ops.zeros_like(template))


def structure_numbers(
    layer: BaseSoftConv, members: Members | None = None
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

    Returns:
        Dict of scalar tensors.
    """
    members = members or Members(layer)
    geometry = members.geometry
    deviations = in_full_precision(layer.deviations)
    _, off_template_mass = members.sharing.partition_sums(ABSOLUTE, deviations)
    mass = total(ops.absolute(members.weights)) + off_template_mass
    convolution, family, off_template = energies(layer, members)
    least, greatest = _range(members.variances, geometry.family_sizes > 0)
    return {
        "family_variance": family / max(geometry.template_size, 1),
        "family_variance_min": least,
        "family_variance_max": greatest,
        "off_template_mass": share(off_template_mass, mass, of_nothing=0),
        "convolution_share": share(
            convolution, convolution + family + off_template, of_nothing=1
        ),
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
    sizes = ops.convert_to_tensor(members.geometry.family_sizes, deviations.dtype)
    convolution = total(sizes * ops.square(members.means))
    _, off_template = members.sharing.partition_sums(SQUARE, deviations)
    return convolution, total(members.energies), off_template


def share(part: Tensor, whole: Tensor, of_nothing: float) -> Tensor:
    """`part / whole`, and NaN where the weights are."""
    nothing = ops.equal(whole, 0)
    return ops.where(nothing, of_nothing, part / ops.where(nothing, 1, whole))
