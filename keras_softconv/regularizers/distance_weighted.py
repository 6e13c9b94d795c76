"""Kernels may grow a little, but not jump."""

from typing import Any

from keras_softconv.compat import keras, ops
from keras_softconv.regularizers.base import (
    Layout,
    StructuredRegularizer,
    check_factor,
    inner_regularizer,
)
from keras_softconv.regularizers.elastic_net import (
    as_structured,
    in_best_form,
    penalty_of,
)

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_softconv")
class DistanceWeighted(StructuredRegularizer):
    """An off-template penalty that grows with the distance from the receptive field.

        penalty = R(d^power * x)

    with d the input steps from the nearest tap, along the axis where they are most, as
    `halo` counts them, and at least 1 (weights between channel groups stand at 0 steps).
    `L1` grows like `d^power`, `L2` like `d^(2 power)`. For `off_template_regularizer`
    only: ties have no distance.

    Its proximal step is that of R, of size `t * d^(2 power)`, in the scaled weights.

    Args:
        regularizer: R, anything that `keras.regularizers.get` takes.
        power: how fast the penalty grows, 0 or more; with 0 it is R.

    Input shape:
        That of the layer's deviations.

    Raises:
        ValueError: without a regularizer, for a negative or infinite power, and when used
            without a layer, or as its `tie_regularizer`.
    """

    def __init__(self, regularizer: Any = "l1", power: float = 1.0) -> None:
        self.regularizer = inner_regularizer(regularizer, self)
        self.power = check_factor("power", power, self)
        self._structured = as_structured(self.regularizer)
        self._best_form = in_best_form(self.regularizer)
        for name in ("has_kinks", "is_elementwise", "restricts_steps"):
            setattr(self, name, getattr(self._structured, name, False))

    def penalty(self, weights: Tensor, layout: Layout) -> Tensor:
        scaled = weights * self._scale(layout)
        return penalty_of(self._best_form, scaled, layout)

    def gradient(self, weights: Tensor, layout: Layout) -> Tensor:
        scale = self._scale(layout)
        return scale * self._structured.gradient(weights * scale, layout)

    def proximal_step(self, weights: Tensor, step: Tensor, layout: Layout) -> Tensor:
        scale = self._scale(layout)
        steps = step * ops.square(scale)
        return self._structured.proximal_step(weights * scale, steps, layout) / scale

    def lawful_steps(self, steps: Tensor, layout: Layout) -> Tensor:
        squares = ops.square(self._scale(layout))
        return self._structured.lawful_steps(steps * squares, layout) / squares

    def check_layout(self, layout: Layout) -> None:
        if layout.distances is None:
            raise ValueError(
                "DistanceWeighted needs to know how far each weight is from its "
                "receptive field, and received weights that have no such distance. Use "
                "it as the `off_template_regularizer` of a SoftConv layer."
            )
        if isinstance(self.regularizer, StructuredRegularizer):
            self.regularizer.check_layout(layout)

    def _scale(self, layout: Layout) -> Tensor:
        self.check_layout(layout)
        return ops.power(ops.maximum(layout.distances(), 1.0), self.power)

    def get_config(self) -> dict[str, Any]:
        regularizer = keras.regularizers.serialize(self.regularizer)
        return {"regularizer": regularizer, "power": self.power}
