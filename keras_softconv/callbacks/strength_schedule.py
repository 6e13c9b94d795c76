"""Strengths that move with time."""

import math
from collections.abc import Callable
from typing import Any

from keras_softconv.callbacks.chosen_layers import chosen_layers, standardize_layers
from keras_softconv.callbacks.fresh_copies import FreshCopies
from keras_softconv.compat import ops

Schedule = Callable[[int], Any]


class StrengthSchedule(FreshCopies):
    """Sets the strengths of SoftConv layers at each epoch or at each step.

    Nothing is compiled again: the strengths are variables. For schedules that differ from
    layer to layer use several of these callbacks.

    Args:
        tie_strength: a `keras.optimizers.schedules` object, or any function of the number
            of the epoch, or with `update_freq="batch"` of `optimizer.iterations`, that
            returns the strength; None leaves the ties alone.
        off_template_strength: the same for the off-template weights.
        layers: paths or names of the layers, one or a list; None for all.
        update_freq: `"epoch"` (at its beginning) or `"batch"`.

    Raises:
        ValueError: without any schedule; in training for a layer that does not exist, and
            for strengths that are negative or not finite.

    Examples:
        ```python
        rise = keras.optimizers.schedules.PolynomialDecay(0.0, 20, end_learning_rate=1.0)
        model.fit(x, y, epochs=30, callbacks=[StrengthSchedule(tie_strength=rise)])
        ```
    """

    moves_strengths = True  # A path of strengths refuses such callbacks.
    of_training = ("on_train_batch_begin",)

    def __init__(
        self,
        tie_strength: Schedule | None = None,
        off_template_strength: Schedule | None = None,
        layers: str | list[str] | None = None,
        update_freq: str = "epoch",
    ) -> None:
        super().__init__()
        self.schedules = {
            "tie_strength": tie_strength,
            "off_template_strength": off_template_strength,
        }
        self.layers = standardize_layers(layers)
        self._check_schedules()
        if update_freq not in ("epoch", "batch"):
            raise ValueError(
                "`update_freq` must be 'epoch' or 'batch'. Received: "
                f"update_freq={update_freq!r}. Use 'epoch' unless epochs are few."
            )
        self.update_freq = update_freq
        self._forget_training()

    def _forget_training(self) -> None:
        if self.update_freq == "batch":
            # Keras waits for every batch where it finds this method.
            self.on_train_batch_begin = self._before_batch

    def _check_schedules(self) -> None:
        schedules = self.schedules.values()
        is_callable = [s is None or callable(s) for s in schedules]
        if not all(is_callable) or not any(s is not None for s in schedules):
            raise ValueError(
                "StrengthSchedule needs a schedule for `tie_strength`, for "
                "`off_template_strength` or for both: a `keras.optimizers.schedules` "
                f"object or a function of the epoch or step. Received: {self.schedules}. "
                "For a constant use `layer.tie_strength.assign(value)`."
            )

    def on_train_begin(self, logs: dict | None = None) -> None:
        chosen_layers(self.model, self.layers, self)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if self.update_freq == "epoch":
            self._assign(epoch)

    def _before_batch(self, batch: int, logs: dict | None = None) -> None:
        # Not by `int` alone, which TensorFlow's strategies refuse.
        self._assign(int(ops.convert_to_numpy(self.model.optimizer.iterations)))

    def _assign(self, time: int) -> None:
        # Through `self.model`, which brings the weights up to date on JAX.
        layers = chosen_layers(self.model, self.layers, self).values()
        for name, schedule in self.schedules.items():
            if schedule is None:
                continue
            strength = self._strength(name, schedule, time)
            for layer in layers:
                getattr(layer, name).assign(strength)

    def _strength(self, name: str, schedule: Schedule, time: int) -> float:
        value = schedule(time)
        strength = float(ops.convert_to_numpy(value))
        if not (math.isfinite(strength) and strength >= 0):
            unit = "epoch" if self.update_freq == "epoch" else "step"
            raise ValueError(
                f"The schedule of `{name}` must return a finite number, 0 or more. "
                f"Received: {strength} at {unit} {time}. Correct the schedule."
            )
        return strength
