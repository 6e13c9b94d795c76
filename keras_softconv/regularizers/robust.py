"""Penalties that let a problem child go: they grow slowly far from zero."""

from typing import Any

from keras_softconv.compat import keras, ops
from keras_softconv.regularizers.base import (
    Layout,
    StructuredRegularizer,
    check_factor,
    check_positive,
)

Tensor = Any

REWEIGHTINGS = 100


@keras.saving.register_keras_serializable(package="keras_softconv")
class Huber(StructuredRegularizer):
    """Ridge-like up to `delta`, lasso-like beyond.

        penalty = factor * sum of x^2 / 2                       where |x| <= delta
                                  delta * (|x| - delta / 2)     beyond

    Smooth, so that every optimizer takes it; nothing becomes exactly zero. Its proximal
    step of size t is `x / (1 + t * factor)` up to `delta * (1 + t * factor)` and
    `x - t * factor * delta * sign(x)` beyond.

    Args:
        factor: the strength, 0 or more.
        delta: where the lasso begins, above 0. `L2(factor / 2)` is its limit of a large
            delta.

    Input shape:
        Any.

    Raises:
        ValueError: for numbers that are negative, infinite or, for `delta`, 0.

    Reference:
        Huber, "Robust estimation of a location parameter", Annals of Mathematical
        Statistics 35, 1964.
    """

    is_elementwise = True

    def __init__(self, factor: float = 0.01, delta: float = 0.1) -> None:
        self.factor = check_factor("factor", factor, self)
        self.delta = check_positive("delta", delta, self)

    def penalty(self, weights: Tensor, layout: Layout) -> Tensor:
        ridge = ops.minimum(ops.absolute(weights), self.delta)
        lasso = ops.absolute(weights) - ridge
        return self.factor * ops.sum(ops.square(ridge) / 2 + self.delta * lasso)

    def gradient(self, weights: Tensor, layout: Layout) -> Tensor:
        return self.factor * ops.clip(weights, -self.delta, self.delta)

    def proximal_step(self, weights: Tensor, step: Tensor, layout: Layout) -> Tensor:
        shrunk = weights / (1 + self.factor * step)
        return weights - self.factor * step * ops.clip(shrunk, -self.delta, self.delta)

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor, "delta": self.delta}


@keras.saving.register_keras_serializable(package="keras_softconv")
class StudentT(StructuredRegularizer):
    """The negative logarithm of Student's t density: a problem child costs hardly more.

        penalty = factor * sum of (nu + 1) / 2 * log(1 + x^2 / (nu * scale^2))

    with nu the degrees of freedom; without the constant, so that 0 costs nothing. Smooth,
    ridge-like `factor * (nu + 1) / (2 nu scale^2) * x^2` near zero, and not convex: its
    pull is greatest at `scale * sqrt(nu)` and fades beyond. What it ends with may depend
    on where training began.

    Its proximal step is the real root of a cubic equation,
    `z = x - t * factor * (nu + 1) * z / (nu * scale^2 + z^2)`, that has the least
    objective of up to three.

    Args:
        factor: the strength, 0 or more. Against a sum of squared errors over twice their
            variance, 1 is the prior itself.
        scale: about the size of usual deviations, above 0.
        degrees_of_freedom: nu, above 0. The fewer, the freer a problem child; with very
            many it is the ridge `L2(factor / (2 * scale**2))`.

    Input shape:
        Any.

    Raises:
        ValueError: for numbers that are negative, infinite or, but for `factor`, 0.

    Reference:
        Lange, Little and Taylor, "Robust statistical modeling using the t distribution",
        JASA 84, 1989.
    """

    is_elementwise = True

    def __init__(
        self, factor: float = 0.01, scale: float = 0.1, degrees_of_freedom: float = 3.0
    ) -> None:
        self.factor = check_factor("factor", factor, self)
        self.scale = check_positive("scale", scale, self)
        self.degrees_of_freedom = check_positive(
            "degrees_of_freedom", degrees_of_freedom, self
        )

    @property
    def _width(self) -> float:
        """The square of where the pull is greatest."""
        return self.degrees_of_freedom * self.scale**2

    def penalty(self, weights: Tensor, layout: Layout) -> Tensor:
        return ops.sum(self._terms(weights))

    def _terms(self, weights: Tensor) -> Tensor:
        power = self.factor * (self.degrees_of_freedom + 1) / 2
        return power * ops.log1p(ops.square(weights) / self._width)

    def gradient(self, weights: Tensor, layout: Layout) -> Tensor:
        power = self.factor * (self.degrees_of_freedom + 1)
        return power * weights / (self._width + ops.square(weights))

    def proximal_step(self, weights: Tensor, step: Tensor, layout: Layout) -> Tensor:
        # From either end the iteration climbs or falls to the nearest root, and the
        # objective falls all the way (Lange, Little and Taylor's reweighting).
        size = ops.absolute(weights)
        roots = [self._root(size, step, begin) for begin in (ops.zeros_like(size), size)]
        costs = [self._terms(z) + ops.square(z - size) / (2 * step) for z in roots]
        return ops.sign(weights) * ops.where(costs[0] <= costs[1], *roots)

    def _root(self, size: Tensor, step: Tensor, begin: Tensor) -> Tensor:
        """A fixed point of `z = size - step * gradient(z)`."""
        pull = step * self.factor * (self.degrees_of_freedom + 1)

        def reweight(_: Tensor, z: Tensor) -> Tensor:
            width = self._width + ops.square(z)
            return size * width / (width + pull)

        return ops.fori_loop(0, REWEIGHTINGS, reweight, begin)

    def get_config(self) -> dict[str, Any]:
        return {
            "factor": self.factor,
            "scale": self.scale,
            "degrees_of_freedom": self.degrees_of_freedom,
        }
