"""Networks of likelihood_tasks.py, trained with fixed strengths and with learned ones."""

import math
from collections.abc import Collection, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from drawn import Data
from likelihood_tasks import Setting, Task
from networks import BaseNetwork, Decay

from keras_softconv.callbacks import AdaptiveStrengths
from keras_softconv.evidence.included import MovableRidge

BATCH = 100
RATE = 1e-2  # Adam's first one, which falls to 0
FIRST_DECAY = 1e-3  # where a decay is learned
SHARED_KERNEL, READOUT = "shared kernel", "readout"
L2 = keras.regularizers.L2
LOSSES = {
    True: lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    False: keras.losses.MeanSquaredError,
}
METRICS = {
    True: lambda: keras.metrics.SparseCategoricalCrossentropy("data", from_logits=True),
    False: lambda: keras.metrics.MeanSquaredError("data"),
}


class Network(BaseNetwork):
    """Trains and tests with the loss of a task.

    Args:
        task: has the layers.
        rounds: how often the steps of a round are made.
        learned: of `SHARED_KERNEL` and `READOUT` those whose decay is learned, while the
            others have none. None if settings give all decays.

    Attributes:
        include: for `AdaptiveStrengths`.
    """

    def __init__(
        self, task: Task, rounds: int, learned: Collection[str] | None = None
    ) -> None:
        self.rounds, self.round_steps = rounds, task.round_steps
        self.loss = LOSSES[task.is_classifier]()
        places = {SHARED_KERNEL, READOUT} if task.outputs else {SHARED_KERNEL}
        self.include = "all" if places.intersection(learned or ()) else None

        def ridge(place: str, decay: Decay) -> keras.Regularizer | None:
            if learned is None:
                return decay
            return L2(FIRST_DECAY) if place in learned else None

        def hidden(decay: Decay) -> list[keras.Layer]:
            layer = task.layer(
                tie_regularizer=L2(1.0),
                off_template_regularizer=L2(1.0),
                kernel_regularizer=ridge(SHARED_KERNEL, decay),
            )
            return [layer, *task.between()]

        def readout(decay: Decay) -> list[keras.Layer]:
            if not task.outputs:
                return []
            decay = ridge(READOUT, decay)
            return [keras.layers.Dense(task.outputs, kernel_regularizer=decay)]

        shape = task.draw(0).train[0].shape[1:]
        super().__init__(
            shape,
            hidden,
            readout,
            self.round_steps * rounds,
            RATE,
            loss=self.loss,
            metrics=[METRICS[task.is_classifier]()],
            steps_per_execution=self.round_steps,
            jit_compile=True,  # faster for so small a step
        )

    def begin(self, seed: int) -> None:
        """Also lets decays that were learned be what they were before."""
        super().begin(seed)
        for weight in self.model.trainable_weights:
            if isinstance(weight.regularizer, MovableRidge):
                weight.regularizer.strength.assign(1.0)

    def assign_strengths(
        self, ties: float, off_template: float, shared_kernel: float, readout: float
    ) -> None:
        """Of one setting."""
        super().assign_strengths(ties, off_template, readout)
        self.decay.factor.assign(shared_kernel)

    def fit(
        self,
        data: Data,
        strengths: Setting,
        callbacks: Sequence = (),
        validation: Any = None,
    ) -> dict[str, list[float]]:
        """Train from the weights that the seed draws.

        Args:
            data: with their seed.
            strengths: of ties, off the template, shared kernel and readout. The last two
                count unless they are learned.
            callbacks: of Keras's `fit`.
            validation: inputs and labels, or None.

        Returns:
            Keras's history.
        """
        self.begin(data.seed)
        self.assign_strengths(*strengths)
        examples = tf.data.Dataset.from_tensor_slices(data.train).cache()
        examples = examples.shuffle(len(data.train[0]), seed=data.seed).repeat()
        return self.model.fit(
            examples.batch(BATCH, drop_remainder=True),
            steps_per_epoch=self.round_steps,
            epochs=self.rounds,
            validation_data=validation,
            callbacks=list(callbacks),
            shuffle=False,
            verbose=0,
        ).history

    def error(self, part: tuple[np.ndarray, np.ndarray]) -> float:
        """The loss of some data, without penalties."""
        inputs, labels = part
        return float(self.loss(labels, self.model.predict_on_batch(inputs)))


class Fixed:
    """Strengths on a grid; stopped early by the error on validation data."""

    def __init__(self, name: str, network: Network, settings: Sequence[Setting]) -> None:
        self.name, self.network, self.settings = name, network, settings

    def fits(self, data: Data) -> list[dict[str, Any]]:
        return [self._fit(data, setting) for setting in self.settings]

    def _fit(self, data: Data, setting: Setting) -> dict[str, Any]:
        stop = keras.callbacks.EarlyStopping(
            "val_data", mode="min", patience=self.network.rounds, restore_best_weights=True
        )
        # All in one batch.
        validation = tf.data.Dataset.from_tensors(data.validation).cache()
        unit = 1 / data.train[1].size
        strengths = tuple(strength * unit for strength in setting)
        history = self.network.fit(data, strengths, [stop], validation)
        error = self.network.error(data.test)
        return {
            "setting": setting,
            "validation": min(history["val_data"]),
            "error": error,
        }


class Learned:
    """Strengths from the training data alone; no validation data, and nothing stopped.

    A fit has what the last update found, with strengths in units of 1 / terms.
    """

    def __init__(self, name: str, network: Network) -> None:
        self.name, self.network = name, network

    def fits(self, data: Data) -> list[dict[str, Any]]:
        adaptive = AdaptiveStrengths(
            *data.train, update_freq=1, probes=4, include=self.network.include
        )
        self.network.fit(data, (1.0, 1.0, 1.0, 1.0), [adaptive])
        found = dict(adaptive.history[-1])
        terms = data.train[1].size
        for name in found:
            if name.endswith("_strength"):
                factor = FIRST_DECAY if name.endswith("kernel_strength") else 1.0
                found[name] *= terms * factor
        return [{
            "setting": None,
            "validation": math.nan,
            "error": self.network.error(data.test),
            "training": self.network.error(data.train),
            "found": found,
        }]  # fmt: skip
