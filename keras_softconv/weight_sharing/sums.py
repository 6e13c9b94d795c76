"""Sums over millions of weights: in few passes, and right in float32."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras_softconv.compat import keras, ops
from keras_softconv.weight_sharing.gradients import with_gradient

Tensor = Any

# Of so few terms a sum is right to 1e-5 in whatever order it is taken, even where they
# are all alike and rounding always goes the same way.
BLOCK = 2**7


@dataclass(frozen=True)
class Power:
    """What is summed of each weight.

    Args:
        of: the elementwise function.
        gradient: from the weights and the upstream gradient, which is broadcast, to the
            gradient of the weights; or from the weights and their tangents to the
            tangents of the function.
    """

    of: Callable[[Tensor], Tensor]
    gradient: Callable[[Tensor, Tensor], Tensor]


ABSOLUTE = Power(ops.absolute, lambda weights, upstream: upstream * ops.sign(weights))
SQUARE = Power(ops.square, lambda weights, upstream: (2 * upstream) * weights)


def in_full_precision(weight: Any) -> Tensor:
    """A weight in float32 or better."""
    # Not by `keras.backend.result_type`, for which float64 is float32 on torch.
    dtype = keras.backend.standardize_dtype(weight.dtype)
    return ops.cast(weight, dtype if dtype == "float64" else "float32")


def row_sums(power: Power, rows: Tensor) -> Tensor:
    """Sum over each row (last axis)."""

    def sums(rows: Tensor) -> Tensor:
        return ops.sum(power.of(rows), axis=-1)

    def gradient(rows: Tensor, upstream: Tensor) -> Tensor:
        return power.gradient(rows, ops.expand_dims(upstream, -1))

    def tangent(rows: tuple[Tensor], tangents: tuple[Tensor]) -> Tensor:
        return ops.sum(power.gradient(rows[0], tangents[0]), axis=-1)

    return with_gradient(sums, gradient, rows, tangent=tangent)


def total(terms: Tensor) -> Tensor:
    """Sum of all terms of a tensor of static shape."""
    return totals(ops.reshape(terms, (-1,)))


def totals(terms: Tensor) -> Tensor:
    """Sums over the first axis of a tensor of static shape.

    XLA adds a long vector up in order on the CPU, also where it is written as a sum of
    sums: 10^8 float32 squares came out wrong by 4e-3. Sums of slices it leaves alone, so
    blocks are added up, then halves of the blocks.
    """

    def sums(terms: Tensor) -> Tensor:
        block = _largest_divisor(terms.shape[0], BLOCK)
        blocks = ops.reshape(terms, (-1, block, *terms.shape[1:]))
        return _sum_in_pairs(ops.sum(blocks, axis=1))

    def gradient(terms: Tensor, upstream: Tensor) -> Tensor:
        return ops.broadcast_to(upstream, terms.shape)

    def tangent(_: tuple[Tensor], tangents: tuple[Tensor]) -> Tensor:
        # Not in blocks: the transpose of a plain sum is a plain broadcast.
        return ops.sum(tangents[0], axis=0)

    return with_gradient(sums, gradient, terms, tangent=tangent)


def _largest_divisor(number: int, limit: int) -> int:
    divisors = range(min(number, limit), 0, -1)
    return next((divisor for divisor in divisors if number % divisor == 0), 1)


def _sum_in_pairs(terms: Tensor) -> Tensor:
    """Sum over the first axis, halves added until few are left."""
    while terms.shape[0] > 4:
        half = terms.shape[0] // 2
        pairs = terms[:half] + terms[half : 2 * half]
        is_even = 2 * half == terms.shape[0]
        terms = pairs if is_even else ops.concatenate([pairs, terms[2 * half :]])
    return ops.sum(terms, axis=0)
