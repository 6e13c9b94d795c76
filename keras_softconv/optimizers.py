"""Optimizers that take lasso and group penalties by their proximal step.

A gradient step with the kink of a lasso goes back and forth across zero and never stays
there. A proximal step minimises the penalty itself, together with the distance from where
the gradient of the data alone has led, and ends at zero exactly where the data's pull is
weaker than the penalty's:

    x <- argmin_z 1/2 sum((z - y)^2 / t) + penalty(z),   y = x - t * gradient of the rest

with t the step size of each weight. A fixed point of this is a minimum of the rest plus
the penalty, whatever t is.
"""

from types import SimpleNamespace
from typing import Any

from keras_softconv.compat import keras, ops
from keras_softconv.diagnostics import soft_layers
from keras_softconv.shrinkage import Shrinkage

Tensor = Any


class _Proximal:
    """What `ProximalAdam` and `ProximalSGD` add to Keras's `Adam` and `SGD`.

    The gradients come with those of the penalties, which are in the loss. Those of the
    penalties with kinks are taken out again before anything is done with them.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Of the step that is being made; in a namespace, where Keras does not track it.
        self._step = SimpleNamespace(indices=[], clipped={})

    def apply(self, grads: list, trainable_variables: list | None = None) -> None:
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            with keras.name_scope(self.name, caller=self):
                self.build(trainable_variables)
            self._check_variables_are_known(trainable_variables)
        elif not self.built or len(grads) != len(self._trainable_variables):
            super().apply(grads)  # which says what is wrong
        variables = trainable_variables or self._trainable_variables
        indices = [self._get_variable_index(variable) for variable in variables]
        pairs = [(i, g) for i, g in zip(indices, grads, strict=True) if g is not None]
        self._step.indices = [index for index, _ in pairs]
        of_data = {index: self._of_data(index, gradient) for index, gradient in pairs}
        super().apply([of_data.get(index) for index in indices], trainable_variables)

    def _of_data(self, index: int, gradient: Tensor) -> Tensor:
        """The gradient without that of penalties with kinks."""
        variable = self._trainable_variables[index]
        shrinkage = _shrinkage_of(variable)
        if shrinkage is None:
            return gradient
        of_penalties = shrinkage.gradient(_in_float32(variable)) / self._replicas
        if self.loss_scale_factor is not None:
            of_penalties = of_penalties * self.loss_scale_factor
        return gradient - ops.cast(of_penalties, gradient.dtype)

    @property
    def _replicas(self) -> int:
        """Of TensorFlow's strategies, each of which has its share of the loss."""
        strategy = getattr(self, "_distribution_strategy", None)
        return getattr(strategy, "num_replicas_in_sync", 1)

    def _clip_gradients(self, grads: list) -> list:
        clipped = super()._clip_gradients(grads)
        self._step.clipped = {}
        if clipped is grads:
            return grads
        if self._replicas > 1:
            raise ValueError(
                f"{type(self).__name__} cannot clip gradients under a strategy with "
                f"several replicas. Received: {self._replicas} replicas. Leave out "
                "`clipnorm`, `clipvalue` and `global_clipnorm`."
            )
        for index, before, after in zip(self._step.indices, grads, clipped, strict=True):
            if _shrinkage_of(self._trainable_variables[index]) is not None:
                is_zero = ops.equal(before, 0)
                ratio = after / ops.where(is_zero, 1, before)
                self._step.clipped[index] = ops.where(is_zero, 1, ratio)
        return clipped

    def update_step(self, gradient: Tensor, variable: Any, learning_rate: Tensor) -> None:
        index = self._get_variable_index(variable)
        shrinkage = _shrinkage_of(self._trainable_variables[index])
        if shrinkage is None:
            super().update_step(gradient, variable, learning_rate)
            return
        before = ops.copy(_in_float32(variable)) if shrinkage.restricts_steps else None
        super().update_step(gradient, variable, learning_rate)
        after = _in_float32(variable)
        steps = self._steps(index, ops.cast(learning_rate, "float32"))
        steps = ops.broadcast_to(steps, ops.shape(after))
        if index in self._step.clipped:
            # As short as that of the gradient, or the penalty would be too strong.
            steps = steps * ops.cast(self._step.clipped[index], "float32")
        if shrinkage.restricts_steps:
            lawful = shrinkage.lawful_steps(steps)
            # No step at all where a schedule has let the rate go to 0.
            ratio = ops.where(steps > 0, lawful / ops.where(steps > 0, steps, 1.0), 1.0)
            after, steps = before + (after - before) * ratio, lawful
        shrunk = shrinkage.step(after, steps)
        self.assign(variable, ops.cast(shrunk, variable.dtype))

    def _steps(self, index: int, learning_rate: Tensor) -> Tensor:
        """How far a lasting gradient of 1 moves each weight: the step sizes."""
        raise NotImplementedError


