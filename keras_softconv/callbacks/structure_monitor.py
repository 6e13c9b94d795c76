"""The callback that shows in TensorBoard what becomes of the structure in training."""

import importlib.util
import os
import warnings
from pathlib import Path
from typing import Any

from keras_softconv.arguments import is_integer
from keras_softconv.callbacks.compiled_numbers import CompiledNumbers, Layers, ModelNumbers
from keras_softconv.callbacks.dashboard import WHOLE_MODEL
from keras_softconv.callbacks.fresh_copies import FreshCopies
from keras_softconv.callbacks.log_folder import Attempts, standardize_log_dir
from keras_softconv.callbacks.runs import Moment, choose_run
from keras_softconv.callbacks.structure_log import StructureLog
from keras_softconv.compat import keras, ops
from keras_softconv.diagnostics import soft_layers


class StructureMonitor(FreshCopies):
    """Shows in TensorBoard how convolutional every SoftConv layer of a model is.

    **What is written.** For each layer, also in nested models, the scalars

        softconv/<layer path>/family_variance
        softconv/<layer path>/family_variance_min
        softconv/<layer path>/family_variance_max
        softconv/<layer path>/off_template_mass
        softconv/<layer path>/convolution_share
        softconv/<layer path>/tie_penalty
        softconv/<layer path>/off_template_penalty
        softconv/<layer path>/tie_effective_weights (and others, after AdaptiveStrengths)

    with the formulas of `keras_softconv.diagnostics.structure_numbers` and
    `layer.penalties()`, and the paths of `keras_softconv.diagnostics.soft_layers`. There is
    also a layout for the Custom Scalars dashboard. Penalties and strengths are written for
    the HParams dashboard, and `structure_report` as text at the end of the training. On
    request there are histograms and pictures.

    **When.** At the step `optimizer.iterations`. The first values are those before
    training, at step 0 in a new model. A model without weights has no values before its
    first step, and the callback warns. Where the model has no optimizer, steps are batches
    or epochs, as in `update_freq`.

    **Where.** In a run of its own, `<log_dir>/softconv`, so `log_dir` can be the one given
    to `keras.callbacks.TensorBoard`. A second model gets the run
    `softconv_2_<model name>`, and so on. `run_dir` is the folder of the model that was
    trained last.

    **Resuming.** A training that goes on continues its curves, in the same process and in
    another. In another process it is recognised by its weights: its step has to be in the
    log. A training that crashes leaves a log up to its last write.

    **Failures.** A log that cannot be written is one warning, which names the folder. The
    training goes on, and so does the log as soon as it can be written again.

    **Several processes.** Where `keras.distribution` spreads the training over several
    processes the callback has to be in all of them, and the first one writes. It writes
    scalars, layout and strengths there.

    At the end of each epoch the numbers are added to `logs`, for `History` and for every
    callback that comes *after* this one in the list (`CSVLogger`, `EarlyStopping`, ...).

    Args:
        log_dir: folder of the TensorBoard logs, where `~` is the home folder, or the
            address of a remote one, such as `"gs://bucket/logs"`. Remote file systems are
            those of TensorFlow, or where it is not installed those of TensorBoard.
        update_freq: `"epoch"` writes the scalars at the end of each epoch, `"batch"` after
            each batch, an int n after each n batches (steps of the optimizer).
        histogram_freq: after how many epochs to write histograms of the per-position
            deviations (template weights minus family means) and of the off-template
            weights; 0 for never.
        image_freq: after how many epochs to write the pictures of `keras_softconv.plots`
            that are legible for a layer of its size; 0 for never. Needs matplotlib.
        logs: what is added to `logs` at the end of an epoch. `"summary"` is the one number
            `softconv/convolution_share`, of the weights of all layers together; `"all"`
            also adds the scalars of each layer; None adds nothing.

    Raises:
        ValueError: for another frequency or `logs`, a `log_dir` that is a file or on an
            unknown file system, or, when the training begins, a model without SoftConv
            layers.
        ImportError: for pictures without matplotlib.

    Examples:
        ```python
        model.fit(x, y, callbacks=[keras_softconv.callbacks.StructureMonitor("logs")])
        ```
    """

    of_training = (
        "_numbers",  # This is the compiled program.
        "_watched",  # This is the model that the following attributes are about.
        "_own_steps",  # Steps are counted here where the model has no optimizer.
        "_step_of_model",  # The model was at this step when `fit` was given the callback.
        "_was_restored",  # Another callback has moved the model to another step.
        "_began_at",  # The first epoch of this training began at this step, or None.
        "_run",  # The scalars of this training go there.
        "_log",  # It is opened with the first scalars.
        "_attempts",  # It catches what fails because of the log.
        "_warned",  # This training has given these warnings.
        "_last_step",  # The last scalars were those of this step.
        "_last_pictures",  # The last pictures were those of this step.
        "_epoch_step",  # This epoch began at this step.
        "on_train_batch_end",
    )

    def __init__(
        self,
        log_dir: str | os.PathLike,
        update_freq: str | int = "epoch",
        histogram_freq: int = 0,
        image_freq: int = 0,
        logs: str | None = "summary",
    ) -> None:
        super().__init__()
        self.log_dir = standardize_log_dir(log_dir)
        self.update_freq = _standardize_update_freq(update_freq)
        self.histogram_freq = _standardize_epochs("histogram_freq", histogram_freq)
        self.image_freq = _standardize_epochs("image_freq", image_freq)
        self.logs = _standardize_logs(logs)
        if self.image_freq and importlib.util.find_spec("matplotlib") is None:
            raise ImportError(
                "`image_freq` draws with matplotlib, which is not installed. Received: "
                f"image_freq={image_freq}. `pip install matplotlib`, or leave it at 0."
            )
        self._forget_training()

    def _forget_training(self) -> None:
        self._numbers = CompiledNumbers()
        self._forget_model()
        if self.update_freq != "epoch":
            # Keras dispatches batches asynchronously, hence faster, on JAX and torch
            # as long as no callback defines this hook.
            self.on_train_batch_end = self._after_batch

    def _forget_model(self) -> None:
        self._watched = None
        self._own_steps = self._step_of_model = 0
        self._last_step = self._last_pictures = None
        self._begin_training()

    def _begin_training(self) -> None:
        self._was_restored = False
        self._run = self._log = None
        self._attempts = Attempts(self.log_dir)
        self._warned = set()
        self._began_at = self._epoch_step = None

    @property
    def run_dir(self) -> Path | str | None:
        """The folder of the run that this callback wrote to last, None before."""
        return None if self._run is None else self._run.folder

    # Keras's moments.

    def set_model(self, model: keras.Model) -> None:
        if model is not self._watched:
            self._forget_model()
        self._watched = model
        super().set_model(model)
        self._step_of_model = self._step()

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._begin_training()
        self._check_layers()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        # Not in `on_train_begin`, where `BackupAndRestore` may still have to restore.
        if self._began_at is None:
            self._began_at = self._step()
            self._was_restored = self._began_at != self._step_of_model
            self._write_start()
        self._epoch_step = self._step()

    def _after_batch(self, batch: int, logs: dict | None = None) -> None:
        period = 1 if self.update_freq == "batch" else self.update_freq
        self._own_steps += 1
        # Several steps may have passed at once (`steps_per_execution`).
        if self._step() // period > (self._last_step or 0) // period:
            self._write(self._numbers_now())

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._check_layers()  # The first epoch may have built the model.
        if self.update_freq == "epoch":
            self._own_steps += 1
        numbers = self._numbers_now()
        if logs is not None:
            logs.update(self._for_logs(numbers))
        if self._step() == self._epoch_step:
            self._warn_once(
                "StructureMonitor writes its numbers at `model.optimizer.iterations`, "
                f"which stayed at {self._step()} through an epoch, so that there was "
                "nothing to log. Train with `self.optimizer` in a custom `train_step`."
            )
            return
        if self.update_freq == "epoch":
            self._write(numbers)
        else:
            self._write_state(numbers)
        self._write_pictures(epoch + 1)

    def on_train_end(self, logs: dict | None = None) -> None:
        if self._log is not None and self._layers() and _sees_all_weights():
            self._attempts(self._log.report, self._layers(), self._step())
        self._log = None

    def _check_layers(self) -> None:
        if not soft_layers(self.model) and self.model.built:
            raise ValueError(
                "StructureMonitor found no SoftConv layer to watch. Expected at least "
                f"one in the model. Received: model '{self.model.name}' with layers "
                f"{[layer.name for layer in self.model.layers]}. Add a SoftConv2D "
                "layer, or leave the callback out."
            )

    # What is asked of the model.

    def _step(self) -> int:
        optimizer = getattr(self.model, "optimizer", None)
        if optimizer is None:
            return self._own_steps
        # `int` alone refuses what TensorFlow's strategies make of the variable.
        return int(ops.convert_to_numpy(optimizer.iterations))

    def _layers(self) -> Layers:
        # Through `self.model`, which brings the weights up to date on JAX.
        layers = soft_layers(self.model)
        return {path: layer for path, layer in layers.items() if layer.built}

    def _numbers_now(self) -> ModelNumbers:
        """The numbers of all layers; where there are several processes, in each of them."""
        return self._numbers(self._layers(), getattr(self.model, "train_function", None))

    def _for_logs(self, numbers: ModelNumbers) -> dict[str, float]:
        if self.logs is None or not numbers.scalars:
            return {}
        summary = {WHOLE_MODEL: numbers.convolution_share}
        return summary | numbers.scalars if self.logs == "all" else summary

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            warnings.warn(message, stacklevel=3)
        self._warned.add(message)

    # What is written.

    def _write_start(self) -> None:
        layers = soft_layers(self.model).values()
        if not layers or not all(layer.built for layer in layers):
            self._warn_once(
                f"StructureMonitor cannot log model '{self.model.name}' before "
                "training, because its weights are only made by the first step. Begin "
                "the model with `keras.Input`, or call `model.build(input_shape)`, to "
                "see the start as well."
            )
            return
        numbers = self._numbers_now()
        self._choose_run(numbers)
        is_written = self._run is not None and self._run.last_step == self._step()
        self._last_step = self._step() if is_written else None
        if not is_written:
            self._write(numbers)
            self._write_pictures(0)

    def _write(self, numbers: ModelNumbers) -> None:
        step = self._step()
        if step == self._last_step:
            return
        self._last_step = step
        if self._run is None:
            self._choose_run(numbers)
        if self._run is not None:
            self._attempts(lambda: self._opened_log().numbers(numbers, step))
            self._run.last_step = self._run.reached = step

    def _write_state(self, numbers: ModelNumbers) -> None:
        """Let a model that is saved at the end of this epoch be recognised later."""
        step = self._step()
        if self._run is not None and step != self._last_step:
            self._attempts(lambda: self._opened_log().state(numbers, step))
            self._run.reached = step

    def _write_pictures(self, epochs: int) -> None:
        step = self._step()
        if self._run is None or not _sees_all_weights() or step == self._last_pictures:
            return
        self._last_pictures = step
        layers = self._layers()
        if self.histogram_freq and epochs % self.histogram_freq == 0:
            self._attempts(lambda: self._opened_log().histograms(layers, step))
        if self.image_freq and epochs % self.image_freq == 0:
            self._attempts(lambda: self._opened_log().pictures(layers, step))

    def _choose_run(self, numbers: ModelNumbers) -> None:
        """Find the run of this model, in the process that writes."""
        if _process()[0] != 0:
            return
        state = numbers.energies.ravel()
        began_at = self._step() if self._began_at is None else self._began_at
        now = Moment(self._step(), state, began_at, self._was_restored)
        arguments = (self.model, self.log_dir, now, self._attempts)
        self._run = self._attempts(choose_run, *arguments)

    def _opened_log(self) -> StructureLog:
        if self._log is None:
            self._log = StructureLog(self._run, self._layers())
        return self._log


def _process() -> tuple[int, int]:
    """The number of this process, and of how many."""
    if keras.backend.backend() != "jax":
        return 0, 1  # only on JAX does Keras train one model in several processes
    import jax

    return jax.process_index(), jax.process_count()


def _sees_all_weights() -> bool:
    return _process()[1] == 1


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


def _standardize_logs(logs: Any) -> str | None:
    if logs is None or (isinstance(logs, str) and logs in ("summary", "all")):
        return logs
    raise ValueError(
        "`logs` must be 'summary', 'all' or None. Received: "
        f"logs={logs!r}. Use 'summary' for one number of the whole model."
    )
