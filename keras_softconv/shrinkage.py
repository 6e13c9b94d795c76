"""What an optimizer has to know to shrink the deviations by proximal steps.

A layer attaches it to the variables of its deviations.
"""

from collections.abc import Callable
from typing import Any

from keras_softconv.compat import ops
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

    @property
    def restricts_steps(self) -> bool:
        """Whether `step` takes only what `lawful_steps` returns."""
        kinks = [penalty.kinks for penalty, _ in self._parts]
        return any(one is not None and one.restricts_steps for one in kinks)

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
        ties, off_template = self._parts

        def result(part: tuple[Penalty, Reading], weights: list[Tensor]) -> Tensor:
            has_kinks = part[0].kinks is not None
            return function(*part, *weights) if has_kinks else otherwise(*weights)

        kinks = off_template[0].kinks
        # What is done to each weight alone need not be spared those on the template: they
        # are overwritten, and a copy of all weights is saved.
        is_whole = kinks is None or kinks.is_elementwise
        weights = stored if is_whole else map(sharing.off_template, stored)
        of_others = result(off_template, list(weights))
        of_ties = result(ties, list(map(sharing.template, stored)))
        return sharing.with_template(of_others, of_ties)
