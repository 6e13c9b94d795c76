"""Makes models and runs their training steps on request, in a process of its own.

    KERAS_BACKEND=jax python benchmarks/worker.py contenders 2

reads requests as lines of JSON and answers each with a line of JSON. It runs under
Keras 3 with the module `contenders` and under Keras 2 with `contenders_keras2`; the
number is that of the cores to use.
"""

import gc
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

# Before a backend is imported, which counts its cores once.
if __name__ == "__main__" and hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[2])])

import numpy as np
from cases import CONV, CONV_KERAS2, Case

MODULE = sys.argv[1] if __name__ == "__main__" else "contenders"
BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")


class FitTraining:
    """Training with TensorFlow, step by step as `fit` does it."""

    def __init__(self, model: Any, x: np.ndarray, y: np.ndarray) -> None:
        import tensorflow as tf

        self.model = model
        options = tf.data.Options()
        # Its thread may sleep for many seconds before it lets go of an iterator.
        options.autotune.enabled = False
        self.batch = tf.data.Dataset.from_tensors((x, y)).with_options(options)
        self.batches = iter(self.batch.repeat())

    def first_step(self) -> None:
        self.model.fit(self.batch, verbose=0)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            logs = self.model.train_function(self.batches)
        float(logs["loss"])


class BatchTraining:
    """Training with JAX or torch; `train_on_batch` waits for the loss of every step."""

    def __init__(self, model: Any, x: np.ndarray, y: np.ndarray) -> None:
        from keras import ops

        self.model = model
        self.batch = ops.convert_to_tensor(x), ops.convert_to_tensor(y)

    def first_step(self) -> None:
        self.run(1)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            float(self.model.train_on_batch(*self.batch))


class Worker:
    """What can be asked for: every public method, by name."""

    def __init__(self) -> None:
        self._contenders = import_module(MODULE).CONTENDERS
        self._training = {}
        # The first model of a process pays for what all share.
        conv = CONV if CONV in self._contenders else CONV_KERAS2
        tiny = asdict(Case(4, 1, 1, padding="valid", batch=2))
        self.make("warm-up", conv, tiny, jit_compile=False)
        self.drop("warm-up")

    def versions(self) -> dict[str, str]:
        import keras

        names = ["tensorflow"] if MODULE != "contenders" else [BACKEND]
        others = {name: import_module(name).__version__ for name in names}
        python = ".".join(map(str, sys.version_info[:3]))
        return {"Python": python, "Keras": keras.__version__, **others}

    def make(
        self, name: str, contender: str, case: dict[str, Any], jit_compile: bool
    ) -> float:
        """Make, compile and keep a model; seconds of its first step."""
        case = Case(**case)
        model = self._contenders[contender](case)
        model.compile("adam", "mse", jit_compile=jit_compile)
        rng = np.random.default_rng(0)
        x, y = (
            rng.normal(size=(case.batch, *shape[1:])).astype("float32")
            for shape in (model.input_shape, model.output_shape)
        )
        training = (FitTraining if BACKEND == "tensorflow" else BatchTraining)(model, x, y)
        self._training[name] = training
        return _seconds(training.first_step)

    def run(self, name: str, steps: int) -> float:
        """Seconds of so many consecutive steps."""
        return _seconds(self._training[name].run, steps)

    def export(self, name: str) -> float:
        """Megabytes of the graph of the exported SavedModel."""
        with tempfile.TemporaryDirectory() as folder:
            self._training[name].model.export(folder, verbose=False)
            return (Path(folder) / "saved_model.pb").stat().st_size / 1e6

    def drop(self, name: str) -> None:
        """Forget a model; TensorFlow keeps its memory until the process ends."""
        import keras

        del self._training[name]
        keras.backend.clear_session()
        if BACKEND == "torch":
            # Torch would compile more general code for the next model than for the first.
            import torch

            torch.compiler.reset()
        gc.collect()

    def peak(self) -> float:
        """Megabytes that the process has at most held in memory so far."""
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6

    def bandwidth(self, megabytes: int) -> float:
        """Bytes per second of adding one array to another in place, which moves three."""
        import tensorflow as tf

        length = megabytes * 10**6 // 4
        total, term = tf.Variable(tf.zeros([length])), tf.ones([length])

        @tf.function
        def add() -> None:
            total.assign_add(term, read_value=False)

        return 3 * 4 * length / _best_seconds(add)

    def matmul(self, size: int) -> float:
        """Floating-point operations per second of a product of square matrices."""
        import tensorflow as tf

        matrix = tf.random.normal([size, size])
        product = tf.function(lambda: tf.reduce_max(tf.matmul(matrix, matrix)[0]))
        return 2 * size**3 / _best_seconds(product)


def _seconds(function: Callable, *arguments: Any) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def _best_seconds(function: Callable, repetitions: int = 7) -> float:
    """Of a few runs after a first one: a bound is what the machine can do at its best."""
    function()
    return min(_seconds(function) for _ in range(repetitions))


def _answer(worker: Worker, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"value": getattr(worker, request.pop("do"))(**request)}
    except Exception as error:  # the coordinator decides what a failure means
        return {"error": f"{type(error).__name__}: {_gist(error)}"}


def _gist(error: Exception) -> str:
    """The line of a message that says most; TensorFlow's first says nothing."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and line[-1] != ":"), "")


def main() -> None:
    # Libraries print what they like: answers have a channel of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        print(json.dumps(_answer(worker, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
