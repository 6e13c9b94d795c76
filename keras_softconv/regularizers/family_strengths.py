"""A strength for each family."""

from typing import Any

from keras_softconv.compat import keras, ops
from keras_softconv.regularizers.base import (
    Layout,
    RidgeTerm,
    State,
    StructuredRegularizer,
    check_families,
)
from keras_softconv.regularizers.elastic_net import ElasticNet, l1_l2_factors

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_softconv")
class FamilyStrengths(StructuredRegularizer):
    """Ridge or lasso with a strength for each family.

        penalty = sum_f strength_f * sum_{i in f} (l1 * |x_i| + l2 * x_i^2)

    The strengths are weights of the layer, `tie_family_strengths` and, for the biases,
    `bias_tie_family_strengths`: 1 at first, not trained, saved. They multiply
    `tie_strength`. `AdaptiveStrengths` finds them from the data.

    Args:
        regularizer: Keras's `L1`, `L2` or `L1L2`, or its name.

    Input shape:
        `(*output_grid, families)`.

    Raises:
        ValueError: for another regularizer, or weights with fewer than two axes.
    """

    def __init__(self, regularizer: Any = "l2") -> None:
        self.regularizer = keras.regularizers.get(regularizer)
        self.factors = l1_l2_factors(self.regularizer)
        if self.regularizer is None or self.factors is None:
            raise ValueError(
                "`regularizer` of FamilyStrengths must be Keras's own L1, L2 or L1L2. "
                f"Received: regularizer={regularizer!r}. Give one such as "
                "`keras.regularizers.L2(0.01)`."
            )
        self._elastic = ElasticNet(*self.factors)
        self.has_kinks = self._elastic.has_kinks

    def state(self, families: int) -> dict[str, State]:
        ones = keras.initializers.Ones()
        return {"family_strengths": State((families,), ones, trainable=False)}

    def penalty(self, weights: Tensor, layout: Layout, family_strengths: Tensor) -> Tensor:
        check_families(weights, self)
        return ops.sum(family_strengths * self._elastic.terms(weights))

    def ridge_terms(self) -> list[RidgeTerm] | None:
        return self._elastic.ridge_terms()

    def gradient(self, weights: Tensor, layout: Layout, family_strengths: Tensor) -> Tensor:
        return family_strengths * self._elastic.gradient(weights, layout)

    def proximal_step(
        self, weights: Tensor, step: Tensor, layout: Layout, family_strengths: Tensor
    ) -> Tensor:
        return self._elastic.proximal_step(weights, step * family_strengths, layout)

    def get_config(self) -> dict[str, Any]:
        return {"regularizer": keras.regularizers.serialize(self.regularizer)}
