"""Which run of a log folder belongs to which model: no two models share a curve."""

import re
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_softconv.callbacks.dashboard import RUN, STATE
from keras_softconv.callbacks.event_log import values_of
from keras_softconv.callbacks.log_folder import (
    Attempts,
    joined,
    make_new_folder,
    names_in,
)
from keras_softconv.compat import keras

States = dict[int, np.ndarray]

RUN_NAME = re.compile(rf"{RUN}(_(\d+)_.*)?")

# Sums over the same weights differ by less than this factor between backends and machines.
SAME = 1e-5


@dataclass
class Run:
    """One run of TensorBoard, and the model that it belongs to.

    Args:
        log_dir: the folder that the runs of a monitor are in.
        folder: of the run.
        model: weak reference to the model that writes there, or was the last to do so.
        last_step: the step of the last scalars, None before the first.
        reached: the step that the model has reached.
        begins_at: what the run has at this step and later is replaced by what is written
            next; None if nothing is.
    """

    log_dir: Path | str
    folder: Path | str
    model: Any = field(default=lambda: None)
    last_step: int | None = None
    reached: int = 0
    begins_at: int | None = None


@dataclass(frozen=True)
class Moment:
    """Where a training is when its log is opened.

    Args:
        step: of the optimizer.
        state: float32 numbers of the weights, which no other model has at this step.
        began_at: the step at which the training began.
        was_restored: whether a callback of the same `fit` has brought the model there, as
            `BackupAndRestore` does.
    """

    step: int
    state: np.ndarray
    began_at: int
    was_restored: bool


# The runs that this process has written to, in the order in which they were begun. A
# monitor may be new, or a copy, while the model is not, so that monitors do not keep them.
_runs: dict[Path | str, Run] = {}


def choose_run(
    model: keras.Model, log_dir: Path | str, now: Moment, attempts: Attempts
) -> Run:
    """Continue a run of a model, or begin a new one.

    A model goes on with the run that it wrote last, unless it is back at step 0 and so
    begins another training. A model that this process has not logged before goes on with
    the run that has its weights at its step, if no other model of this process has gone
    on from there. All others get a run of their own, `softconv`,
    `softconv_2_<model name>` and so on.

    Args:
        model: the model that is trained.
        log_dir: the folder that the runs are in.
        now: where the training is.
        attempts: says so if a run cannot be read.
    """
    run = None
    if now.began_at > 0:
        run = _continue_own_run(model, log_dir, now, attempts)
        run = run or _resume_run(log_dir, now, attempts)
    elif (own := _own_run(model, log_dir)) is not None and own.reached == 0:
        run = own
        run.begins_at = None
    run = run or _begin_run(model, log_dir)
    _runs[run.folder] = run
    run.model = weakref.ref(model)
    return run


def _own_run(model: keras.Model, log_dir: Path | str) -> Run | None:
    """The run that this process has begun or continued last with a model."""
    own = [r for r in _runs.values() if r.log_dir == log_dir and r.model() is model]
    return own[-1] if own else None


def _continue_own_run(
    model: keras.Model, log_dir: Path | str, now: Moment, attempts: Attempts
) -> Run | None:
    run = _own_run(model, log_dir)
    if run is None:
        return None
    if now.step < run.reached:
        return _go_back(run, now, _states(run, attempts))
    run.begins_at = None
    return run


def _resume_run(log_dir: Path | str, now: Moment, attempts: Attempts) -> Run | None:
    """Continue the run that has this state of a model, the latest one first."""
    folders = [joined(log_dir, name) for name in reversed(_run_names(log_dir))]
    runs = [_runs.get(folder) or Run(log_dir, folder) for folder in folders]
    begun_before = []
    for run in runs:
        if run.reached > now.step and not now.was_restored:
            continue  # another model has gone on from there
        states = _states(run, attempts)
        if _has_state(states, now):
            return _go_back(run, now, states)
        if min(states, default=now.step) < now.step:
            begun_before.append((max(states), run, states))
    if not now.was_restored or not begun_before:
        return None
    # A backup can be made between two steps of the log. It is that of the longest run.
    _, run, states = max(begun_before, key=lambda one: one[0])
    return _go_back(run, now, states)


def _run_names(log_dir: Path | str) -> list[str]:
    """The runs of StructureMonitor in a folder, in the order in which they were begun."""
    found = [RUN_NAME.fullmatch(name) for name in names_in(log_dir)]
    return [one[0] for one in sorted(filter(None, found), key=_number)]


def _number(name: re.Match) -> int:
    return int(name[2] or 1)


def _states(run: Run, attempts: Attempts) -> States:
    """The numbers of the weights that are in the log, by step."""
    try:
        return values_of(run.folder, STATE)
    # Every file system raises errors of its own kind.
    except Exception as error:
        attempts.warn(error)
        return {}


def _has_state(states: States, now: Moment) -> bool:
    state = states.get(now.step)
    if state is None or state.shape != now.state.shape:
        return False
    return np.allclose(state, now.state, rtol=SAME, atol=0, equal_nan=True)


def _go_back(run: Run, now: Moment, states: States) -> Run:
    """Let the run go on from this moment: what comes after it is replaced."""
    is_written = _has_state(states, now)
    run.last_step = now.step if is_written else None
    run.reached = now.step
    run.begins_at = now.step + 1 if is_written else now.step
    return run


def _begin_run(model: keras.Model, log_dir: Path | str) -> Run:
    number = len(_run_names(log_dir))
    while True:
        number += 1
        name = RUN if number == 1 else f"{RUN}_{number}_{_as_file_name(model.name)}"
        folder = joined(log_dir, name)
        # Some remote file systems have no folders without files in them.
        if folder not in _runs and make_new_folder(folder):
            return Run(log_dir, folder, begins_at=0)


def _as_file_name(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)
