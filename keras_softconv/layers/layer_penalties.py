"""The penalties of one layer, and the weights that belong to them."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from keras_softconv.compat import (
    is_in_inner_trace,
    is_symbolic,
    keras,
    mark_beginning,
    ops,
    type_of_losses,
)
from keras_softconv.penalties import (
    Penalty,
    Reading,
    bias_layout,
    kernel_penalties,
    off_template_layout,
    tie_layout,
)
from keras_softconv.regularizers import Layout, StructuredRegularizer
from keras_softconv.shrinkage import BiasShrinkage, KernelShrinkage
from keras_softconv.weight_sharing import WeightSharing

Tensor = Any


class LayerPenalties:
    """Ties of kernel and biases, and the off-template penalty.

        tie_penalty = tie_strength * R_tie(deviations on the template)
                    + tie_strength * R_tie(bias deviations)
        off_template_penalty = off_template_strength * R_off(deviations off it)

    Args:
        weight_sharing: says where the template is.
        tie_regularizer: R_tie, or None.
        off_template_regularizer: R_off, or None.
        add_weight: makes a weight of the layer from its name, shape, initializer and
            options.
        use_bias: whether there are biases.
    """

    def __init__(
        self,
        weight_sharing: WeightSharing,
        tie_regularizer: Callable | None,
        off_template_regularizer: Callable | None,
        add_weight: Callable,
        use_bias: bool,
    ) -> None:
        self._weight_sharing = weight_sharing
        self._add_weight = add_weight
        self.tie_strength = Reading(self._add_strength("tie_strength"))
        self.off_template_strength = Reading(self._add_strength("off_template_strength"))
        geometry = weight_sharing.geometry
        families = geometry.families
        layout = tie_layout(weight_sharing)
        self.tie = self._penalty(tie_regularizer, layout, families, "tie")
        layout = off_template_layout(weight_sharing)
        self.off_template = self._penalty(
            off_template_regularizer, layout, geometry.filters, "off_template"
        )
        self.bias_tie = self._penalty(
            tie_regularizer if use_bias else None,
            bias_layout(weight_sharing),
            geometry.filters,
            "bias_tie",
        )
        self._kernel_regularizer = _WeightRegularizer(lambda x: sum(self.of_kernel(x)))
        self._bias_regularizer = _WeightRegularizer(self.of_biases)
        # How many weights the training data determine, as far as that was found.
        self.effective_weights: dict[str, float] = {}
        # How the last forward pass registered the penalties. Keras does not track what is
        # in a namespace.
        self._registered = SimpleNamespace(losses=[], beginning=None)

    def _add_strength(self, name: str) -> keras.Variable:
        return self._add_movable(name, (), "ones", trainable=False)

    def _add_movable(self, *arguments: Any, **options: Any) -> keras.Variable:
        """Make a weight that any callback may read and assign to."""
        variable = self._add_weight(*arguments, dtype="float32", **options)
        if keras.backend.backend() != "jax" or keras.config.is_nnx_enabled():
            return variable
        from keras_softconv.layers.movable_weights import make_movable

        return make_movable(variable)

    def _penalty(
        self, regularizer: Callable | None, layout: Layout, families: int, place: str
    ) -> Penalty:
        state = {}
        if isinstance(regularizer, StructuredRegularizer):
            regularizer.check_layout(layout)
            for name, of in regularizer.state(families).items():
                state[name] = self._add_movable(
                    f"{place}_{name}", of.shape, of.initializer, trainable=of.trainable
                )
        return Penalty(regularizer, layout, state)

    # Their values.

    def of_kernel(self, deviations: Tensor) -> tuple[Tensor, Tensor]:
        """Ties and off-template penalty of the deviations as stored."""
        tie, off_template = kernel_penalties(
            self._weight_sharing,
            self.tie,
            self.off_template,
            ops.cast(deviations, "float32"),
        )
        tie_strength, off_strength = (
            strength.now() for strength in (self.tie_strength, self.off_template_strength)
        )
        return tie_strength * tie, off_strength * off_template

    def of_biases(self, bias_deviations: Tensor) -> Tensor:
        """Ties of the bias deviations, `(*output_grid, filters)`."""
        penalty = self.bias_tie(ops.cast(bias_deviations, "float32"))
        return self.tie_strength.now() * penalty

    # How Keras and the optimizer learn of them.

    def attach_to(
        self, deviations: keras.Variable, bias_deviations: keras.Variable | None
    ) -> None:
        """Tell the variables how ProximalAdam and ProximalSGD may shrink them."""
        deviations.shrinkage = KernelShrinkage(
            self._weight_sharing,
            (self.tie, self.tie_strength),
            (self.off_template, self.off_template_strength),
        )
        if bias_deviations is not None:
            bias_deviations.shrinkage = BiasShrinkage((self.bias_tie, self.tie_strength))

    def register_as_regularizers(
        self, deviations: keras.Variable, bias_deviations: keras.Variable | None
    ) -> None:
        """Make them the regularizers of the variables."""
        if self.tie.regularizer is None and self.off_template.regularizer is None:
            return
        deviations.regularizer = self._kernel_regularizer
        if bias_deviations is not None:
            bias_deviations.regularizer = self._bias_regularizer

    def remove_regularizers(
        self, deviations: keras.Variable, bias_deviations: keras.Variable | None
    ) -> None:
        """Undo `register_as_regularizers`."""
        for variable in (deviations, bias_deviations):
            if isinstance(getattr(variable, "regularizer", None), _WeightRegularizer):
                variable.regularizer = None

    def begin_forward_pass(self) -> None:
        """Remember where a forward pass begins, which is where its losses will be read."""
        self._registered.beginning = mark_beginning()

    def register_once(
        self,
        layer: keras.Layer,
        penalties: Callable,
        deviations: keras.Variable,
        bias_deviations: keras.Variable | None,
    ) -> None:
        """Register the penalties for this forward pass of a layer, so that they count once.

        Usually they are added to the layer's losses. In the body of a loop, in a branch and
        in whatever else is traced by itself, tensors that are added would leak out of their
        trace. There the penalties become regularizers of the variables until the next
        forward pass. Keras computes these where the losses are read, outside of the loop.

        Args:
            layer: the layer that is called.
            penalties: returns the tensors to be added, by name.
            deviations: the variable that decides in which trace the losses are read.
            bias_deviations: the variable of the biases, or None.
        """
        if is_symbolic():
            return
        variables = deviations, bias_deviations
        self.remove_regularizers(*variables)
        if any(ours is loss for loss in layer.losses for ours in self._registered.losses):
            return  # a shared layer, called again in the same forward pass
        if self._would_leak(layer, deviations):
            self.register_as_regularizers(*variables)
            return
        penalties = penalties()
        if self.tie.regularizer is None:
            del penalties["tie_penalty"]
        if self.off_template.regularizer is None:
            del penalties["off_template_penalty"]
        dtype = type_of_losses(layer.variable_dtype)
        self._registered.losses = [ops.cast(one, dtype) for one in penalties.values()]
        layer.add_loss(self._registered.losses)

    def _would_leak(self, layer: keras.Layer, deviations: keras.Variable) -> bool:
        """Whether Keras could not read a loss that is added here.

        A layer of `keras.RematScope` is called again for the gradients, and torch wants the
        same computations the second time. Adding losses only once would not be the same.
        """
        is_called_again = getattr(layer, "_remat_mode", None) is not None
        return is_called_again or is_in_inner_trace(
            ops.convert_to_tensor(deviations), self._registered.beginning
        )


class _WeightRegularizer(keras.Regularizer):
    """A penalty of a layer as the regularizer of one of its weights."""

    def __init__(self, penalty: Callable[[Tensor], Tensor]) -> None:
        self.penalty = penalty

    def __call__(self, weight: Tensor) -> Tensor:
        return ops.cast(self.penalty(weight), type_of_losses(weight.dtype))
