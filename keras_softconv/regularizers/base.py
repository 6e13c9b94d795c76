"""What the regularizers of this package have in common."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras_softconv.compat import keras, ops

Tensor = Any
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Where the penalised weights stand in their tensor.

    Args:
        position_axes: the axes that run over the output positions. Along the others lie
            the families or, off the template, inputs or slots, channels and filters.
        is_weight: makes a boolean tensor that broadcasts to the weights, False where
            there is no weight: a void member or, off the template, a template entry.
            None where all are weights.
        distances: makes a float32 tensor that broadcasts to the weights, input steps to
            the nearest tap of the receptive field along the axis where it is furthest
            (a weight is within `halo=h` where it is at most h). None for ties.
        wraps: whether the output grid is a torus.
    """

    position_axes: tuple[int, ...]
    is_weight: Callable[[], Tensor] | None = None
    distances: Callable[[], Tensor] | None = None
    wraps: bool = False

    def mask(self, weights: Tensor) -> Tensor | None:
        """`is_weight` as float32 of the weights' shape; None where all are weights."""
        if self.is_weight is None:
            return None
        mask = ops.cast(self.is_weight(), "float32")
        return ops.broadcast_to(mask, ops.shape(weights))


@dataclass(frozen=True)
class State:
    """A weight of the layer that belongs to a regularizer.

    Args:
        shape: its shape.
        initializer: Keras initializer.
        trainable: whether the optimizer trains it.
    """

    shape: Shape
    initializer: Callable
    trainable: bool = True


@dataclass(frozen=True)
class RidgeTerm:
    """A ridge within a penalty, which is a Gaussian prior with a width to be learned.

    Args:
        factor: of the squares, without strengths.
        of_differences: whether neighbouring members' differences are squared, not the
            weights themselves.
    """

    factor: float
    of_differences: bool = False


class StructuredRegularizer(keras.Regularizer):
    """A Keras regularizer that can be told where its weights stand.

    Called by itself, `regularizer(weights)` takes a tensor of shape
    `(*output_grid, families)` without void members, and the values that its `state`
    begins with. A layer calls `penalty` with the layout, and with weights of its own for
    the state, so that the same object may serve many layers.
    """

    # What ProximalAdam and ProximalSGD leave to `proximal_step`, because it is not smooth.
    has_kinks = False
    # Whether each weight is penalised on its own.
    is_elementwise = False
    # Whether `proximal_step` takes the steps that `lawful_steps` returns and no others.
    restricts_steps = False

    def __call__(self, weights: Tensor) -> Tensor:
        weights = ops.convert_to_tensor(weights, "float32")
        layout = Layout(tuple(range(len(weights.shape) - 1)))
        state = self.state(weights.shape[-1] if len(weights.shape) else 1)
        begin = {n: s.initializer(s.shape, dtype="float32") for n, s in state.items()}
        return self.penalty(weights, layout, **begin)

    def penalty(self, weights: Tensor, layout: Layout, **state: Tensor) -> Tensor:
        """The penalty of float32 weights in a layout, a scalar."""
        raise NotImplementedError

    def check_layout(self, layout: Layout) -> None:
        """Refuse a place in a layer where the regularizer has no meaning."""

    def state(self, families: int) -> dict[str, State]:
        """Weights that a layer makes for the regularizer, by name."""
        return {}

    def ridge_terms(self) -> list[RidgeTerm] | None:
        """The ridges that it adds up, each with its own strength; None for others.

        Where the strengths are a state, its last axis runs over the terms, or over the
        families of the only term.
        """
        return None

    def gradient(self, weights: Tensor, layout: Layout, **state: Tensor) -> Tensor:
        """The gradient of `penalty`, the same at its kinks too."""
        raise NotImplementedError

    def proximal_step(
        self, weights: Tensor, step: Tensor, layout: Layout, **state: Tensor
    ) -> Tensor:
        """`argmin_z 1/2 sum((z - weights)^2 / step) + penalty(z)`.

        Args:
            weights: float32 tensor.
            step: positive scalar, or tensor that broadcasts to the weights: the step
                size of each.
            layout: where they stand.
            state: values of the state.
        """
        raise NotImplementedError

    def lawful_steps(self, steps: Tensor, layout: Layout) -> Tensor:
        """The nearest step sizes, none larger, that `proximal_step` has a solution for."""
        return steps


def check_factor(name: str, factor: Any, of: object) -> float:
    """A finite number that is not negative, as a float."""
    return _checked(name, factor, of, "a finite number, 0 or more", lambda x: x >= 0)


def check_positive(name: str, number: Any, of: object) -> float:
    """A finite positive number, as a float."""
    return _checked(name, number, of, "a finite number above 0", lambda x: x > 0)


def _checked(name: str, number: Any, of: object, expected: str, holds: Callable) -> float:
    try:
        value = float(number)
    except (TypeError, ValueError):
        value = math.nan
    if isinstance(number, (str, bool)) or not (math.isfinite(value) and holds(value)):
        raise ValueError(
            f"`{name}` of {type(of).__name__} must be {expected}. Received: "
            f"{name}={number!r}. Give a number such as 0.01."
        )
    return value


def check_families(weights: Tensor, of: object) -> None:
    """The contract of ties: positions, then families."""
    if len(weights.shape) < 2:
        raise ValueError(
            f"{type(of).__name__} expects weights of shape `(*output_grid, families)`: "
            f"members along the leading axes, families along the last. Received: shape="
            f"{tuple(weights.shape)}. Use it as the `tie_regularizer` of a SoftConv "
            "layer, or give the weights a second axis."
        )


def absolute(weights: Tensor) -> Tensor:
    """`|weights|` with gradient 0 at 0, where JAX's own has 1."""
    return ops.stop_gradient(ops.sign(weights)) * weights


def safe_norm(weights: Tensor, axis: tuple[int, ...]) -> Tensor:
    """Euclidean norms with axes kept, and with gradient 0 where they are 0."""
    squares = ops.sum(ops.square(weights), axis=axis, keepdims=True)
    is_zero = ops.equal(squares, 0)
    return ops.where(is_zero, 0.0, ops.sqrt(ops.where(is_zero, 1.0, squares)))


def inner_regularizer(regularizer: Any, of: object) -> Callable:
    """A regularizer that another one applies, standardised by Keras."""
    inner = keras.regularizers.get(regularizer)
    has_state = isinstance(inner, StructuredRegularizer) and inner.state(1)
    if inner is None or has_state:
        raise ValueError(
            f"`regularizer` of {type(of).__name__} must be a regularizer without weights "
            f"of its own. Received: regularizer={regularizer!r}. Give one such as "
            "`keras.regularizers.L1(0.01)`."
        )
    return inner
