"""What an optimizer has to know to shrink the deviations by proximal steps.

A layer attaches it to the variables of its deviations.
"""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_softconv.penalties import Penalty, Reading
from keras_softconv.weight_sharing import WeightSharing

Tensor = Any


class Shrinkage:
    """Penalties with kinks, and how to take them out of a gradient and into a step.

    Where no penalty has kinks, it is not needed.
    """

    def __init__(self, *parts: tuple[Penalty, Reading]) -> None:
        self._parts = parts

    @property
    def is_needed(self) -> bool:
        return any(penalty.kinks is not None for penalty, _ in self._parts)

    def gradient(self, deviations: Tensor) -> Tensor:
        """The gradient of the penalties with kinks, strengths included."""

        def gradient(penalty: Penalty, strength: Reading, part: Tensor) -> Tensor:
            return strength.last() * penalty.gradient_of_kinks(part)

        return self._on_parts(gradient, ops.zeros_like, deviations)

    def step(self, deviations: Tensor, steps: Tensor) -> Tensor:
        """Their proximal step, of a size for each deviation."""

        def step(
            penalty: Penalty, strength: Reading, part: Tensor, steps: Tensor
        ) -> Tensor:
            return penalty.proximal_step(part, steps * strength.last())

        return self._on_parts(step, lambda part, _: part, deviations, steps)

    def lawful_steps(self, steps: Tensor) -> Tensor:
        """The nearest step sizes, none larger, that the proximal step can take."""

        def lawful(penalty: Penalty, _: Reading, part: Tensor) -> Tensor:
            return penalty.lawful_steps(part)

        return self._on_parts(lawful, lambda part: part, steps)

    def _on_parts(self, function: Callable, otherwise: Callable, *stored: Tensor) -> Tensor:
        """`function` of the parts whose penalties have kinks, `otherwise` of others."""
        raise NotImplementedError


class BiasShrinkage(Shrinkage):
    """That of the biases: their ties."""

    def _on_parts(self, function: Callable, otherwise: Callable, *stored: Tensor) -> Tensor:
        (part,) = self._parts
        return function(*part, *stored)


class KernelShrinkage(Shrinkage):
    """That of a kernel: its ties, and its off-template weights."""

    def __init__(
        self,
        weight_sharing: WeightSharing,
        ties: tuple[Penalty, Reading],
        off_template: tuple[Penalty, Reading],
    ) -> None:
        super().__init__(ties, off_template)
        self._weight_sharing = weight_sharing

    def _on_parts(self, function: Callable, otherwise: Callable, *stored: Tensor) -> Tensor:
        sharing = self._weight_sharing
        results = [
            otherwise(*map(part_of, stored))
            if part[0].kinks is None
            else function(*part, *map(part_of, stored))
            for part, part_of in zip(
                self._parts, (sharing.template, sharing.off_template), strict=True
            )
        ]
        return sharing.with_template(results[1], results[0])
