"""Which run of a log folder belongs to which model: no two models share a curve."""

import gc
import re
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_softconv.callbacks.dashboard import RUN, STATE
from keras_softconv.callbacks.event_log import values_of
from keras_softconv.callbacks.log_folder import Attempts, joined, made_new, names_in
from keras_softconv.compat import keras

States = dict[int, np.ndarray]

RUN_NAME = re.compile(rf"{RUN}(_(\d+)_.*)?")

# Sums over the same weights differ so much from one backend or machine to another.
SAME = 1e-5


@dataclass
class Run:
    """One run of TensorBoard, and the model that it belongs to.

    Args:
        log_dir: the folder that the runs of a monitor are in.
        folder: of the run.
        model: weak reference to the model that writes there, or was the last to do so.
        last_step: the last step that was written, None before the first.
        begins_at: what the run has at this step and later is overtaken by what is written
            next; None if nothing is.
    """

    log_dir: Path | str
    folder: Path | str
    model: Any = field(default=lambda: None)
    last_step: int | None = None
    begins_at: int | None = None

    def is_of(self, model: keras.Model) -> bool:
        return self.model() is model

    def may_be_resumed_at(self, now: "Moment") -> bool:
        """Whether no other model in this process has gone on from there.

        A model that a backup has been restored to is not another one, but the same that is
        made again.
        """
        if self.last_step is None or self.last_step <= now.step or now.was_restored:
            return True
        gc.collect()  # A model that nobody can train any more may still be in memory.
        return self.model() is None


@dataclass(frozen=True)
class Moment:
    """Where a training stands when it begins to write.

    Args:
        step: of the optimizer.
        state: float32 numbers of the weights, which no other model has at this step.
        was_restored: whether a callback of the same `fit` has brought the model there, as
            `BackupAndRestore` does.
    """

    step: int
    state: np.ndarray
    was_restored: bool


# The runs that this process has written to, in the order in which they were begun. A
# monitor may be new, or a copy, while the model is not, so that monitors do not keep them.
_runs: dict[Path | str, Run] = {}


def run_of(model: keras.Model, log_dir: Path | str, now: Moment, attempts: Attempts) -> Run:
    """The run that a model goes on with, or a new one.

    A model goes on with the run that it wrote last, unless it is back at step 0 and so
    begins another training. A model that this process has not logged before goes on with
    the run that has the very state of its weights at its step. All others get a run of
    their own, `softconv`, `softconv_2_<model name>` and so on.

    Args:
        model: the model that is trained.
        log_dir: the folder that the runs are in.
        now: where the training stands.
        attempts: calls what reads files, and may fail.
    """
    run = _own_run(model, log_dir, now, attempts) or _resumed_run(log_dir, now, attempts)
    if run is None:
        run = _new_run(model, log_dir)
    _runs[run.folder] = run
    run.model = weakref.ref(model)
    return run


def _own_run(
    model: keras.Model, log_dir: Path | str, now: Moment, attempts: Attempts
) -> Run | None:
    own = [run for run in _runs.values() if run.log_dir == log_dir and run.is_of(model)]
    if not own:
        return None
    run = own[-1]
    last_step = run.last_step or 0
    if now.step == 0 and last_step > 0:
        return None
    if now.step < last_step:
        return _going_back(run, now, _states(run, attempts))
    run.begins_at = None
    return run


def _resumed_run(log_dir: Path | str, now: Moment, attempts: Attempts) -> Run | None:
    if now.step == 0:
        return None
    folders = [joined(log_dir, name) for name in reversed(_run_names(log_dir))]
    runs = [_runs.get(folder) or Run(log_dir, folder) for folder in folders]
    runs = [run for run in runs if run.may_be_resumed_at(now)]
    states = [_states(run, attempts) for run in runs]
    for run, of_run in zip(runs, states, strict=True):
        if _has_state(of_run, now):
            return _going_back(run, now, of_run)
    if now.was_restored:
        for run, of_run in zip(runs, states, strict=True):
            if min(of_run, default=now.step) < now.step:
                return _going_back(run, now, of_run)
    return None


def _states(run: Run, attempts: Attempts) -> States:
    """The numbers of the weights that are in the log, by step."""
    return attempts(values_of, run.folder, STATE) or {}


def _run_names(log_dir: Path | str) -> list[str]:
    """The runs of StructureMonitor in a folder, in the order in which they were begun."""
    found = [RUN_NAME.fullmatch(name) for name in names_in(log_dir)]
    return [one[0] for one in sorted(filter(None, found), key=_number)]


def _number(name: re.Match) -> int:
    return int(name[2] or 1)


def _has_state(states: States, now: Moment) -> bool:
    state = states.get(now.step)
    if state is None or state.shape != now.state.shape:
        return False
    return np.allclose(state, now.state, rtol=SAME, atol=0, equal_nan=True)


def _going_back(run: Run, now: Moment, states: States) -> Run:
    """The run, of which what comes after this moment is overtaken."""
    is_written = _has_state(states, now)
    run.last_step = now.step if is_written else None
    run.begins_at = now.step + 1 if is_written else now.step
    return run


def _new_run(model: keras.Model, log_dir: Path | str) -> Run:
    names = _run_names(log_dir)
    number = len(names)
    while True:
        number += 1
        name = RUN if number == 1 else f"{RUN}_{number}_{_as_file_name(model.name)}"
        folder = joined(log_dir, name)
        if made_new(folder):
            return Run(log_dir, folder, begins_at=0)


def _as_file_name(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)
