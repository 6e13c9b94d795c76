"""Whole groups of weights are zero, or none of them is."""

from typing import Any

from keras_softconv.compat import keras, ops
from keras_softconv.regularizers.base import (
    Layout,
    StructuredRegularizer,
    check_factor,
    check_families,
    safe_norm,
)

Tensor = Any

# Newton's method for the norm of a group comes from below and is done in fewer.
NEWTON_STEPS = 30


@keras.saving.register_keras_serializable(package="keras_softconv")
class GroupLasso(StructuredRegularizer):
    """`factor * sum over groups of ||group||`: a group leaves as a whole or not at all.

        penalty = factor * sum_g sqrt(sum_{i in g} x_i^2)

    With `per="family"` a whole family ties exactly, or all of it is loose; with
    `per="position"` a whole output position leaves its families or stays with them. Off
    the template the groups are all positions of one input (or slot of a halo), channel
    and filter, or all off-template weights of one output position. Void members are 0
    and change nothing.

    Its proximal step of size t is the group soft threshold,
    `(1 - t * factor / ||x_g||)_+ x_g`; where the sizes differ within a group, z_g with
    `z_i = x_i r / (r + t_i * factor)` and r its norm, found by Newton's method.

    Args:
        factor: the strength, 0 or more.
        per: `"family"` or `"position"`.

    Input shape:
        `(*output_grid, families)`.

    Raises:
        ValueError: for a negative or infinite factor, another `per`, or weights with
            fewer than two axes.

    Reference:
        Yuan and Lin, "Model selection and estimation in regression with grouped
        variables", JRSS B 68, 2006, without their factor for the size of the group.
    """

    has_kinks = True

    def __init__(self, factor: float = 0.01, per: str = "family") -> None:
        self.factor = check_factor("factor", factor, self)
        if per not in ("family", "position"):
            raise ValueError(
                "`per` of GroupLasso must be 'family' or 'position'. Received: "
                f"per={per!r}. Use 'family' to tie whole families, 'position' to let "
                "whole output positions leave theirs."
            )
        self.per = per

    def penalty(self, weights: Tensor, layout: Layout) -> Tensor:
        axes = self._axes(weights, layout)
        return self.factor * ops.sum(safe_norm(weights, axes))

    def gradient(self, weights: Tensor, layout: Layout) -> Tensor:
        norms = safe_norm(weights, self._axes(weights, layout))
        return self.factor * weights / ops.where(ops.equal(norms, 0), 1.0, norms)

    def proximal_step(self, weights: Tensor, step: Tensor, layout: Layout) -> Tensor:
        axes = self._axes(weights, layout)
        threshold = ops.broadcast_to(self.factor * step, ops.shape(weights))
        norms = _norms_after(weights, threshold, axes)
        positive = ops.where(norms > 0, norms + threshold, 1.0)
        return ops.where(norms > 0, weights * (norms / positive), 0.0)

    def _axes(self, weights: Tensor, layout: Layout) -> tuple[int, ...]:
        """Axes along which a group extends."""
        check_families(weights, self)
        if self.per == "family":
            return layout.position_axes
        every = range(len(weights.shape))
        return tuple(axis for axis in every if axis not in layout.position_axes)

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor, "per": self.per}


def _norms_after(weights: Tensor, threshold: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The root r of `sum_i (x_i / (r + threshold_i))^2 = 1` of each group, 0 if none.

    `1 / sqrt(sum)` is concave in r and linear where the thresholds are all alike, so that
    Newton's method for it climbs to the root, or is there after one step.
    """
    weights, threshold = map(ops.stop_gradient, (weights, threshold))

    def sum_of(terms: Tensor) -> Tensor:
        return ops.sum(terms, axis=axes, keepdims=True)

    def newton(_: Tensor, norms: Tensor) -> Tensor:
        shrunk = norms + threshold
        shrunk = ops.where(shrunk > 0, shrunk, 1.0)
        squares = ops.square(weights / shrunk)
        total, slope = sum_of(squares), sum_of(squares / shrunk)
        slope = ops.where(slope > 0, slope, 1.0)
        return ops.maximum(norms + (ops.sqrt(total) - 1) * total / slope, 0.0)

    # Without thresholds the norm does not change; else none is longer than it was.
    norms = safe_norm(weights, axes)
    largest = ops.max(threshold, axis=axes, keepdims=True)
    begin = ops.maximum(norms - largest, 0.0)
    return ops.fori_loop(0, NEWTON_STEPS, newton, begin)
