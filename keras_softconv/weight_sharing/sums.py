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

    def row_sums(rows: Tensor) -> Tensor:
        return ops.sum(ops.absolute(rows), axis=-1)

    def gradient(rows: Tensor, upstream: Tensor) -> Tensor:
        return ops.expand_dims(upstream, -1) * ops.sign(rows)

    return with_gradient(row_sums, gradient, rows, backends=("tensorflow", "jax"))


def square_row_sums(rows: Tensor) -> Tensor:
    """Sum of the squares of each row (last axis)."""

    def row_sums(rows: Tensor) -> Tensor:
        return ops.sum(ops.square(rows), axis=-1)

    def gradient(rows: Tensor, upstream: Tensor) -> Tensor:
        return ops.expand_dims(2 * upstream, -1) * rows

    return with_gradient(row_sums, gradient, rows, backends=("tensorflow", "jax"))


def totals(terms: Tensor) -> Tensor:
    """Sums over the first axis of a tensor of static shape.

    XLA adds a long vector up in order on the CPU, also where it is written as a sum of
    sums: 10^8 float32 squares came out wrong by 4e-3. Sums of slices, added in pairs, it
    leaves alone.
    """
    if prod(terms.shape) <= LONG_SUM:
        return ops.sum(terms, axis=0)
    return _in_pairs(terms)


def total(terms: Tensor) -> Tensor:
    """Sum of a matrix of static shape, as `totals` takes it."""
    if prod(terms.shape) <= LONG_SUM:
        return ops.sum(terms)
    return _in_pairs(ops.sum(terms, axis=1))


def _in_pairs(terms: Tensor) -> Tensor:
    while (count := terms.shape[0]) > 1:
        half = count // 2
        pairs = terms[:half] + terms[half : 2 * half]
        terms = ops.concatenate([pairs, terms[2 * half :]])
    return terms[0]
