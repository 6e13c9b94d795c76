"""Keras's own ridge and lasso, known by their factors.

Their sums can be taken far faster than by building the tensors that a general
regularizer must be given.
"""

from collections.abc import Callable
from typing import Any

from keras_softconv.compat import keras, ops
from keras_softconv.regularizers.base import (
    Layout,
    RidgeTerm,
    StructuredRegularizer,
    absolute,
)

Tensor = Any

KNOWN = (keras.regularizers.L1, keras.regularizers.L2, keras.regularizers.L1L2)


def l1_l2_factors(regularizer: Callable | None) -> tuple[float, float] | None:
    """Factors of a regularizer known to be `l1 * sum(|x|) + l2 * sum(x ** 2)`.

    Args:
        regularizer: a Keras regularizer, any other callable, or None.

    Returns:
        `(l1, l2)` for None and Keras's `L1`, `L2` and `L1L2`; None for any other
        (a subclass too: it may mean something else) and for factors that are variables.
    """
    if regularizer is None:
        return 0.0, 0.0
    if type(regularizer) not in KNOWN:
        return None
    factors = [getattr(regularizer, name, 0.0) for name in ("l1", "l2")]
    if any(isinstance(factor, keras.Variable) for factor in factors):
        return None  # meant to change while the model trains
    # Keras keeps the factor of L1 as a tensor, that of L2 as a number.
    return tuple(float(ops.convert_to_numpy(factor)) for factor in factors)


class ElasticNet(StructuredRegularizer):
    """What `L1`, `L2` and `L1L2` are, with its proximal step.

        penalty = sum of l1 * |x| + l2 * x^2

    The step of size t is the soft threshold `sign(x) * (|x| - t * l1)_+ / (1 + 2 t l2)`.
    """

    is_elementwise = True

    def __init__(self, l1: float, l2: float) -> None:
        self.l1, self.l2 = l1, l2
        self.has_kinks = l1 > 0

    def penalty(self, weights: Tensor, layout: Layout) -> Tensor:
        return ops.sum(self.terms(weights))

    def terms(self, weights: Tensor) -> Tensor:
        """What each weight adds."""
        return self.l1 * absolute(weights) + self.l2 * ops.square(weights)

    def ridge_terms(self) -> list[RidgeTerm] | None:
        return None if self.l1 else [RidgeTerm(self.l2)]

    def gradient(self, weights: Tensor, layout: Layout) -> Tensor:
        return self.l1 * ops.sign(weights) + 2 * self.l2 * weights

    def proximal_step(self, weights: Tensor, step: Tensor, layout: Layout) -> Tensor:
        taken = ops.maximum(ops.minimum(weights, self.l1 * step), -self.l1 * step)
        return (weights - taken) / (1 + 2 * self.l2 * step)


def as_structured(regularizer: Callable | None) -> StructuredRegularizer | None:
    """A regularizer with its gradient and proximal step; None if they are not known."""
    if isinstance(regularizer, StructuredRegularizer):
        return regularizer
    factors = l1_l2_factors(regularizer)
    return None if factors is None else ElasticNet(*factors)


def in_best_form(regularizer: Callable | None) -> Callable | None:
    """`as_structured(regularizer)` if it is known, else the regularizer itself.

    Reading the factor of Keras's `L1` copies it from the device, which torch's compiler
    cannot trace. So a regularizer is brought into this form before any forward pass.
    """
    structured = as_structured(regularizer)
    return regularizer if structured is None else structured


def penalty_of(regularizer: Callable, weights: Tensor, layout: Layout) -> Tensor:
    """What a regularizer without weights of its own says, a float32 scalar.

    Keras adds up a regularizer's vector, and so does this function.

    Args:
        regularizer: in the form of `in_best_form`.
        weights: float32 tensor.
        layout: where the weights stand.
    """
    if isinstance(regularizer, StructuredRegularizer):
        return regularizer.penalty(weights, layout)
    return ops.sum(ops.cast(regularizer(weights), "float32"))


def kinks_of(regularizer: Callable | None) -> StructuredRegularizer | None:
    """The part of a regularizer that is not smooth and has a proximal step, or None."""
    structured = as_structured(regularizer)
    if structured is None or not structured.has_kinks:
        return None
    if isinstance(structured, ElasticNet):
        return ElasticNet(structured.l1, 0.0)  # the ridge is left to its gradient
    return structured
