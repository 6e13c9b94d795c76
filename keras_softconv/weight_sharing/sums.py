"""Sums over millions of weights: in few passes, and right in float32."""

from math import prod
from typing import Any

from keras import ops

from keras_softconv.weight_sharing.gradients import with_gradient

Tensor = Any

# Sums of fewer terms are right in whatever order they are taken.
LONG_SUM = 2**20


def absolute_row_sums(rows: Tensor) -> Tensor:
    """Sum of the absolute values of each row (last axis)."""

    def gradient(rows: Tensor, upstream: Tensor) -> Tensor:
        return ops.expand_dims(upstream, -1) * ops.sign(rows)

    return with_gradient(lambda x: ops.sum(ops.absolute(x), axis=-1), gradient, rows)


def square_row_sums(rows: Tensor) -> Tensor:
    """Sum of the squares of each row (last axis)."""

    def gradient(rows: Tensor, upstream: Tensor) -> Tensor:
        return ops.expand_dims(2 * upstream, -1) * rows

    return with_gradient(lambda x: ops.sum(ops.square(x), axis=-1), gradient, rows)


def total(terms: Tensor) -> Tensor:
    """Sum of a tensor of static shape, of at least two axes if it is large.

    XLA adds a long vector up in order on the CPU, also where it is written as a sum of
    sums: 10^8 float32 squares came out wrong by 4e-3. Sums of slices, added in pairs, it
    leaves alone.
    """
    if prod(terms.shape) <= LONG_SUM:
        return ops.sum(terms)
    sums = ops.sum(terms, axis=tuple(range(1, len(terms.shape))))
    while (count := sums.shape[0]) > 1:
        half = count // 2
        pairs = sums[:half] + sums[half : 2 * half]
        sums = ops.concatenate([pairs, sums[2 * half :]])
    return sums[0]
