"""Several shades within a family."""

from collections.abc import Callable
from math import prod
from typing import Any

from keras_softconv.compat import keras, ops
from keras_softconv.regularizers.base import (
    Layout,
    Shape,
    StructuredRegularizer,
    check_factor,
    check_families,
)

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_softconv")
class PairwiseL1(StructuredRegularizer):
    """Absolute differences of all pairs of members: a family may fall into shades.

        penalty = factor * sum_f sum_{i < j in f} |x_i - x_j|
                = factor * sum_f sum_i (2 i - n - 1) x_(i)

    with `x_(1) <= ... <= x_(n)` the members of family f in order. Value and gradient take
    one sort, O(n log n); members that are equal share the mean of their gradients, so that
    it is 0 where all are equal. Void members are left out. A pair counts however large
    the family is: to keep the strength per member, divide the factor by n - 1.

    Its proximal step of size t sorts the members, takes `t * factor * (2 i - n - 1)` from
    the i-th and makes the result ascend again (isotonic regression, by pooling all
    neighbours in the wrong order until there are none). It needs one step size per family.

    Args:
        factor: the strength, 0 or more.

    Input shape:
        `(*output_grid, families)`.

    Raises:
        ValueError: for a negative or infinite factor, or weights with fewer than two axes.

    Reference:
        She, "Sparse regression with exact clustering", Electronic Journal of Statistics 4,
        2010; with the proximal step of Lin et al., "Efficient algorithms for solving
        clustered lasso problems", Mathematical Programming Computation 2019.
    """

    has_kinks = True
    restricts_steps = True

    def __init__(self, factor: float = 0.01) -> None:
        self.factor = check_factor("factor", factor, self)

    def penalty(self, weights: Tensor, layout: Layout) -> Tensor:
        # Linear in the weights as long as their order stays.
        fixed = ops.stop_gradient(weights)
        # Whatever a family has in common cancels; taken out first, it leaves no rounding.
        common = ops.mean(fixed, axis=layout.position_axes, keepdims=True)
        return ops.sum(self.gradient(fixed, layout) * (weights - common))

    def gradient(self, weights: Tensor, layout: Layout) -> Tensor:
        def order_of(members: Tensor, is_member: Tensor) -> Tensor:
            begins = ops.logical_or(_first(members), members > _shifted(members))
            return _middles(_coefficients(is_member), begins)

        return self.factor * self._in_order(weights, layout, order_of)

    def proximal_step(self, weights: Tensor, step: Tensor, layout: Layout) -> Tensor:
        step = self._by_family(ops.broadcast_to(step, ops.shape(weights)), layout)
        step = ops.max(step, axis=0, keepdims=True)  # that of void members may be 0

        def pool(members: Tensor, is_member: Tensor) -> Tensor:
            coefficients = _coefficients(is_member)

            def fit(begins: Tensor) -> Tensor:
                # Each mean by itself: beside a large step the members would drown.
                taken = self.factor * step * _middles(coefficients, begins)
                return _means(members, begins) - taken

            return _isotonic(fit, members.shape)

        return self._in_order(weights, layout, pool)

    def lawful_steps(self, steps: Tensor, layout: Layout) -> Tensor:
        mask = layout.mask(steps)
        of_members = steps if mask is None else ops.where(mask > 0, steps, float("inf"))
        least = ops.min(of_members, axis=layout.position_axes, keepdims=True)
        least = ops.broadcast_to(least, ops.shape(steps))
        return least if mask is None else ops.where(mask > 0, least, 0.0)

    def _by_family(self, weights: Tensor, layout: Layout) -> Tensor:
        """`(members, families)`, the positions' axes first."""
        check_families(weights, self)
        axes = layout.position_axes
        positions = prod(weights.shape[axis] for axis in axes)
        front = ops.moveaxis(weights, axes, tuple(range(len(axes))))
        return ops.reshape(front, (positions, -1))

    def _in_order(self, weights: Tensor, layout: Layout, what: Callable) -> Tensor:
        """`what` of the ascending members of each family, put back where they belong."""
        members = self._by_family(weights, layout)
        mask = layout.mask(weights)
        is_member = ops.ones_like(members, "bool")
        if mask is not None:
            is_member = self._by_family(mask, layout) > 0
        members = ops.where(is_member, members, float("inf"))  # void ones come last
        order = ops.argsort(members, axis=0)
        members = ops.take_along_axis(members, order, axis=0)
        is_member = ops.take_along_axis(is_member, order, axis=0)
        result = ops.where(is_member, what(members, is_member), 0.0)
        result = ops.take_along_axis(result, ops.argsort(order, axis=0), axis=0)
        axes = layout.position_axes
        rest = [s for axis, s in enumerate(weights.shape) if axis not in axes]
        front = (*(weights.shape[axis] for axis in axes), *rest)
        return ops.moveaxis(ops.reshape(result, front), tuple(range(len(axes))), axes)

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor}


