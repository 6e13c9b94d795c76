"""Callbacks that show in TensorBoard what becomes of the structure in training."""

import os
import warnings
from pathlib import Path
from typing import Any

import keras
from keras import ops

from keras_softconv.arguments import is_integer
from keras_softconv.diagnostics import soft_layers, structure_numbers

RUN = "softconv"

DESCRIPTIONS = {
    "family_variance": "Mean squared distance of the template weights from the mean "
    "of their family. **0** is a convolution up to its off-template weights.",
    "off_template_mass": "Share of the absolute weights that a convolution would not "
    "have. **0** is a locally connected layer or a convolution.",
    "convolution_share": "Share of the squared weights that the nearest convolution "
    "explains. **1** is a convolution.",
    "tie_penalty": "What the ties add to the loss, strength included.",
    "off_template_penalty": "What the off-template weights add to the loss, strength "
    "included.",
}


class StructureMonitor(keras.callbacks.Callback):
    """Logs to TensorBoard how convolutional every SoftConv layer of a model is.

    For each layer, at nested models' depth too, it writes the scalars

        softconv/<layer path>/family_variance
        softconv/<layer path>/off_template_mass
        softconv/<layer path>/convolution_share
        softconv/<layer path>/tie_penalty
        softconv/<layer path>/off_template_penalty

    (formulas: `keras_softconv.diagnostics.structure_numbers` and `layer.penalties()`)
    at the step `optimizer.iterations`, beginning with the state before training, which
    is step 0 in a new model (of a model without weights yet it warns). They form a run of
    their own, `<log_dir>/softconv`, so `log_dir` can be the one given to
    `keras.callbacks.TensorBoard`. It is written by TensorBoard's own writer, on every
    backend, and by one process only where `keras.distribution` spreads the training over
    several; the callback has to be in all of them.

    At the end of each epoch the same numbers stand in `logs` under the same names, for
    `History` and for every callback that comes *after* this one in the list
    (`CSVLogger`, `EarlyStopping`, ...).

    Args:
        log_dir: folder of the TensorBoard logs.
        update_freq: `"epoch"` writes at the end of each epoch, `"batch"` after each
            batch, an int n after each n batches (steps of the optimizer).

    Raises:
        ValueError: for another `update_freq`, a `log_dir` that is a file, or a model
            without SoftConv layers.

    Example:
    ```python
    model.fit(x, y, callbacks=[keras_softconv.callbacks.StructureMonitor("logs")])
    ```
    """

    def __init__(
        self, log_dir: str | os.PathLike, update_freq: str | int = "epoch"
    ) -> None:
        super().__init__()
        self.log_dir = _standardize_log_dir(log_dir)
        self.update_freq = _standardize_update_freq(update_freq)
        self._writer = None
        self._last_step = None
        self._epoch_step = None
        if self.update_freq != "epoch":
            # Keras dispatches batches asynchronously, hence faster, on JAX and torch
            # as long as no callback defines this hook.
            self.on_train_batch_end = self._after_batch

    def set_model(self, model: keras.Model) -> None:
        if model is not self._model:
            self._last_step = None
        super().set_model(model)

    def on_train_begin(self, logs: dict | None = None) -> None:
        if not soft_layers(self.model) and self.model.built:
            raise ValueError(
                "StructureMonitor found no SoftConv layer to watch. Expected at least "
                f"one in the model. Received: model '{self.model.name}' with layers "
                f"{[layer.name for layer in self.model.layers]}. Add a SoftConv2D "
                "layer, or leave the callback out."
            )
        self._epoch_step = None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if self._epoch_step is None:
            self._write_start()
        self._epoch_step = self._step()

    def _write_start(self) -> None:
        # Not in `on_train_begin`, where `BackupAndRestore` may still have to restore.
        layers = soft_layers(self.model).values()
        if layers and all(layer.built for layer in layers):
            self._write(self._numbers())
        else:
            warnings.warn(
                f"StructureMonitor cannot log model '{self.model.name}' before "
                "training, because its weights are only made by the first step. Begin "
                "the model with `keras.Input`, or call `model.build(input_shape)`, to "
                "see the start as well.",
                stacklevel=2,
            )

    def _after_batch(self, batch: int, logs: dict | None = None) -> None:
        period = 1 if self.update_freq == "batch" else self.update_freq
        # Several steps may have passed at once (`steps_per_execution`).
        if self._step() // period > (self._last_step or 0) // period:
            self._write(self._numbers())

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        numbers = self._numbers()
        if logs is not None:
            logs.update(numbers)
        if self._step() == self._epoch_step:
            warnings.warn(
                "StructureMonitor places its numbers at `model.optimizer.iterations`, "
                f"which stood at {self._step()} all through epoch {epoch}, so it could "
                "log nothing. Train with `self.optimizer` in a custom `train_step`.",
                stacklevel=2,
            )
        if self.update_freq == "epoch":
            self._write(numbers)

    def on_train_end(self, logs: dict | None = None) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def _step(self) -> int:
        # `int` alone refuses what TensorFlow's strategies make of the variable.
        return int(ops.convert_to_numpy(self.model.optimizer.iterations))

    def _numbers(self) -> dict[str, float]:
        """Every number by its tag; only scalars leave the device."""
        numbers = {}
        # Through `self.model`, which brings the weights up to date on JAX.
        for path, layer in soft_layers(self.model).items():
            if not layer.built:
                continue
            named = structure_numbers(layer) | layer.penalties()
            values = ops.stack([ops.cast(value, "float32") for value in named.values()])
            for name, value in zip(named, ops.convert_to_numpy(values), strict=True):
                numbers[f"{RUN}/{path}/{name}"] = float(value)
        return numbers

    def _write(self, numbers: dict[str, float]) -> None:
        step = self._step()
        if step == self._last_step:
            return  # a second `fit` begins where the first one ended
        self._last_step = step
        if not _is_first_process():
            return
        if self._writer is None:
            self._writer = _new_writer(self.log_dir / RUN)
        for tag, value in numbers.items():
            description = DESCRIPTIONS[tag.rpartition("/")[2]]
            self._writer.add_scalar(tag, value, step, description=description)
        self._writer.flush()  # whatever becomes of the process


def _is_first_process() -> bool:
    if keras.backend.backend() != "jax":
        return True  # only on JAX does Keras train one model in several processes
    import jax

    return jax.process_index() == 0


def _new_writer(folder: Path) -> Any:
    # Imports TensorFlow where it is installed, hence not before it is needed.
    from tensorboard.summary import Writer

    return Writer(str(folder))


def _standardize_log_dir(log_dir: Any) -> Path:
    if not isinstance(log_dir, (str, os.PathLike)) or Path(log_dir).is_file():
        raise ValueError(
            "`log_dir` must be the path of a folder, which is made if need be. "
            f"Received: log_dir={log_dir!r}. Give a folder such as 'logs'."
        )
    return Path(log_dir)


def _standardize_update_freq(update_freq: Any) -> str | int:
    if isinstance(update_freq, str) and update_freq in ("epoch", "batch"):
        return update_freq
    if is_integer(update_freq) and update_freq > 0:
        return int(update_freq)
    raise ValueError(
        "`update_freq` must be 'epoch', 'batch' or a positive number of batches. "
        f"Received: update_freq={update_freq!r}. Use 'epoch', the cheapest."
    )