def _shrinkage_of(variable: Any) -> Shrinkage | None:
    shrinkage = getattr(variable, "shrinkage", None)
    return shrinkage if shrinkage is not None and shrinkage.is_needed else None


def _in_float32(variable: Any) -> Tensor:
    return ops.cast(ops.stop_gradient(ops.convert_to_tensor(variable)), "float32")


@keras.saving.register_keras_serializable(package="keras_softconv")
class ProximalAdam(_Proximal, keras.optimizers.Adam):
    """Adam with exact zeros and ties.

    Keras's `Adam`, with the same arguments, for all variables but the deviations of
    SoftConv layers with a penalty that has a kink: `L1`, the `L1` part of `L1L2`,
    `GroupLasso`, `PairwiseL1`, and `DistanceWeighted` and `FamilyStrengths` of these.
    Those are taken out of the gradient and applied by their proximal step in Adam's own
    metric, with a step size for each weight,

        t = rate * sqrt(1 - beta_2^k) / (sqrt(v) + epsilon)       (at step k)

    so that the optimum is that of the loss, which is reported with the penalties in it
    (`PairwiseL1` needs one step size in a family: the smallest). Smooth penalties are left
    to their gradients, so that without kinks it is Adam.

    Gradients are clipped without those penalties, whose steps are then shortened as much.
    Steps are made in float32. With `use_ema` the averages are what they are: small, not
    zero. The loss has to contain the layers' losses, as that of `fit` does and in a custom
    loop `sum(model.losses)` does. On JAX a custom step may compile the gradients by
    `jax.jit` and call `apply` or `stateless_apply` outside of it, or compile both in one
    function. An update that is compiled alone raises a `ValueError`, because the strengths
    would become constants in it.

    Examples:
        >>> import keras
        >>> import keras_softconv
        >>> lasso = keras.regularizers.L1(1.0)
        >>> layer = keras_softconv.SoftConv1D(1, 2, tie_regularizer=lasso)
        >>> model = keras.Sequential([keras.Input((5, 1)), layer])
        >>> optimizer = keras_softconv.optimizers.ProximalAdam(1e-3)
        >>> model.compile(optimizer, "mse")

    Reference:
        Beck and Teboulle, "A fast iterative shrinkage-thresholding algorithm", SIAM Journal
        on Imaging Sciences 2, 2009, for the step; Yun, Lozano and Yang, "Adaptive proximal
        gradient methods for structured neural networks", NeurIPS 2021, for the metric.
    """

    def _steps(self, index: int, learning_rate: Tensor) -> Tensor:
        step = ops.cast(self.iterations + 1, "float32")
        second = self._velocity_hats if self.amsgrad else self._velocities
        scale = ops.sqrt(ops.cast(second[index], "float32")) + self.epsilon
        return learning_rate * ops.sqrt(1 - self.beta_2**step) / scale


@keras.saving.register_keras_serializable(package="keras_softconv")
class ProximalSGD(_Proximal, keras.optimizers.SGD):
    """SGD with exact zeros and ties.

    Keras's `SGD`, with the same arguments, and what `ProximalAdam` says of proximal steps.
    The step size is the same for all weights, and as long as the momentum has grown,

        t <- momentum * t + rate

    which is how far it moves a weight under a lasting gradient of 1, whatever the rate was
    before (with `nesterov` momentum and rate once more).
    """

    def build(self, variables: list) -> None:
        if self.built:
            return
        super().build(variables)
        self._reaches = [
            None
            if _shrinkage_of(variable) is None
            else self.add_variable((), dtype="float32", name=f"reach_{index}")
            for index, variable in enumerate(variables)
        ]

    def _steps(self, index: int, learning_rate: Tensor) -> Tensor:
        reach = self._reaches[index]
        self.assign(reach, self.momentum * ops.convert_to_tensor(reach) + learning_rate)
        if not self.nesterov:
            return ops.convert_to_tensor(reach)
        return self.momentum * ops.convert_to_tensor(reach) + learning_rate


def freeze_structure(model: keras.Model) -> None:
    """Keep the zeros and ties of a model's SoftConv layers; retrain the rest freely.

    `layer.freeze_structure()` of each, and what is compiled is compiled anew: `fit` may
    simply go on. (With `use_ema` compile the model again, or the averages from before would
    come back.)

    Args:
        model: a model with built SoftConv layers.

    Raises:
        ValueError: for a model without SoftConv layers, or with unbuilt ones.
    """
    layers = soft_layers(model) if isinstance(model, keras.Model) else {}
    if not layers:
        raise ValueError(
            "freeze_structure expects a model with SoftConv layers. Received: "
            f"{model!r}. Give the model that was trained, or call "
            "`layer.freeze_structure()` of a layer."
        )
    for layer in layers.values():
        layer.freeze_structure()
    for name in ("train_function", "test_function", "predict_function"):
        setattr(model, name, None)
