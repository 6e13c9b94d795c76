"""Ridges as Gaussian priors: what is squared, and which strength multiplies it."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from keras_softconv.compat import ops
from keras_softconv.regularizers.base import Layout, RidgeTerm
from keras_softconv.regularizers.elastic_net import as_structured

Tensor = Any
Shape = tuple[int, ...]


def ridge_terms_of(regularizer: Callable | None) -> list[RidgeTerm] | None:
    """The ridges that a regularizer adds up; None if it is anything else than ridges.

    Args:
        regularizer: a Keras regularizer, any other callable, or None, which has no terms.
    """
    if regularizer is None:
        return []
    structured = as_structured(regularizer)
    terms = None if structured is None else structured.ridge_terms()
    if not terms or not all(term.factor > 0 for term in terms):
        return None
    return terms


class DriftBasis:
    """An orthogonal basis in which the squared differences of neighbours are a diagonal.

        sum over axes a of (x[p + e_a] - x[p])^2 = sum_k eigenvalue_k * coefficient_k^2

    for each family, with the pairs of `FusedTies`. The members of a family fill a rectangle
    of the output grid, whose Laplacian is a sum over axes: its eigenvectors are products of
    those of a path (cosines) or, on a torus, of a circle. They are found numerically.

    Args:
        layout: where the weights stand.
        shape: of the weights, `(*output_grid, families)`.
    """

    def __init__(self, layout: Layout, shape: Shape) -> None:
        self._rank = len(layout.position_axes)
        presence = _presence(layout, shape)
        patterns, pattern_of = np.unique(
            np.concatenate(presence), axis=1, return_inverse=True
        )
        ends = np.cumsum(shape[: self._rank])[:-1]
        # For each set of families whose members are at the same positions: which families
        # they are, and the eigenvectors along each axis.
        self._parts = []
        eigenvalues = []
        for number, pattern in enumerate(patterns.T):
            families = np.flatnonzero(np.ravel(pattern_of) == number).astype("int32")
            axes = [_eigen(of_axis, layout.wraps) for of_axis in np.split(pattern, ends)]
            self._parts.append((families, [vectors for _, vectors in axes]))
            values = reduce(np.add.outer, [values for values, _ in axes])
            eigenvalues.append(np.repeat(values.ravel(), len(families)))
        self.eigenvalues = np.concatenate(eigenvalues)

    def coefficients(self, weights: Tensor) -> Tensor:
        """Flat coefficients of the weights, in the order of the eigenvalues."""
        found = []
        for families, axes in self._parts:
            part = ops.take(weights, families, axis=self._rank)
            for axis, vectors in enumerate(axes):
                vectors = ops.convert_to_tensor(vectors.astype("float32"))
                part = ops.matmul(ops.moveaxis(part, axis, -1), vectors)
                part = ops.moveaxis(part, -1, axis)
            found.append(ops.reshape(part, (-1,)))
        return ops.concatenate(found)


def _presence(layout: Layout, shape: Shape) -> list[np.ndarray]:
    """For each axis of the output grid, `(positions, families)`: where members are."""
    rank = len(layout.position_axes)
    if layout.is_weight is None:
        return [np.ones((size, shape[-1]), bool) for size in shape[:rank]]
    mask = np.broadcast_to(ops.convert_to_numpy(layout.is_weight()), shape)
    others = (tuple(set(range(rank)) - {axis}) for axis in range(rank))
    return [mask.any(axis=axes) for axes in others]


def _eigen(presence: np.ndarray, wraps: bool) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of the Laplacian along one axis, and eigenvectors as columns.

    Args:
        presence: `(positions,)`, where there is a member.
        wraps: whether the last position is the neighbour of the first.
    """
    size = len(presence)
    identity = np.eye(size)
    differences = identity[1:] - identity[:-1]
    if wraps and size > 2:  # two on a circle are neighbours once
        differences = np.roll(identity, -1, axis=0) - identity
    is_pair = (differences[:, ~presence] == 0).all(axis=1)
    differences = differences[is_pair][:, presence]
    values, vectors = np.linalg.eigh(differences.T @ differences)
    # The mean of each stretch of neighbours costs nothing, whatever the rounding says.
    values = np.where(values < 1e-9, 0.0, values)
    of_all = np.zeros((size, len(values)))
    of_all[presence] = vectors
    return values, of_all
