"""Starts workers and lets contenders alternate in them."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any, Self

from cases import CAN_CONFINE, CORES, OF_KERAS2, Case, Entry, Setting

HERE = Path(__file__).parent
KERAS2 = Path(sys.prefix) / "keras2" / "bin" / "python"  # where `make bench` puts it


class WorkerError(RuntimeError):
    """A worker could not do what it was asked for."""


class WorkerDied(WorkerError):
    """Its process ended, and with it all the models that were in it."""


class WorkerProcess:
    """A `worker.py` in a process of its own, under the given interpreter."""

    def __init__(self, python: str, module: str, setting: Setting) -> None:
        environment = {
            **os.environ,
            "KERAS_BACKEND": setting.backend,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_ENABLE_ONEDNN_OPTS": str(int(setting.onednn)),
            "CUDA_VISIBLE_DEVICES": "",
            # Or torch would find what it compiled for another process.
            "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
        }
        self._messages = tempfile.TemporaryFile("w+")  # noqa: SIM115  as long as the worker
        self.process = subprocess.Popen(
            [python, "-W", "ignore", str(HERE / "worker.py"), module, str(setting.cores)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            text=True,
            env=environment,
        )

    def ask(self, do: str, **arguments: Any) -> Any:
        try:
            print(json.dumps({"do": do, **arguments}), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerDied(self._last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer["value"]

    def _last_words(self) -> str:
        code = self.process.wait()
        self._messages.seek(0)
        lines = self._messages.read().strip().splitlines()
        return f"its process ended with code {code}: {lines[-1] if lines else 'silently'}"

    def close(self) -> None:
        self.process.communicate()  # end of input ends the worker
        self._messages.close()


class Laboratory:
    """Workers, each started when first needed; use it in a `with` statement.

    Args:
        keras2: interpreter of an environment with Keras 2; where there is none, its
            contenders are left out.
    """

    def __init__(self, keras2: Path = KERAS2) -> None:
        self.keras2 = keras2
        self.versions: dict[str, str] = {}
        self._workers: dict[tuple[str, Setting], WorkerProcess] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.end_workers()

    def end_workers(self) -> None:
        """Free what their models held: TensorFlow keeps some of it until the end."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()

    def has(self, entry: Entry, setting: Setting) -> bool:
        """Whether what the entry needs is installed, and the cores are there."""
        if entry.contender in OF_KERAS2 and not self.keras2.exists():
            return False
        return self.has_setting(setting)

    def has_setting(self, setting: Setting) -> bool:
        if setting.cores != CORES and (setting.cores > CORES or not CAN_CONFINE):
            return False
        return importlib.util.find_spec(setting.backend) is not None

    def worker(
        self, setting: Setting, contender: str, fresh: bool = False
    ) -> WorkerProcess:
        """The process in which this contender runs.

        Args:
            fresh: start one that has not run anything; whoever asks closes it.
        """
        of_keras2 = contender in OF_KERAS2
        python = str(self.keras2) if of_keras2 else sys.executable
        module = "contenders_keras2" if of_keras2 else "contenders"
        # A process compiles or not, as each model asks.
        key = (module, replace(setting, jit_compile=False))
        worker = None if fresh else self._workers.get(key)
        if worker is not None and worker.process.poll() is not None:
            self._workers.pop(key).close()
            worker = None
        if worker is None:
            worker = WorkerProcess(python, *key)
            self._note_versions(worker, of_keras2)
            if not fresh:
                self._workers[key] = worker
        return worker

    def _note_versions(self, worker: WorkerProcess, of_keras2: bool) -> None:
        try:
            versions = worker.ask("versions")
        except WorkerError as error:
            worker.close()
            raise RuntimeError(f"A worker did not start: {error}") from error
        if of_keras2:
            versions = {
                "Keras 2": f"{versions['Keras']} on tensorflow {versions['tensorflow']}"
            }
        self.versions.update(versions)


