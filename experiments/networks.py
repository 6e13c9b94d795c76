"""Networks with one hidden layer, begun anew and trained with every setting.

What the studies of digits and those of Nowlan and Hinton's tasks share.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from training import Decay, HeldAtZero

from keras_softconv.layers import BaseSoftConv

# From the weight decay of a kernel to layers.
Layers = Callable[[Decay], list[keras.Layer]]


class BaseNetwork:
    """A compiled network, begun anew for each fit.

    Args:
        shape: of an input.
        hidden: makes the hidden layer.
        readout: makes what stands behind it.
        steps: after which the rate is 0.
        rate: of Adam at the beginning; it may be assigned another value.
        **compiled: arguments of `compile`.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        hidden: Layers,
        readout: Layers,
        steps: int,
        rate: float,
        **compiled: Any,
    ) -> None:
        self.shape, self.hidden, self.readout = shape, hidden, readout
        self.decay, self.readout_decay = Decay(), Decay()
        self.model = self._build()
        self.rate = keras.Variable(rate, trainable=False, name="rate")
        falling = keras.optimizers.schedules.CosineDecay(self.rate, steps)
        self.model.compile(keras.optimizers.Adam(falling), **compiled)
        self.model.optimizer.build(self.model.trainable_variables)
        self._optimizer = [value.numpy() for value in self.model.optimizer.variables]
        # The seed that was begun with last, and its weights.
        self._begin: tuple[int | None, list[np.ndarray]] = None, []

    def _build(self) -> keras.Model:
        readout = self.readout(self.readout_decay)
        layers = [keras.Input(self.shape), *self.hidden(self.decay), *readout]
        return keras.Sequential(layers)

    def begin(self, seed: int) -> None:
        """The weights that this seed draws, and an optimizer that knows nothing."""
        if self._begin[0] != seed:
            keras.utils.set_random_seed(seed)
            self._begin = seed, self._build().get_weights()
        self.model.set_weights(self._begin[1])
        variables = self.model.optimizer.variables
        for variable, value in zip(variables, self._optimizer, strict=True):
            variable.assign(value)

    def assign_strengths(self, first: float, off_template: float, readout: float) -> None:
        """Ties or weight decay of the hidden layer, off the template, of the readout."""
        self.decay.factor.assign(first)
        self.readout_decay.factor.assign(readout)
        for layer in self.model.layers:
            if isinstance(layer, BaseSoftConv):
                layer.tie_strength.assign(first)
                layer.off_template_strength.assign(off_template)


def soft_hidden(rank_layer: type, **arguments: Any) -> Layers:
    """A SoftConv layer, with ridges and begun as a convolution if not told otherwise."""

    def layers(decay: Decay) -> list[keras.Layer]:
        ridges = {
            name: keras.regularizers.L2(1.0)
            for name in ("tie_regularizer", "off_template_regularizer")
        }
        return [rank_layer(**{**ridges, **arguments})]

    return layers


def hidden_without_sharing(rank_layer: type, **arguments: Any) -> Layers:
    """A SoftConv layer without a shared kernel: a ridge of the ties is weight decay."""
    return soft_hidden(
        rank_layer,
        kernel_initializer="zeros",
        kernel_constraint=HeldAtZero(),
        deviation_initializer="glorot_uniform",
        **arguments,
    )
