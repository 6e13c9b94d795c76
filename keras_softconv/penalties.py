"""What the regularizers say of the deviations of one kernel."""

from collections.abc import Callable
from functools import reduce
from typing import Any

from keras import ops

from keras_softconv.regularizers import l1_l2_factors
from keras_softconv.weight_sharing import (
    ABSOLUTE,
    SQUARE,
    WeightSharing,
)

Tensor = Any


def kernel_penalties(
    weight_sharing: WeightSharing,
    tie_regularizer: Callable | None,
    off_template_regularizer: Callable | None,
    deviations: Tensor,
) -> tuple[Tensor, Tensor]:
    """`R_tie` of the deviations on the template and `R_off` of those off it.

    Keras's `L1`, `L2` and `L1L2` are taken from sums over the rows of the kernel, at the
    cost of one plain sum over the kernel for each power that occurs. Any other
    regularizer is called with the tensor that it is promised.

    Args:
        weight_sharing: says where the template is.
        tie_regularizer: called with `(*output_grid, families)`; or None.
        off_template_regularizer: called with the deviations, 0 on the template and
            where void; or None.
        deviations: float32 tensor, as stored.

    Returns:
        Two float32 scalars, without strengths.
    """
    factors = [l1_l2_factors(r) for r in (tie_regularizer, off_template_regularizer)]
    ties, off_templates = [], []
    for number, power in enumerate((ABSOLUTE, SQUARE)):
        tie, off_template = (pair[number] if pair else 0.0 for pair in factors)
        if off_template:
            sums = weight_sharing.partition_sums(power, deviations)
            off_templates.append(off_template * sums[1])
            ties += [tie * sums[0]] if tie else []
        elif tie:
            ties.append(tie * weight_sharing.template_sum(power, deviations))
    if factors[0] is None:
        ties.append(penalty(tie_regularizer, weight_sharing.template(deviations)))
    if factors[1] is None:
        off_template = weight_sharing.off_template(deviations)
        off_templates.append(penalty(off_template_regularizer, off_template))
    return _sum(ties), _sum(off_templates)


def _sum(terms: list[Tensor]) -> Tensor:
    return reduce(ops.add, terms) if terms else ops.zeros((), "float32")


def penalty(regularizer: Callable | None, deviations: Tensor) -> Tensor:
    """`regularizer(deviations)` as a float32 scalar, 0 without a regularizer.

    Keras adds up a regularizer's vector; so is it done here.
    """
    if regularizer is None:
        return ops.zeros((), "float32")
    return ops.sum(ops.cast(regularizer(deviations), "float32"))
