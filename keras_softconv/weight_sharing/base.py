"""What both ways to store the deviations have in common."""

from functools import reduce
from typing import Any

import numpy as np

from keras_softconv.compat import ops
from keras_softconv.geometry import Geometry
from keras_softconv.weight_sharing.mesh import constant, on_axes
from keras_softconv.weight_sharing.sums import Power, totals

Tensor = Any


class WeightSharing:
    """Families and template within the deviations D of one `Geometry`.

    D is stored in an array of `geometry.deviations_shape`, and read as rows that run over
    the filters of one channel group, so that whole rows lie on the template or off it.
    The *members* are the rows on the template, in an order of the storage's own.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.row_length = geometry.filters // geometry.groups
        # Whether there is a member, on a mesh of the output's axes and the taps' axes.
        rank = len(geometry.output_grid)
        self._has_member = [
            constant(on_axes(has_member, (axis, rank + axis), 2 * rank))
            for axis, has_member in enumerate(geometry.has_member)
        ]

    def without_void(self, deviations: Tensor) -> Tensor:
        """The deviations with every void entry set to zero."""
        return deviations

    def members(self, deviations: Tensor) -> Tensor:
        """Template entries of the deviations, rows of `row_length`; 0 where void."""
        raise NotImplementedError

    def copies(self, shared_kernel: Tensor) -> Tensor:
        """What the members would be in a convolution, in the order of `members`."""
        raise NotImplementedError

    def template(self, deviations: Tensor) -> Tensor:
        """The template entries, by output position and family.

        Returns:
            Tensor of shape `(*output_grid, families)`, families in the raveled order
            of the Conv kernel, void members 0.
        """
        raise NotImplementedError

    def off_template(self, deviations: Tensor) -> Tensor:
        """The deviations with every template and void entry set to zero."""
        raise NotImplementedError

    def with_template(self, deviations: Tensor, template: Tensor) -> Tensor:
        """The deviations with their template entries taken from `template`.

        Args:
            deviations: the stored deviations.
            template: `(*output_grid, families)`, as `template` gives it.
        """
        raise NotImplementedError

    def is_member(self) -> Tensor:
        """Boolean tensor `(*output_grid, families)`, False where void."""
        geometry = self.geometry
        mesh = reduce(ops.logical_and, map(ops.convert_to_tensor, self._has_member))
        shape = (*geometry.output_grid, *geometry.shared_kernel_shape)
        mesh = ops.broadcast_to(mesh[..., None, None], shape)
        return ops.reshape(mesh, (*geometry.output_grid, -1))

    def distances(self) -> Tensor:
        """Steps of each weight from its receptive field, along the furthest axis.

        Returns:
            float32 tensor that broadcasts to the stored deviations; any number where void.
        """
        raise NotImplementedError

    def partition_sums(self, power: Power, deviations: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over the template and off it.

        Each row is summed first and only the short array of row sums is divided, so
        that value and gradient cost no more passes over the weights than one plain sum
        (rows of very few filters excepted), and neither part is found as a difference of
        large numbers.

        Args:
            power: `SQUARE` or `ABSOLUTE`, what is summed.
            deviations: the stored deviations.
        """
        raise NotImplementedError

    def template_sum(self, power: Power, deviations: Tensor) -> Tensor:
        """The first of `partition_sums` alone."""
        return self.partition_sums(power, deviations)[0]

    def product(self, inputs: Tensor, shared_kernel: Tensor, deviations: Tensor) -> Tensor:
        """`inputs @ (E(S) + D)`.

        Args:
            inputs: `(batch, *input_grid, in_channels)`.
            shared_kernel: S, of the Conv kernel's shape.
            deviations: D, as stored.

        Returns:
            Tensor of shape `(batch, *output_grid, filters)`.
        """
        raise NotImplementedError

    def kernel(self, shared_kernel: Tensor, deviations: Tensor) -> Tensor:
        """E(S) + D as a dense kernel, of `geometry.kernel_shape`."""
        raise NotImplementedError

    def means(self, template: Tensor) -> Tensor:
        """`(E'E)^-1 E' D`: family means, of the Conv kernel's shape (0 if no member).

        Args:
            template: the template entries of D, `(*output_grid, families)`.
        """
        geometry = self.geometry
        sums = totals(ops.reshape(template, (-1, geometry.families)))
        counts = np.maximum(geometry.family_sizes, 1)
        means = sums / ops.convert_to_tensor(counts, sums.dtype)
        return ops.reshape(means, geometry.shared_kernel_shape)

    def family_means(self, shared_kernel: Tensor, template: Tensor) -> Tensor:
        """Mean effective weights, of the Conv kernel's shape (0 if no member).

        Args:
            shared_kernel: S, of the Conv kernel's shape.
            template: the template entries of D.
        """
        has_members = self.geometry.member_counts[..., None, None] > 0
        shared = ops.where(has_members, shared_kernel, ops.zeros_like(shared_kernel))
        return shared + self.means(template)

    def off_template_by_position(self, power: Power, deviations: Tensor) -> Tensor:
        """The second of `partition_sums` for each output position, `(*output_grid)`."""
        raise NotImplementedError

    def incoming(self, deviations: Tensor, position: tuple[int, ...]) -> np.ndarray:
        """Deviations that lead to one output position.

        Returns:
            Array of shape `(*input_grid, in_channels, filters)`, NaN beyond the halo.
        """
        raise NotImplementedError
