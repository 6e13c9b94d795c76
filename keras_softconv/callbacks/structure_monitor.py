"""The callback that shows in TensorBoard what becomes of the structure in training."""

import importlib.util
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

from keras_softconv.arguments import is_integer
from keras_softconv.callbacks.compiled_numbers import CompiledNumbers, Layers
from keras_softconv.callbacks.dashboard import RUN, tag_of
from keras_softconv.callbacks.event_log import event_files, is_logged
from keras_softconv.callbacks.structure_log import StructureLog
from keras_softconv.compat import keras, ops
from keras_softconv.diagnostics import soft_layers


class StructureMonitor(keras.callbacks.Callback):
    """Shows in TensorBoard how convolutional every SoftConv layer of a model is.

    For each layer, at nested models' depth too, it writes the scalars

        softconv/<layer path>/family_variance
        softconv/<layer path>/family_variance_min
        softconv/<layer path>/family_variance_max
        softconv/<layer path>/off_template_mass
        softconv/<layer path>/convolution_share
        softconv/<layer path>/tie_penalty
        softconv/<layer path>/off_template_penalty

    (formulas: `keras_softconv.diagnostics.structure_numbers` and `layer.penalties()`; path:
    `keras_softconv.diagnostics.soft_layers`) at the step `optimizer.iterations`, beginning
    with the state before training, which is step 0 in a new model (of a model without
    weights yet it warns). Besides, a layout for the Custom Scalars dashboard, with the
    range of the variance over the families; penalties and strengths for the HParams
    dashboard; and, at the end of the training, `structure_report` as text. On request it
    also writes histograms and pictures.

    They form a run of their own, `<log_dir>/softconv`, so `log_dir` can be the one given to
    `keras.callbacks.TensorBoard`. It is written by TensorBoard's own writer, on every
    backend, and by one process only where `keras.distribution` spreads the training over
    several (scalars, layout and strengths there); the callback has to be in all of them. A
    training that goes on, in the same process or in another, continues its curves; one that
    crashes leaves a log up to its last write.

    At the end of each epoch the scalars stand in `logs` under the same names, for
    `History` and for every callback that comes *after* this one in the list
    (`CSVLogger`, `EarlyStopping`, ...).

    Args:
        log_dir: folder of the TensorBoard logs.
        update_freq: `"epoch"` writes the scalars at the end of each epoch, `"batch"` after
            each batch, an int n after each n batches (steps of the optimizer).
        histogram_freq: after how many epochs to write histograms of the shades (template
            weights minus family means) and of the off-template weights; 0 for never.
        image_freq: after how many epochs to write the pictures of `keras_softconv.plots`
            that are legible for a layer of its size; 0 for never. Needs matplotlib.

    Raises:
        ValueError: for another frequency, a `log_dir` that is a file or cannot be written
            to, or a model without SoftConv layers; the last two when the training begins.
        ImportError: for pictures without matplotlib.

    Examples:
        ```python
        model.fit(x, y, callbacks=[keras_softconv.callbacks.StructureMonitor("logs")])
        ```
    """

    def __init__(
        self,
        log_dir: str | os.PathLike,
        update_freq: str | int = "epoch",
        histogram_freq: int = 0,
        image_freq: int = 0,
    ) -> None:
        super().__init__()
        self.log_dir = _standardize_log_dir(log_dir)
        self.update_freq = _standardize_update_freq(update_freq)
        self.histogram_freq = _standardize_epochs("histogram_freq", histogram_freq)
        self.image_freq = _standardize_epochs("image_freq", image_freq)
        if self.image_freq and importlib.util.find_spec("matplotlib") is None:
            raise ImportError(
                "`image_freq` draws with matplotlib, which is not installed. Received: "
                f"image_freq={image_freq}. `pip install matplotlib`, or leave it at 0."
            )
        self._numbers = CompiledNumbers()
        self._watched = None
        self._log = None
        self._has_logged = False
        self._begins_at = None  # see `StructureLog`
        self._last_step = None
        self._last_pictures = None
        self._epoch_step = None
        if self.update_freq != "epoch":
            # Keras dispatches batches asynchronously, hence faster, on JAX and torch
            # as long as no callback defines this hook.
            self.on_train_batch_end = self._after_batch

    def set_model(self, model: keras.Model) -> None:
        if model is not self._watched:
            self._last_step = self._last_pictures = None
        self._watched = model
        super().set_model(model)

    # Keras's moments.

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._check_layers()
        if _process()[0] == 0:
            _check_writable(self.log_dir / RUN)
        self._numbers.forget()
        self._epoch_step = None

    def _check_layers(self) -> None:
        if not soft_layers(self.model) and self.model.built:
            raise ValueError(
                "StructureMonitor found no SoftConv layer to watch. Expected at least "
                f"one in the model. Received: model '{self.model.name}' with layers "
                f"{[layer.name for layer in self.model.layers]}. Add a SoftConv2D "
                "layer, or leave the callback out."
            )

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if self._epoch_step is None:
            self._write_start()
        self._epoch_step = self._step()

    def _write_start(self) -> None:
        # Not in `on_train_begin`, where `BackupAndRestore` may still have to restore.
        self._find_beginning()
        layers = soft_layers(self.model).values()
        if not layers or not all(layer.built for layer in layers):
            warnings.warn(
                f"StructureMonitor cannot log model '{self.model.name}' before "
                "training, because its weights are only made by the first step. Begin "
                "the model with `keras.Input`, or call `model.build(input_shape)`, to "
                "see the start as well.",
                stacklevel=2,
            )
            return
        numbers = self._numbers(self._layers())  # by all processes alike
        if self._step() != self._last_step:
            self._write(numbers)
            self._write_pictures(0)

    def _find_beginning(self) -> None:
        """Where this `fit` goes on in the log, and what it overtakes there."""
        step, folder = self._step(), self.log_dir / RUN
        self._begins_at = None
        if self._last_step is None and self._has_logged:
            return  # another model than before
        if self._last_step is not None and step >= self._last_step:
            return  # after the last `fit`
        self._close()  # which an interrupted one has left open
        is_first = _process()[0] == 0
        if step == 0:
            is_new = is_first and not event_files(folder)
            self._begins_at = 0 if is_new else None
            return
        self._begins_at = step
        for path in list(self._layers())[:1] if is_first else ():
            if is_logged(folder, tag_of(path, "family_variance"), step):
                self._last_step, self._begins_at = step, step + 1

    def _after_batch(self, batch: int, logs: dict | None = None) -> None:
        period = 1 if self.update_freq == "batch" else self.update_freq
        # Several steps may have passed at once (`steps_per_execution`).
        if self._step() // period > (self._last_step or 0) // period:
            self._write(self._numbers(self._layers()))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._check_layers()  # of a model that was built meanwhile
        numbers = self._numbers(self._layers())
        if logs is not None:
            logs.update(numbers)
        if self._step() == self._epoch_step:
            warnings.warn(
                "StructureMonitor places its numbers at `model.optimizer.iterations`, "
                f"which stood at {self._step()} all through epoch {epoch}, so it could "
                "log nothing. Train with `self.optimizer` in a custom `train_step`.",
                stacklevel=2,
            )
            return
        if self.update_freq == "epoch":
            self._write(numbers)
        self._write_pictures(epoch + 1)

    def on_train_end(self, logs: dict | None = None) -> None:
        if self._log is not None and self._layers() and _sees_all_weights():
            self._log.report(self._layers(), self._step())
        self._close()
        self._numbers.forget()

    def _close(self) -> None:
        if self._log is not None:
            self._log.close()
        self._log = None

    # What is written.

    def _step(self) -> int:
        # `int` alone refuses what TensorFlow's strategies make of the variable.
        return int(ops.convert_to_numpy(self.model.optimizer.iterations))

    def _layers(self) -> Layers:
        # Through `self.model`, which brings the weights up to date on JAX.
        layers = soft_layers(self.model)
        return {path: layer for path, layer in layers.items() if layer.built}

    def _write(self, numbers: dict[str, float]) -> None:
        step = self._step()
        if step == self._last_step:
            return
        self._last_step = step
        if _process()[0] == 0:
            self._opened().numbers(numbers, step)

    def _write_pictures(self, epochs: int) -> None:
        step = self._step()
        if not _sees_all_weights() or step == self._last_pictures:
            return
        self._last_pictures = step
        if self.histogram_freq and epochs % self.histogram_freq == 0:
            self._opened().histograms(self._layers(), step)
        if self.image_freq and epochs % self.image_freq == 0:
            self._opened().pictures(self._layers(), step)

    def _opened(self) -> StructureLog:
        if self._log is None:
            folder = self.log_dir / RUN
            self._log = StructureLog(folder, self._layers(), self._begins_at)
            self._has_logged = True
        return self._log


def _process() -> tuple[int, int]:
    """The number of this process, and of how many."""
    if keras.backend.backend() != "jax":
        return 0, 1  # only on JAX does Keras train one model in several processes
    import jax

    return jax.process_index(), jax.process_count()


def _sees_all_weights() -> bool:
    return _process()[1] == 1


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"StructureMonitor cannot write to its log directory '{folder}': {error}. "
            "Expected a folder that can be made and written to. Give another `log_dir`."
        ) from error


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


def _standardize_epochs(name: str, frequency: Any) -> int:
    if is_integer(frequency) and frequency >= 0:
        return int(frequency)
    raise ValueError(
        f"`{name}` must be a number of epochs, or 0 for never. Received: "
        f"{name}={frequency!r}. Use 0, or 1 for every epoch."
    )