@dataclass
class Contest:
    """Seconds of each entry's first step, and of a later step in every round."""

    setting: Setting
    first_steps: dict[Entry, float] = field(default_factory=dict)
    steps: dict[Entry, list[float]] = field(default_factory=dict)
    problems: dict[Entry, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Effort:
    """How long to measure: rounds, and seconds for an entry in each."""

    rounds: int = 7
    seconds: float = 0.04


QUICK = Effort(rounds=3, seconds=0.005)


def hold_contest(
    laboratory: Laboratory, setting: Setting, entries: Sequence[Entry], effort: Effort
) -> Contest:
    """Let the entries take turns, a few steps at a time.

    All entries of a version of Keras live in one process, which ends with the contest.
    An entry that fails is noted and left out of the rest; so are all entries whose
    process another one has ended.
    """
    contest = Contest(setting)
    counts = {}
    for entry in entries:
        try:
            contest.first_steps[entry] = make(laboratory, setting, entry)
            counts[entry] = _count_steps(laboratory, setting, entry, effort)
            contest.steps[entry] = []
        except WorkerError as error:
            _note_problem(contest, entry, error)
    for number in range(effort.rounds):
        for entry in _rotated(list(contest.steps), number):
            if entry not in contest.steps:
                continue
            try:
                seconds = run(laboratory, setting, entry, counts[entry])
            except WorkerError as error:
                _note_problem(contest, entry, error)
            else:
                contest.steps[entry].append(seconds / counts[entry])
    laboratory.end_workers()
    return contest


def _rotated(entries: list[Entry], number: int) -> list[Entry]:
    """Each round begins with another entry, so that none gains by its neighbour."""
    start = number % max(len(entries), 1)
    return entries[start:] + entries[:start]


def _note_problem(contest: Contest, entry: Entry, error: WorkerError) -> None:
    contest.problems[entry] = str(error)
    contest.steps.pop(entry, None)
    if isinstance(error, WorkerDied):
        for other in list(contest.steps):
            if (other.contender in OF_KERAS2) == (entry.contender in OF_KERAS2):
                contest.problems[other] = f"its process was ended by {entry.contender}"
                del contest.steps[other]


def _count_steps(
    laboratory: Laboratory, setting: Setting, entry: Entry, effort: Effort
) -> int:
    """Consecutive steps that fill a round: at least two, unless one takes far too long."""
    run(laboratory, setting, entry, 1)
    seconds = run(laboratory, setting, entry, 1)
    least = 2 if seconds < 4 * effort.seconds else 1
    return min(max(least, ceil(effort.seconds / seconds)), 100)


def make(laboratory: Laboratory, setting: Setting, entry: Entry) -> float:
    """Make a model, compile it and take its first step; seconds of that step."""
    worker = laboratory.worker(setting, entry.contender)
    return worker.ask("make", **request_to_make(setting, entry))


def request_to_make(setting: Setting, entry: Entry) -> dict[str, Any]:
    """What a worker has to know of an entry."""
    return {
        "name": str(entry),
        "contender": entry.contender,
        "case": asdict(entry.case),
        # Without a compiler JAX would run one operation at a time, which nobody does.
        "jit_compile": setting.jit_compile or setting.backend == "jax",
    }


def run(laboratory: Laboratory, setting: Setting, entry: Entry, steps: int) -> float:
    """Seconds of so many consecutive steps."""
    worker = laboratory.worker(setting, entry.contender)
    return worker.ask("run", name=str(entry), steps=steps)


def entries_of(
    laboratory: Laboratory,
    setting: Setting,
    contenders: Sequence[str],
    case: Case,
    however_large: bool = False,
) -> list[Entry]:
    """Those contenders that take part with this case in this setting."""
    entries = [Entry(name, case) for name in contenders]
    entries = [entry for entry in entries if laboratory.has(entry, setting)]
    return [e for e in entries if however_large or not e.is_left_out(setting)]
