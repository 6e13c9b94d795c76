"""Several penalties at one place, each with a strength of its own."""

from typing import Any

from keras_softconv.compat import keras, ops
from keras_softconv.regularizers.base import (
    Layout,
    RidgeTerm,
    State,
    StructuredRegularizer,
    inner_regularizer,
)
from keras_softconv.regularizers.elastic_net import as_structured, in_best_form, penalty_of

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_softconv")
class SumOfPenalties(StructuredRegularizer):
    """A sum of penalties, such as a ridge and fused ties.

        penalty = sum_t term_strength_t * R_t(weights)

    The strengths are weights of the layer, `tie_term_strengths` and, for the biases,
    `bias_tie_term_strengths` (off the template `off_template_term_strengths`): 1 at first,
    not trained, saved. They multiply the layer's own strength. `AdaptiveStrengths` finds
    them from the data if each R is `L2` or `FusedTies(L2(...))`.

    There is no proximal step: optimizers take every R by its gradient.

    Args:
        regularizers: a list of two or more, each anything that `keras.regularizers.get`
            takes and that has no weights of its own.

    Input shape:
        What all of them take.

    Raises:
        ValueError: for anything but a list of two or more regularizers, and for one that
            has weights of its own.

    Examples:
        >>> import keras
        >>> from keras_softconv.regularizers import FusedTies, SumOfPenalties
        >>> l2 = keras.regularizers.L2
        >>> penalty = SumOfPenalties([l2(0.01), FusedTies(l2(0.1))])
        >>> round(float(penalty([[1.0], [2.0]])), 6)  # 0.01 * 5 + 0.1 * 1
        0.15
    """

    def __init__(self, regularizers: Any) -> None:
        if not isinstance(regularizers, (list, tuple)) or len(regularizers) < 2:
            raise ValueError(
                "`regularizers` of SumOfPenalties must be a list of two or more "
                f"regularizers. Received: regularizers={regularizers!r}. Give one such as "
                "`[keras.regularizers.L2(0.01), FusedTies('l2')]`."
            )
        self.regularizers = [inner_regularizer(one, self) for one in regularizers]
        self._best_forms = [in_best_form(one) for one in self.regularizers]

    def check_layout(self, layout: Layout) -> None:
        for regularizer in self.regularizers:
            if isinstance(regularizer, StructuredRegularizer):
                regularizer.check_layout(layout)

    def state(self, families: int) -> dict[str, State]:
        ones = keras.initializers.Ones()
        return {"term_strengths": State((len(self.regularizers),), ones, trainable=False)}

    def penalty(self, weights: Tensor, layout: Layout, term_strengths: Tensor) -> Tensor:
        terms = [penalty_of(one, weights, layout) for one in self._best_forms]
        return ops.sum(term_strengths * ops.stack(terms))

    def ridge_terms(self) -> list[RidgeTerm] | None:
        terms = []
        for regularizer in self.regularizers:
            structured = as_structured(regularizer)
            found = None if structured is None else structured.ridge_terms()
            if found is None:
                return None
            terms += found
        return terms

    def get_config(self) -> dict[str, Any]:
        serialize = keras.regularizers.serialize
        return {"regularizers": [serialize(one) for one in self.regularizers]}
