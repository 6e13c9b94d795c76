"""Neighbouring output positions alike: for slow drifts."""

from typing import Any

from keras_softconv.compat import keras, ops
from keras_softconv.regularizers.base import (
    Layout,
    RidgeTerm,
    StructuredRegularizer,
    check_families,
    inner_regularizer,
)
from keras_softconv.regularizers.elastic_net import as_structured, in_best_form, penalty_of

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_softconv")
class FusedTies(StructuredRegularizer):
    """A penalty on the differences between neighbouring members of a family.

        penalty = sum over axes a of the output grid of R(x[p + e_a] - x[p])

    With `R = L2` a family may drift slowly along the output grid, with `R = L1` it falls
    into regions with jumps between (total variation; Keras's gradient, no proximal step).
    Pairs with a void member are left out. The mean of a family is free, as the shared
    kernel is. On a torus (`padding="circular"` with stride 1) the last position is the
    neighbour of the first. `AdaptiveStrengths` finds the strength of `R = L2`.

    Args:
        regularizer: R, anything that `keras.regularizers.get` takes and that adds up one
            term for each number (of this package's `Huber` and `StudentT`); called once
            an axis.

    Input shape:
        `(*output_grid, families)`.

    Raises:
        ValueError: without a regularizer or with one that does not add up a term for each
            number, off the template, and for weights with fewer than two axes.

    Reference:
        Tibshirani et al., "Sparsity and smoothness via the fused lasso", JRSS B 67, 2005.
    """

    def __init__(self, regularizer: Any = "l2") -> None:
        self.regularizer = inner_regularizer(regularizer, self)
        is_ours = isinstance(self.regularizer, StructuredRegularizer)
        if is_ours and not self.regularizer.is_elementwise:
            raise ValueError(
                "`regularizer` of FusedTies must add up one term for each difference. "
                f"Received: regularizer={regularizer!r}. Give one such as "
                "`keras.regularizers.L2(0.01)`, `Huber()` or `StudentT()`."
            )
        self._best_form = in_best_form(self.regularizer)

    def check_layout(self, layout: Layout) -> None:
        if layout.distances is not None:
            raise ValueError(
                "FusedTies compares the members of families, and off the template there "
                "are none. Received: FusedTies as `off_template_regularizer`. Use it as "
                "the `tie_regularizer` of a SoftConv layer."
            )

    def penalty(self, weights: Tensor, layout: Layout) -> Tensor:
        check_families(weights, self)
        total = ops.zeros((), "float32")
        for axis in layout.position_axes:
            if weights.shape[axis] < 2:
                continue
            differences = self._differences(weights, axis, layout)
            total = total + penalty_of(self._best_form, differences, layout)
        return total

    def _differences(self, weights: Tensor, axis: int, layout: Layout) -> Tensor:
        """To the next along an axis, 0 where either is void."""
        differences = _next(weights, axis, layout) - _this(weights, axis, layout)
        mask = layout.mask(weights)
        if mask is None:
            return differences
        return differences * _next(mask, axis, layout) * _this(mask, axis, layout)

    def ridge_terms(self) -> list[RidgeTerm] | None:
        structured = as_structured(self.regularizer)
        terms = None if structured is None else structured.ridge_terms()
        return terms and [RidgeTerm(term.factor, of_differences=True) for term in terms]

    def get_config(self) -> dict[str, Any]:
        return {"regularizer": keras.regularizers.serialize(self.regularizer)}


def _next(weights: Tensor, axis: int, layout: Layout) -> Tensor:
    if layout.wraps and weights.shape[axis] > 2:  # two on a circle are neighbours once
        return ops.roll(weights, -1, axis=axis)
    return weights[(*(slice(None),) * axis, slice(1, None))]


def _this(weights: Tensor, axis: int, layout: Layout) -> Tensor:
    if layout.wraps and weights.shape[axis] > 2:
        return weights
    return weights[(*(slice(None),) * axis, slice(None, -1))]
