"""Keras models that are trained over and over, with every setting on every draw.

A draw has `train` and `validation`, pairs of inputs and targets; `convolution`, the
arguments that Conv2D and SoftConv2D share; and `error(predict)`, the test error of a
function from inputs to outputs.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_softconv import SoftConv2D
from keras_softconv.callbacks import AdaptiveStrengths
from keras_softconv.compat import keras
from keras_softconv.layers import BaseSoftConv
from keras_softconv.optimizers import ProximalAdam

ROUND = 50  # steps, after which the validation error is looked at
RATE = 2e-2
Pair = tuple[float, float]


class Trained:
    """A compiled model for each shape of the data, begun anew for each fit.

    Args:
        name: what the tables call it.
        layers: makes them from a draw; tuned are the strengths of its SoftConv layers and
            every `Decay`.
        strengths: pairs of tie strength or decay and of off-template strength, in units of
            1 / (examples * outputs), in which a ridge's best strength does not depend on
            the sizes.
        rounds: how often `ROUND` steps are made, each of all examples, with a rate that
            falls to 0.
        rate: of Adam at the beginning.
    """

    def __init__(
        self,
        name: str,
        layers: Callable[[Any], list[keras.Layer]],
        strengths: Sequence[Pair] = ((1.0, 1.0),),
        rounds: int = 16,
        rate: float = RATE,
    ) -> None:
        self.name, self.strengths, self.rounds = name, strengths, rounds
        self.layers, self.rate = layers, rate
        # That of the fit to come, which needs no new model.
        self._rate = keras.Variable(rate, trainable=False, name="rate")
        # For data of each shape a model, and what it begins with.
        self._models: dict[tuple, tuple[keras.Model, list[np.ndarray]]] = {}

    def fits(self, draw: Any) -> list[dict]:
        """A fit with each pair of strengths."""
        return [self.fit(draw, pair) for pair in self.strengths]

    def fit(
        self,
        draw: Any,
        pair: Pair,
        callbacks: Sequence = (),
        stop: bool = True,
        convolution: Sequence[np.ndarray] | None = None,
        rate: float | None = None,
    ) -> dict[str, Any]:
        """Train with one pair of strengths.

        Args:
            draw: the data.
            pair: tie and off-template strength.
            callbacks: of `fit`.
            stop: whether to keep the weights of the round with the least validation error.
            convolution: weights of a model with Keras's layer, to begin with them.
            rate: at the beginning; None for that of all fits.
        """
        model = self._begun_anew(draw)
        if convolution is not None:
            release(convolution, model)
        set_strengths(model, draw, pair)
        self._rate.assign(self.rate if rate is None else rate)
        early = keras.callbacks.EarlyStopping(
            "val_mse", patience=self.rounds, restore_best_weights=True
        )
        train = tf.data.Dataset.from_tensors(draw.train).cache().repeat()
        validation = tf.data.Dataset.from_tensors(draw.validation).cache()
        history = model.fit(
            train,
            steps_per_epoch=ROUND,
            epochs=self.rounds,
            validation_data=validation if stop else None,
            callbacks=[*callbacks, early] if stop else list(callbacks),
            shuffle=False,
            verbose=0,
        ).history
        validation_error = min(history["val_mse"]) if stop else np.nan
        error = draw.error(lambda inputs: model.predict(inputs, verbose=0))
        return {"setting": pair, "validation": validation_error, "error": error}

    def model(self, draw: Any) -> keras.Model:
        """That of data like these, as its last fit left it."""
        return self._model_and_begin(draw)[0]

    def _begun_anew(self, draw: Any) -> keras.Model:
        model, begin = self._model_and_begin(draw)
        for variable, value in zip(_variables(model), begin, strict=True):
            variable.assign(value)
        return model

    def _model_and_begin(self, draw: Any) -> tuple[keras.Model, list[np.ndarray]]:
        shapes = tuple(part.shape[1:] for part in draw.train)
        key = (*shapes, *draw.convolution.items())
        if key not in self._models:
            keras.utils.set_random_seed(0)
            model = keras.Sequential([keras.Input(shapes[0]), *self.layers(draw)])
            rate = keras.optimizers.schedules.CosineDecay(self._rate, ROUND * self.rounds)
            model.compile(
                ProximalAdam(rate),
                "mse",
                metrics=["mse"],
                steps_per_execution=ROUND,
                jit_compile=True,  # faster for so small a step
            )
            model.optimizer.build(model.trainable_variables)
            begin = [variable.numpy() for variable in _variables(model)]
            self._models[key] = model, begin
        return self._models[key]


class Learned(Trained):
    """Strengths from the training data alone; nothing is tuned and nothing stopped.

    A fit has what the last update found.
    """

    def fits(self, draw: Any) -> list[dict]:
        adaptive = AdaptiveStrengths(*draw.train, update_freq=1)
        fit = self.fit(draw, self.strengths[0], [adaptive], stop=False)
        return [{**fit, "setting": None, "found": adaptive.history[-1]}]


class Released:
    """A convolution that is trained first and then goes on without penalties.

    A warm start and no more: the control of what penalties are worth. The rate of the
    second training is tuned, and the convolution stands for no such training at all.

    Args:
        name: what the tables call it.
        before: of Keras's layer.
        after: of a SoftConv layer.
        rates: of the second training, to be tuned.
    """

    def __init__(
        self, name: str, before: Trained, after: Trained, rates: Sequence[float]
    ) -> None:
        self.name, self.rates = name, rates
        self.before, self.after = before, after

    def fits(self, draw: Any) -> list[dict]:
        """The convolution, and what becomes of it at each rate."""
        (held,) = self.before.fits(draw)
        weights = self.before.model(draw).get_weights()
        return [
            {**held, "setting": 0.0},
            *(
                {
                    **self.after.fit(draw, (0.0, 0.0), convolution=weights, rate=rate),
                    "setting": rate,
                }
                for rate in self.rates
            ),
        ]


def set_strengths(model: keras.Model, draw: Any, pair: Pair) -> None:
    """Of all layers that have some, in units of 1 / (examples * outputs)."""
    inputs, targets = draw.train
    unit = 1 / (len(inputs) * targets[0].size)
    for layer in model.layers:
        if isinstance(layer, BaseSoftConv):
            layer.tie_strength.assign(pair[0] * unit)
            layer.off_template_strength.assign(pair[1] * unit)
        elif isinstance(getattr(layer, "kernel_regularizer", None), Decay):
            layer.kernel_regularizer.factor.assign(pair[0] * unit)


def release(weights: Sequence[np.ndarray], model: keras.Model) -> None:
    """Let a model with a SoftConv layer predict what one with Keras's layer did.

    As `keras_softconv.soften` does, but in a model that is compiled already.

    Args:
        weights: of the model with Keras's layer.
        model: with a SoftConv layer in its place.
    """
    layer = model.layers[0]
    kernel, *rest = weights
    layer.shared_kernel.assign(kernel)
    layer.deviations.assign(keras.ops.zeros_like(layer.deviations))
    if layer.use_bias:
        bias, *rest = rest
        layer.shared_bias.assign(bias)
        layer.bias_deviations.assign(keras.ops.zeros_like(layer.bias_deviations))
    if rest:
        model.layers[-1].set_weights(rest)


def _variables(model: keras.Model) -> list[keras.Variable]:
    return [*model.weights, *model.optimizer.variables]


class Decay(keras.Regularizer):
    """Keras's `L2` with a factor that can be changed without compiling anew."""

    def __init__(self) -> None:
        self.factor = keras.Variable(0.0, trainable=False, name="decay")

    def __call__(self, weight: Any) -> Any:
        return self.factor * keras.ops.sum(keras.ops.square(weight))


class HeldAtZero(keras.constraints.Constraint):
    """A weight that is not there."""

    def __call__(self, weight: Any) -> Any:
        return keras.ops.zeros_like(weight)


def soft_layers(
    tie: keras.Regularizer | None, rank_layer: type = SoftConv2D, **arguments: Any
) -> Callable[[Any], list[keras.Layer]]:
    """Makes a SoftConv layer with penalties of factor 1, which begins at zero.

    Args:
        tie: regularizer of the ties.
        rank_layer: SoftConv1D, say.
        arguments: of the layer, beside those of the convolution.
    """

    def layers(draw: Any) -> list[keras.Layer]:
        given = {
            "kernel_initializer": "zeros",
            "tie_regularizer": tie,
            "off_template_regularizer": keras.regularizers.L2(1.0),
            **draw.convolution,
            **arguments,
        }
        return [rank_layer(**given)]

    return layers
