"""A prior that is learned with the weights."""

from math import log, pi
from typing import Any

import numpy as np

from keras_softconv.compat import keras, ops
from keras_softconv.regularizers.base import (
    Layout,
    State,
    StructuredRegularizer,
    check_factor,
    check_families,
    check_positive,
)

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_softconv")
class GaussianMixture(StructuredRegularizer):
    """Nowlan and Hinton's soft weight sharing.

        penalty = -factor * sum_i log sum_j pi_j N(x_i; mu_j, var_j)
        pi = softmax(logits),   var = minimum_variance + exp(log_variances)

    The mixture is trained with the weights and saved with the layer, in `..._logits`,
    `..._means` and `..._log_variances` of shape `(1, components)` or, per family,
    `(families, components)`; kernel, biases and off-template weights have one each. Means
    begin evenly spaced from `-spread` to `spread` (one component: at 0), standard
    deviations at the spacing (one component: at `spread`), proportions equal. The sum is
    taken by log-sum-exp. Without the minimum variance the penalty had no lower bound; with
    the constant of the densities it may be negative. Void members are left out.

    On the deviations of ties the components are shades around the shared kernel. Called
    without a layer, the mixture is the one that training begins with.

    Args:
        factor: the strength, 0 or more. Against a sum of squared errors over twice their
            variance, 1 is the prior itself.
        components: how many, at least 1; ten times as many weights are advisable.
        spread: about the size of the largest weights, above 0.
        per_family: a mixture for each family instead of one for all.
        minimum_variance: above 0.

    Input shape:
        `(*output_grid, families)`.

    Raises:
        ValueError: for numbers out of range, or weights with fewer than two axes.

    Reference:
        Nowlan and Hinton, "Simplifying neural networks by soft weight-sharing", Neural
        Computation 4, 1992, section 3.
    """

    def __init__(
        self,
        factor: float = 1e-3,
        components: int = 3,
        spread: float = 0.3,
        per_family: bool = False,
        minimum_variance: float = 1e-4,
    ) -> None:
        self.factor = check_factor("factor", factor, self)
        count = check_positive("components", components, self)
        if count != int(count):
            raise ValueError(
                "`components` of GaussianMixture must be a whole number. Received: "
                f"components={components!r}. Give a number such as 3."
            )
        self.components = int(count)
        self.spread = check_positive("spread", spread, self)
        self.per_family = bool(per_family)
        self.minimum_variance = check_positive("minimum_variance", minimum_variance, self)

    def state(self, families: int) -> dict[str, State]:
        shape = (families if self.per_family else 1, self.components)
        means, width = np.zeros(1), self.spread
        if self.components > 1:
            means = np.linspace(-self.spread, self.spread, self.components)
            width = means[1] - means[0]
        log_variance = log(max(width**2 - self.minimum_variance, self.minimum_variance))
        begin = {
            "logits": np.zeros(self.components),
            "means": means,
            "log_variances": np.full(self.components, log_variance),
        }
        return {
            name: State(shape, _Rows(values.tolist())) for name, values in begin.items()
        }

    def penalty(
        self,
        weights: Tensor,
        layout: Layout,
        logits: Tensor,
        means: Tensor,
        log_variances: Tensor,
    ) -> Tensor:
        check_families(weights, self)
        # With few axes: TensorFlow selects along 8 at most, and a volume's kernel has 8.
        rows = ops.reshape(weights, (-1, weights.shape[-1], 1))
        distance = rows - means  # [rows, families, components]
        variances = self.minimum_variance + ops.exp(log_variances)
        exponents = (
            ops.log_softmax(logits, axis=-1)
            - ops.square(distance) / (2 * variances)
            - ops.log(variances) / 2
        )
        densities = ops.logsumexp(exponents, axis=-1) - log(2 * pi) / 2
        mask = layout.mask(weights)
        if mask is not None:
            densities = densities * ops.reshape(mask, (-1, weights.shape[-1]))
        return -self.factor * ops.sum(densities)

    def get_config(self) -> dict[str, Any]:
        return {
            "factor": self.factor,
            "components": self.components,
            "spread": self.spread,
            "per_family": self.per_family,
            "minimum_variance": self.minimum_variance,
        }


class _Rows(keras.initializers.Initializer):
    """The same row over and over."""

    def __init__(self, row: list[float]) -> None:
        self.row = row

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        return ops.zeros(shape, dtype) + ops.convert_to_tensor(self.row, dtype)

    def get_config(self) -> dict[str, Any]:
        return {"row": self.row}
