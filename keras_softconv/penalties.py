"""What the regularizers say of the deviations of one kernel."""

from collections.abc import Callable
from functools import reduce
from typing import Any

from keras_softconv.compat import is_stateless, keras, ops, running_traces, trace_of
from keras_softconv.regularizers import (
    Layout,
    in_best_form,
    kinks_of,
    l1_l2_factors,
    penalty_of,
)
from keras_softconv.weight_sharing import (
    ABSOLUTE,
    SQUARE,
    WeightSharing,
)

Tensor = Any


class Reading:
    """A variable that the penalties read, and after them the optimizer.

    On JAX an optimizer's update is given the variables that it trains and no others. So it
    takes what the penalties have read in the forward pass before it, as long as both are
    compiled into one function, or Keras computes both without compiling. In any other
    update the variable itself is read.

    Args:
        variable: what is read.
        may_change: whether the variable changes between updates. A compiled update then
            refuses to take its value for a constant.
    """

    def __init__(self, variable: keras.Variable, *, may_change: bool = True) -> None:
        self.variable = variable
        self._may_change = may_change
        # What the last forward pass has read on JAX, and in which trace, None for none.
        self._read: tuple[Tensor, Any] | None = None

    def now(self) -> Tensor:
        """The variable's value."""
        value = ops.convert_to_tensor(self.variable)
        if keras.backend.backend() == "jax":
            trace = trace_of(value) or next(iter(running_traces()), None)
            self._read = value, trace
        return value

    def last(self) -> Tensor:
        """The value that the penalties of this step have read.

        Raises:
            ValueError: in an update that JAX compiles without the loss, where the value of
                a variable that may change would become a constant.
        """
        if keras.backend.backend() != "jax":
            return ops.convert_to_tensor(self.variable)
        traces = running_traces()
        if self._read is not None:
            value, trace = self._read
            is_uncompiled = trace is None and not traces and is_stateless()
            if is_uncompiled or any(trace is running for running in traces):
                return value
        value = ops.convert_to_tensor(self.variable)
        if traces and self._may_change and trace_of(value) is None:
            raise ValueError(
                "A compiled update of the weights would take the value of "
                f"'{self.variable.path}' for a constant, and would not notice when it "
                "changes. Expected the loss and the update in one function for `jax.jit`, "
                "or the update outside of any. Received: a `jax.jit` of the update alone. "
                "Compute the gradients and call the optimizer in the same function, or "
                "call `optimizer.apply(gradients, variables)` without `jax.jit`."
            )
        return value


class Penalty:
    """A regularizer at one of its places in a layer.

    Args:
        regularizer: any callable, or None.
        layout: where the weights stand in the tensor that it is given.
        state: the layer's weights that belong to the regularizer, by name.
    """

    def __init__(
        self,
        regularizer: Callable | None,
        layout: Layout,
        state: dict[str, keras.Variable],
    ) -> None:
        self.regularizer = regularizer
        self.layout = layout
        self.readings = {name: Reading(variable) for name, variable in state.items()}
        # Found now, because reading Keras's factors cannot be compiled by torch.
        # `factors` are `(l1, l2)` of Keras's own regularizers, and None for others.
        self.factors = l1_l2_factors(regularizer)
        # What of the regularizer ProximalAdam and ProximalSGD take by its proximal step.
        self.kinks = kinks_of(regularizer)
        self._best_form = in_best_form(regularizer)

    def __call__(self, deviations: Tensor) -> Tensor:
        """What the regularizer says, a float32 scalar; 0 without a regularizer."""
        if self.regularizer is None:
            return ops.zeros((), "float32")
        if self.readings:
            state = {name: reading.now() for name, reading in self.readings.items()}
            return self.regularizer.penalty(deviations, self.layout, **state)
        return penalty_of(self._best_form, deviations, self.layout)

    def gradient_of_kinks(self, deviations: Tensor) -> Tensor:
        return self.kinks.gradient(deviations, self.layout, **self._last_state())

    def proximal_step(self, deviations: Tensor, steps: Tensor) -> Tensor:
        state = self._last_state()
        return self.kinks.proximal_step(deviations, steps, self.layout, **state)

    def lawful_steps(self, steps: Tensor) -> Tensor:
        return self.kinks.lawful_steps(steps, self.layout)

    def _last_state(self) -> dict[str, Tensor]:
        return {name: reading.last() for name, reading in self.readings.items()}


def tie_layout(weight_sharing: WeightSharing) -> Layout:
    """Of `(*output_grid, families)`."""
    geometry = weight_sharing.geometry
    has_void = geometry.sees_padding.any()
    return Layout(
        position_axes=tuple(range(len(geometry.output_grid))),
        is_weight=weight_sharing.is_member if has_void else None,
        wraps=geometry.wraps,
    )


def bias_layout(weight_sharing: WeightSharing) -> Layout:
    """Of `(*output_grid, filters)`."""
    geometry = weight_sharing.geometry
    return Layout(tuple(range(len(geometry.output_grid))), wraps=geometry.wraps)


def off_template_layout(weight_sharing: WeightSharing) -> Layout:
    """Of the stored deviations."""
    geometry = weight_sharing.geometry
    rank = len(geometry.output_grid)
    begin = rank + 1 if geometry.windows is None else 0

    def is_weight() -> Tensor:
        ones = ops.ones(geometry.deviations_shape, "float32")
        return weight_sharing.off_template(ones) > 0

    return Layout(
        position_axes=tuple(range(begin, begin + rank)),
        is_weight=is_weight,
        distances=weight_sharing.distances,
        wraps=geometry.wraps,
    )


def kernel_penalties(
    weight_sharing: WeightSharing, tie: Penalty, off_template: Penalty, deviations: Tensor
) -> tuple[Tensor, Tensor]:
    """`R_tie` of the deviations on the template and `R_off` of those off it.

    Keras's `L1`, `L2` and `L1L2` are taken from sums over the rows of the kernel, at the
    cost of one plain sum over the kernel for each power that occurs. Any other
    regularizer is called with the tensor that it is promised.

    Args:
        weight_sharing: says where the template is.
        tie: called with `(*output_grid, families)`.
        off_template: called with the deviations, 0 on the template and where void.
        deviations: float32 tensor, as stored.

    Returns:
        Two float32 scalars, without strengths.
    """
    factors = [tie.factors, off_template.factors]
    ties, off_templates = [], []
    for number, power in enumerate((ABSOLUTE, SQUARE)):
        of_ties, of_others = (pair[number] if pair else 0.0 for pair in factors)
        if of_others:
            sums = weight_sharing.partition_sums(power, deviations)
            off_templates.append(of_others * sums[1])
            ties += [of_ties * sums[0]] if of_ties else []
        elif of_ties:
            ties.append(of_ties * weight_sharing.template_sum(power, deviations))
    if factors[0] is None:
        ties.append(tie(weight_sharing.template(deviations)))
    if factors[1] is None:
        off_templates.append(off_template(weight_sharing.off_template(deviations)))
    return _sum(ties), _sum(off_templates)


def _sum(terms: list[Tensor]) -> Tensor:
    return reduce(ops.add, terms) if terms else ops.zeros((), "float32")
