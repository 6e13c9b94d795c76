"""Optimizers that take lasso and group penalties by their proximal step.

A gradient step with the kink of a lasso goes back and forth across zero and never stays
there. A proximal step minimises the penalty itself, together with the distance from where
the gradient of the data alone has led, and ends at zero exactly where the data's pull is
weaker than the penalty's:

    x <- argmin_z 1/2 sum((z - y)^2 / t) + penalty(z),   y = x - t * gradient of the rest

with t the step size of each weight. A fixed point of this is a minimum of the rest plus
the penalty, whatever t is.
"""

from typing import Any

import keras
from keras import ops

from keras_softconv.diagnostics import soft_layers
from keras_softconv.shrinkage import Shrinkage

Tensor = Any


class _Proximal:
    """What `ProximalAdam` and `ProximalSGD` add to Keras's `Adam` and `SGD`.

    The gradients come with those of the penalties, which are in the loss. Those of the
    penalties with kinks are taken out again before anything is done with them.
    """

    def apply(self, grads: list, trainable_variables: list | None = None) -> None:
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
        variables = trainable_variables or getattr(self, "_trainable_variables", [])
        grads = list(grads)
        for index, (gradient, variable) in enumerate(zip(grads, variables, strict=False)):
            shrinkage = _shrinkage_of(variable)
            if gradient is not None and shrinkage is not None:
                grads[index] = gradient - self._of_penalties(shrinkage, variable)
        super().apply(grads, trainable_variables)

    def _of_penalties(self, shrinkage: Shrinkage, variable: keras.Variable) -> Tensor:
        """Their gradient, as it stands in that of the loss."""
        gradient = shrinkage.gradient(_in_float32(variable))
        # Under TensorFlow's strategies each replica has its share of the loss.
        strategy = getattr(self, "_distribution_strategy", None)
        gradient = gradient / getattr(strategy, "num_replicas_in_sync", 1)
        if self.loss_scale_factor is not None:
            gradient = gradient * self.loss_scale_factor
        return ops.cast(gradient, variable.dtype)

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

        t = rate * sqrt(1 - beta_2^k) / (1 - beta_1^k) / (sqrt(v) + epsilon)

    so that the optimum is that of the loss, which is reported with the penalties in it
    (`PairwiseL1` needs one step size in a family: the smallest). Smooth penalties are left
    to their gradients, so that without kinks it is Adam.

    Gradients are clipped without those penalties. The loss has to contain the layers'
    losses, as that of `fit` does and in a custom loop `sum(model.losses)` does. On JAX a
    custom step has to compute loss and update in one compiled function, or both outside
    of any; else JAX raises an `UnexpectedTracerError`.

    Example:
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
        correction = ops.sqrt(1 - self.beta_2**step) / (1 - self.beta_1**step)
        return learning_rate * correction / scale


@keras.saving.register_keras_serializable(package="keras_softconv")
class ProximalSGD(_Proximal, keras.optimizers.SGD):
    """SGD with exact zeros and ties.

    Keras's `SGD`, with the same arguments, and what `ProximalAdam` says of proximal steps.
    The step size is the same for all weights,

        t = rate * (1 - momentum^k) / (1 - momentum)

    because by step k momentum moves a weight so far under a lasting gradient of 1.
    """

    def _steps(self, index: int, learning_rate: Tensor) -> Tensor:
        if not self.momentum:
            return learning_rate
        step = ops.cast(self.iterations + 1, "float32")
        return learning_rate * (1 - self.momentum**step) / (1 - self.momentum)


def freeze_structure(model: keras.Model) -> None:
    """Keep the zeros and ties of a model's SoftConv layers; retrain the rest freely.

    `layer.freeze_structure()` of each, and what is compiled is compiled anew: `fit` may
    simply go on.

    Args:
        model: a model with built SoftConv layers.

    Raises:
        ValueError: for a model without SoftConv layers, or with unbuilt ones.
    """
    layers = soft_layers(model)
    if not layers:
        raise ValueError(
            f"freeze_structure found no SoftConv layer in '{model.name}'. Expected a model "
            "with one at least. Give the model that was trained with a SoftConv layer."
        )
    for layer in layers.values():
        layer.freeze_structure()
    for name in ("train_function", "test_function", "predict_function"):
        setattr(model, name, None)
