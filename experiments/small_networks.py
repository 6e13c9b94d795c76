"""Networks with one hidden layer of tanh units, trained over and over with every setting.

What the studies of Nowlan and Hinton's two tasks share. Every step takes all examples and
the rate falls to 0, so that the training ends at an optimum if it is not stopped early.
Strengths are in units of 1 / examples, as the loss is a mean squared error of one output.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from comparison import Fit, errors, mean_and_error, tuned
from networks import BaseNetwork, Decay, Layers, hidden_without_sharing, soft_hidden
from training import release

from keras_softconv import SoftConv1D
from keras_softconv.regularizers import GaussianMixture

ROUND = 50  # steps, after which early stopping looks at the validation error
RATE = 2e-2
QUIETLY: dict[str, Any] = {"shuffle": False, "verbose": 0}
MINUS = " − "  # noqa: RUF001
# Tie strength or weight decay, off-template strength, weight decay of the readout.
Setting = tuple[float, float, float]
Data = tuple[np.ndarray, np.ndarray]


class Network(BaseNetwork):
    """With one output.

    Args:
        shape: of an input, `(steps, channels)`.
        hidden: makes the hidden layer.
        activation: of the output.
        rounds: how often `ROUND` steps are made.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        hidden: Layers,
        activation: str,
        rounds: int,
    ) -> None:
        def readout(decay: Decay) -> list[keras.Layer]:
            unit = keras.layers.Dense(1, activation, kernel_regularizer=decay)
            return [keras.layers.Flatten(), unit]

        self.rounds = rounds
        super().__init__(
            shape,
            hidden,
            readout,
            ROUND * rounds,
            RATE,
            loss="mse",
            metrics=["mse"],
            steps_per_execution=ROUND,
            jit_compile=True,  # halves the time of so small a step
        )

    def train(
        self,
        data: Data,
        setting: Setting,
        seed: int,
        validation: Data | None = None,
        rounds: int | None = None,
        convolution: Sequence[np.ndarray] | None = None,
    ) -> int:
        """From the seed's weights to the end, or to those of the round that is best.

        Args:
            data: inputs and targets.
            setting: strengths.
            seed: of the weights.
            validation: inputs and targets; with them the best round's weights are kept.
            rounds: after which to stop, even if the rate is not at 0; None for all.
            convolution: weights of a network with Keras's layer, to begin with them.

        Returns:
            The round whose weights are kept.
        """
        self.begin(seed)
        if convolution is not None:
            release(convolution, self.model)
        self.set_strengths(setting, len(data[0]))
        rounds = rounds or self.rounds
        examples = tf.data.Dataset.from_tensors(data).cache().repeat()
        if validation is None:
            # One long epoch, since each costs as much as many steps of so small a network.
            self.model.fit(examples, steps_per_epoch=rounds * ROUND, **QUIETLY)
            return rounds
        stop = keras.callbacks.EarlyStopping(
            "val_mse", mode="min", patience=rounds, restore_best_weights=True
        )
        self.model.fit(
            examples,
            steps_per_epoch=ROUND,
            epochs=rounds,
            validation_data=tf.data.Dataset.from_tensors(validation).cache(),
            callbacks=[stop],
            **QUIETLY,
        )
        return stop.best_epoch + 1

    def set_strengths(self, setting: Setting, examples: int) -> None:
        """In units of 1 / examples."""
        self.assign_strengths(*(strength / examples for strength in setting))

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Like the targets, `(examples, 1)`."""
        return np.asarray(self.model.predict_on_batch(inputs))


class Released:
    """A convolution that is trained first and then goes on without penalties.

    A warm start and no more. Only the readout keeps its weight decay. Trains and predicts
    as a `Network` does. A setting is the weight decay of the convolution, the rate of the
    second training, and the weight decay of the readout.

    Args:
        before: with Keras's layer.
        after: with a SoftConv layer, for nothing else.
    """

    def __init__(self, before: Network, after: Network) -> None:
        self.before, self.after = before, after

    def train(
        self,
        data: Data,
        setting: Setting,
        seed: int,
        validation: Data | None = None,
        rounds: int | None = None,
    ) -> int:
        """Both trainings; only the second is stopped early or after so many rounds."""
        decay, rate, readout = setting
        self.before.train(data, (decay, 0.0, readout), seed)
        weights = self.before.model.get_weights()
        self.after.rate.assign(rate)
        free = 0.0, 0.0, readout
        return self.after.train(data, free, seed, validation, rounds, weights)

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Like the targets, `(examples, 1)`."""
        return self.after.predict(inputs)


# Hidden layers.


def dense(units: int) -> Layers:
    """Keras's `Dense`."""

    def layers(decay: Decay) -> list[keras.Layer]:
        units_of_tanh = keras.layers.Dense(units, "tanh", kernel_regularizer=decay)
        return [keras.layers.Flatten(), units_of_tanh]

    return layers


def convolution(padded: Sequence[keras.Layer] = (), **arguments: Any) -> Layers:
    """Keras's `Conv1D`, behind layers that pad."""

    def layers(decay: Decay) -> list[keras.Layer]:
        conv = keras.layers.Conv1D(**arguments, activation="tanh", kernel_regularizer=decay)
        return [*padded, conv]

    return layers


def soft(**arguments: Any) -> Layers:
    """SoftConv1D, with ridges and begun as a convolution if not told otherwise."""
    return soft_hidden(SoftConv1D, **arguments, activation="tanh")


def without_sharing(**arguments: Any) -> Layers:
    """SoftConv1D without a shared kernel."""
    return hidden_without_sharing(SoftConv1D, **arguments, activation="tanh")


def mixture(components: int, spread: float, **arguments: Any) -> Layers:
    """A mixture of Gaussians as the prior of all weights of the template."""
    prior = GaussianMixture(1.0, components, spread)
    return without_sharing(tie_regularizer=prior, **arguments)


# Cells of tables.


def differences(
    of_task: dict[str, list[list[Fit]]],
    name: str,
    rivals: Sequence[str],
    digits: int,
    sign: int = 1,
) -> list[str]:
    """Errors less those of each rival, draw by draw: mean and standard error.

    Args:
        of_task: all fits of a task.
        name: of the method.
        rivals: their names; the cell of one that was left out is empty.
        digits: behind the point.
        sign: -1 to take rates of success in place of errors.
    """
    mine = errors(tuned(of_task[name]))
    return [
        "" if rival == name or rival not in of_task
        else mean_and_error(sign * (mine - errors(tuned(of_task[rival]))), digits)
        for rival in rivals
    ]  # fmt: skip