# Columns in order, `(members, families)`. A run is a stretch of a column.


def _coefficients(is_member: Tensor) -> Tensor:
    """`2 i - n - 1` of the i-th member of n."""
    is_member = ops.cast(is_member, "float32")
    place = ops.cumsum(is_member, axis=0)
    return 2 * place - ops.sum(is_member, axis=0, keepdims=True) - 1


def _first(columns: Tensor) -> Tensor:
    """True in the first row."""
    row = ops.arange(columns.shape[0], dtype="int32")[:, None]
    return ops.broadcast_to(ops.equal(row, 0), columns.shape)


def _shifted(columns: Tensor) -> Tensor:
    """The row above each; the first one stays."""
    return ops.concatenate([columns[:1], columns[:-1]], axis=0)


def _runs(begins: Tensor) -> Tensor:
    """The number of the run that each entry lies in, flat."""
    families = begins.shape[1]
    run = ops.cumsum(ops.cast(begins, "int32"), axis=0) - 1
    run = run * families + ops.arange(families, dtype="int32")
    return ops.reshape(run, (-1,))


def _means(columns: Tensor, begins: Tensor) -> Tensor:
    """The mean of the run that each entry lies in, all of a run to the last bit alike."""
    run, flat = _runs(begins), ops.reshape(columns, (-1,))
    sums = ops.segment_sum(flat, run, num_segments=flat.shape[0])
    sizes = ops.segment_sum(ops.ones_like(flat), run, num_segments=flat.shape[0])
    means = sums / ops.maximum(sizes, 1)
    return ops.reshape(ops.take(means, run), columns.shape)


def _middles(columns: Tensor, begins: Tensor) -> Tensor:
    """The same of columns that ascend by even steps, without rounding."""
    run, flat = _runs(begins), ops.reshape(columns, (-1,))
    last, first = (
        sign * ops.segment_max(sign * flat, run, num_segments=flat.shape[0])
        for sign in (1, -1)
    )
    return ops.reshape(ops.take((first + last) / 2, run), columns.shape)


def _isotonic(fit: Callable, shape: Shape) -> Tensor:
    """`fit` of the runs for which it ascends, from runs of one entry each.

    Neighbouring runs in the wrong order have the same value in the solution, so all of
    them may be pooled at once (pool adjacent violators, many at a time).

    Args:
        fit: from where runs begin to the value of each entry, the best of its run.
        shape: of the columns.
    """

    def descends(values: Tensor) -> Tensor:
        return _shifted(values) > values

    def is_not_done(begins: Tensor, values: Tensor) -> Tensor:
        return ops.any(descends(values))

    def pool(begins: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        begins = ops.logical_and(begins, ops.logical_not(descends(values)))
        return begins, fit(begins)

    begins = ops.ones(shape, "bool")
    return ops.while_loop(is_not_done, pool, (begins, fit(begins)))[1]
