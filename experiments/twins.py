"""A network of convolutions and the same one with soft layers, trained side by side.

Both begin with the same weights, see the same batches, and keep those of the round with the
least validation loss, penalties left out.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from panel import Data, MakeConvolution, Task

from keras_softconv import SoftConv1D, SoftConv2D
from keras_softconv.layers import BaseSoftConv

BATCH = 32
CONVOLUTIONS = {1: keras.layers.Conv1D, 2: keras.layers.Conv2D}
SOFT = {1: SoftConv1D, 2: SoftConv2D}
# From a soft layer to its tie and off-template factors.
Factors = Callable[[BaseSoftConv], tuple[float, float]]


class Twins:
    """Two compiled networks for a task.

    Args:
        task: the task.
        quick: whether to train for two rounds only, without XLA.
    """

    def __init__(self, task: Task, quick: bool = False) -> None:
        self.task = replace(task, rounds=2) if quick else task
        self._uses_xla = not quick
        # The weights that both begin with, and the data that they learn from.
        self._begin: list[np.ndarray] = []
        self._data: Data | None = None

    @cached_property
    def convolutional(self) -> keras.Model:
        return self._compiled(_convolution)

    @cached_property
    def soft(self) -> keras.Model:
        return self._compiled(partial(_soft, **self.task.soft))

    @property
    def soft_layers(self) -> list[BaseSoftConv]:
        return [layer for layer in self.soft.layers if isinstance(layer, BaseSoftConv)]

    @property
    def has_off_template(self) -> bool:
        """Whether any soft layer has weights off its template."""
        geometries = (layer.weight_sharing.geometry for layer in self.soft_layers)
        return any(geometry.size > geometry.template_size for geometry in geometries)

    def begin(self, data: Data) -> dict[str, float]:
        """Draw the first weights, and train the network of convolutions."""
        keras.utils.set_random_seed(data.seed)
        self._data = data
        fresh = keras.models.clone_model(self.convolutional)
        self.convolutional.set_weights(fresh.get_weights())
        self._begin = fresh.get_weights()
        found = self._trained(self.convolutional, self.task.rate)
        if self.task.pretrained_rate is not None:
            self._begin = self.convolutional.get_weights()
            found = self._trained(self.convolutional, self.task.pretrained_rate)
        return found

    def first_convolutional(self) -> keras.Model:
        """A network of convolutions with the weights that both networks begin with."""
        model = keras.models.clone_model(self.convolutional)
        model.set_weights(self._begin)
        return model

    def begin_soft(self) -> None:
        """Let the soft network predict what `first_convolutional` predicts."""
        _carry(self.first_convolutional(), self.soft)

    def train_soft(self, factors: Factors) -> dict[str, float]:
        """Train the soft network from where the other one began."""
        self.begin_soft()
        for layer in self.soft_layers:
            tie, off_template = factors(layer)
            layer.tie_strength.assign(tie)
            layer.off_template_strength.assign(off_template)
        rate = self.task.pretrained_rate or self.task.rate
        return self._trained(self.soft, rate)

    def _compiled(self, make: MakeConvolution) -> keras.Model:
        task = self.task
        keras.utils.set_random_seed(0)
        shape = task.draw(0).train[0].shape[1:]
        model = keras.Sequential([keras.Input(shape), *task.network(make)])
        loss = keras.losses.MeanSquaredError()
        bare = keras.metrics.MeanSquaredError("bare")
        if task.is_classifier:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            bare = keras.metrics.SparseCategoricalCrossentropy("bare", from_logits=True)
        model.compile(
            keras.optimizers.Adam(task.rate),
            loss,
            metrics=[bare],
            steps_per_execution=task.steps,
            jit_compile=self._uses_xla,
        )
        model.optimizer.build(model.trainable_variables)
        return model

    def _trained(self, model: keras.Model, rate: float) -> dict[str, float]:
        task, data = self.task, self._data
        for variable in model.optimizer.variables:
            variable.assign(keras.ops.zeros_like(variable))
        model.optimizer.learning_rate.assign(rate)
        stop = keras.callbacks.EarlyStopping(
            "val_bare", mode="min", patience=task.rounds, restore_best_weights=True
        )
        validation = tf.data.Dataset.from_tensors(data.validation).cache()
        history = model.fit(
            _batches(data, task),
            steps_per_epoch=task.steps,
            epochs=task.rounds,
            validation_data=validation,
            callbacks=[stop],
            shuffle=False,
            verbose=0,
        ).history
        outputs = model.predict(data.test[0], batch_size=500, verbose=0)
        found = {"validation": min(history["val_bare"]), "round": stop.best_epoch + 1}
        return found | _errors(task, outputs, data.test[1])


def _errors(task: Task, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    if not task.is_classifier:
        wrong = outputs.reshape(targets.shape) - targets
        return {"error": float(np.mean(wrong.astype(float) ** 2))}
    losses = keras.losses.sparse_categorical_crossentropy(targets, outputs, True)
    correct = 100 * np.mean(outputs.argmax(axis=-1) == targets)
    return {"error": float(np.mean(losses)), "correct": float(correct)}


def _convolution(rank: int, **arguments: Any) -> keras.layers.Layer:
    return CONVOLUTIONS[rank](**arguments)


def _soft(rank: int, **arguments: Any) -> BaseSoftConv:
    ridge = keras.regularizers.L2(1.0)
    penalties = {"tie_regularizer": ridge, "off_template_regularizer": ridge}
    return SOFT[rank](**penalties, **arguments)


def _carry(convolutional: keras.Model, soft: keras.Model) -> None:
    """Let the soft network predict what the other one predicts."""
    for hard, layer in zip(convolutional.layers, soft.layers, strict=True):
        if not isinstance(layer, BaseSoftConv):
            layer.set_weights(hard.get_weights())
            continue
        layer.shared_kernel.assign(hard.kernel)
        layer.deviations.assign(keras.ops.zeros_like(layer.deviations))
        if layer.use_bias:
            layer.shared_bias.assign(hard.bias)
            layer.bias_deviations.assign(keras.ops.zeros_like(layer.bias_deviations))


def _batches(data: Data, task: Task) -> tf.data.Dataset:
    """All batches of a training; every epoch has an order of its own."""
    inputs, targets = (tf.constant(part) for part in data.train)
    rng = np.random.default_rng(data.seed)
    steps, size = task.steps * task.rounds, len(inputs)
    orders = [rng.permutation(size) for _ in range(-(-steps * BATCH // size))]
    order = np.concatenate(orders)[: steps * BATCH].reshape(steps, BATCH)
    chosen = tf.data.Dataset.from_tensor_slices(order)
    return chosen.map(lambda i: (tf.gather(inputs, i), tf.gather(targets, i)))
