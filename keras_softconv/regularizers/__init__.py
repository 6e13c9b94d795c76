"""Penalties on deviations and off-template weights, beside Keras's own L1 and L2.

Any object that `keras.regularizers.get` takes can serve as one.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_softconv.compat import ops
from keras_softconv.regularizers.base import Layout, RidgeTerm, StructuredRegularizer
from keras_softconv.regularizers.distance_weighted import DistanceWeighted
from keras_softconv.regularizers.elastic_net import (
    as_structured,
    in_best_form,
    kinks_of,
    l1_l2_factors,
    penalty_of,
)
from keras_softconv.regularizers.family_strengths import FamilyStrengths
from keras_softconv.regularizers.fused_ties import FusedTies
from keras_softconv.regularizers.gaussian_mixture import GaussianMixture
from keras_softconv.regularizers.gaussian_priors import DriftBasis, ridge_terms_of
from keras_softconv.regularizers.group_lasso import GroupLasso
from keras_softconv.regularizers.pairwise_l1 import PairwiseL1
from keras_softconv.regularizers.robust import Huber, StudentT
from keras_softconv.regularizers.sum_of_penalties import SumOfPenalties

__all__ = [
    "DistanceWeighted",
    "DriftBasis",
    "FamilyStrengths",
    "FusedTies",
    "GaussianMixture",
    "GroupLasso",
    "Huber",
    "Layout",
    "PairwiseL1",
    "RidgeTerm",
    "StructuredRegularizer",
    "StudentT",
    "SumOfPenalties",
    "in_best_form",
    "kinks_of",
    "l1_l2_factors",
    "penalty_of",
    "proximal_step",
    "ridge_terms_of",
]

Tensor = Any


def proximal_step(regularizer: Callable, weights: Any, step: Any) -> Tensor:
    """`argmin_z 1/2 sum((z - weights)^2 / step) + regularizer(z)`.

    Args:
        regularizer: Keras's `L1`, `L2` or `L1L2`, or one of this module that has a
            proximal step: `GroupLasso`, `Huber`, `PairwiseL1`, `StudentT`.
        weights: `(*output_grid, families)`.
        step: positive; a scalar or, but for `PairwiseL1`, one for each weight.

    Returns:
        float32 tensor of the weights' shape.

    Raises:
        ValueError: for a regularizer whose proximal step is not known, and steps that are
            not positive.

    Examples:
        >>> import keras
        >>> from keras_softconv.regularizers import proximal_step
        >>> lasso = keras.regularizers.L1(0.5)
        >>> shrunk = proximal_step(lasso, [[1.0, -0.25]], 1.0)
        >>> keras.ops.convert_to_numpy(shrunk).tolist()
        [[0.5, 0.0]]
    """
    structured = as_structured(regularizer)
    if (
        structured is None
        or type(structured).proximal_step is StructuredRegularizer.proximal_step
        or structured.state(1)
    ):
        raise ValueError(
            f"The proximal step of {regularizer!r} is not known. Expected L1, L2 or L1L2 "
            "of Keras, GroupLasso, Huber, PairwiseL1 or StudentT."
        )
    # Tensors may be about to be compiled.
    is_positive = ops.is_tensor(step) or bool(np.all(np.asarray(step) > 0))
    step = ops.convert_to_tensor(step, "float32")
    if not is_positive or (structured.restricts_steps and len(step.shape)):
        number = "number" if structured.restricts_steps else "number, or several"
        raise ValueError(
            f"`step` must be a positive {number}. Received: step={step}. Give a step "
            "size such as 0.1."
        )
    weights = ops.convert_to_tensor(weights, "float32")
    layout = Layout(tuple(range(len(weights.shape) - 1)))
    return structured.proximal_step(weights, step, layout)
