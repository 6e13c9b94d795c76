"""What StructureMonitor costs a training.

    python benchmarks/monitoring.py [--rounds 5]

For each backend that is installed, in a process of its own. The first columns are about
one write of the scalars in a hundred steps: the time of a step, the time of a write in % of
that of its hundred steps (median over the rounds), and the time of the first write, which
compiles. The last columns are the seconds of one set of histograms, of one set of pictures
and of two reports, each of all layers. Below the table are trainings of one epoch: what
each takes longer with a monitor, from the second one on, and how much memory thirty of
them take. Last comes the report of two layers of 1.3 million families.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from statistics import median
from typing import NamedTuple

from reports import table

BACKENDS = ("tensorflow", "jax", "torch")
STEPS = 100
BATCH = 32


class Case(NamedTuple):
    """Layers of one kind, one after the other, with 3x3 kernels and padding "same"."""

    side: int
    channels: int
    filters: int
    halo: int | None
    layers: int = 1
    steps: int = STEPS  # between two writes


CASES = {
    "8x8x1 to 8": Case(8, 1, 8, None),
    "16x16x3 to 16": Case(16, 3, 16, None),
    "24x24x3 to 16": Case(24, 3, 16, None),
    "32x32x3 to 16, halo=0": Case(32, 3, 16, 0),
    "35 layers, 8x8x16 to 16, halo=0": Case(8, 16, 16, 0, layers=35, steps=5),
}


def seconds(function, *arguments, **options) -> float:
    begin = time.perf_counter()
    function(*arguments, **options)
    return time.perf_counter() - begin


def model_and_images(case: Case, count: int) -> tuple:
    import keras
    import numpy as np

    from keras_softconv import SoftConv2D

    layers = [
        SoftConv2D(case.filters, 3, padding="same", halo=case.halo)
        for _ in range(case.layers)
    ]
    model = keras.Sequential([keras.Input((case.side, case.side, case.channels)), *layers])
    model.compile("adam", "mse")
    rng = np.random.default_rng(0)
    images = [
        rng.normal(size=(count, case.side, case.side, depth)).astype("float32")
        for depth in (case.channels, case.filters)
    ]
    return model, images


def measure(case: Case, rounds: int) -> list[str]:
    """A row of the table: see the first lines of this file."""
    from keras_softconv.callbacks import StructureMonitor

    model, images = model_and_images(case, BATCH * case.steps)
    with tempfile.TemporaryDirectory() as folder:
        monitor = StructureMonitor(folder, update_freq=case.steps)
        monitor.set_model(model)
        monitor.on_train_begin()
        steps, writes = [], []
        for _ in range(rounds + 1):
            steps.append(seconds(model.fit, *images, batch_size=BATCH, verbose=0))
            writes.append(seconds(monitor.on_train_batch_end, case.steps))
        monitor.on_train_end()
    ratios = [write / step for write, step in zip(writes, steps, strict=True)]
    share = 100 * median(ratios[1:]) * case.steps / STEPS
    step = 1e3 * median(steps[1:]) / case.steps
    return [f"{step:.2f}", f"{share:.2f} %", f"{writes[0]:.1f}", *of_whole_weights(model)]


def of_whole_weights(model) -> list[str]:
    """Seconds of histograms and of pictures, and of the first report and the second."""
    from keras_softconv.callbacks.runs import Run
    from keras_softconv.callbacks.structure_log import StructureLog
    from keras_softconv.diagnostics import soft_layers

    layers = soft_layers(model)
    with tempfile.TemporaryDirectory() as folder:
        log = StructureLog(Run(folder, Path(folder)), layers)
        once = [seconds(write, layers, 0) for write in (log.histograms, log.pictures)]
        reports = [seconds(log.report, layers, 0) for _ in range(2)]
        return [*(f"{one:.1f}" for one in once), " / ".join(f"{r:.1f}" for r in reports)]


def thirty_fits() -> tuple[float, float]:
    """Seconds that a monitor adds to a short `fit`, and megabytes that thirty take."""
    from keras_softconv.callbacks import StructureMonitor

    model, images = model_and_images(Case(6, 2, 3, None), 20)
    without, within, sizes = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        monitor = StructureMonitor(folder)
        for _ in range(30):
            without.append(seconds(model.fit, *images, verbose=0))
            within.append(seconds(model.fit, *images, verbose=0, callbacks=[monitor]))
            sizes.append(resident())
    return median(within[1:]) - median(without[1:]), sizes[-1] - sizes[1]


def resident() -> float:
    """Megabytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def report_of_many_families() -> tuple[float, float]:
    """Seconds of the report that the monitor writes, the second time, and its megabytes.

    Megabytes are those that Python and NumPy allocate at once, of a run of their own.
    """
    import keras
    import numpy as np

    from keras_softconv import SoftConv2D
    from keras_softconv.diagnostics import report_of_layers, soft_layers

    names = ("first", "second")
    soft = [SoftConv2D(384, 3, padding="same", halo=0, name=name) for name in names]
    model = keras.Sequential([keras.Input((2, 2, 384)), *soft])
    rng = np.random.default_rng(0)
    for layer in soft:
        noise = rng.standard_normal(layer.deviations.shape, dtype="float32")
        layer.deviations.assign(0.01 * noise)
    layers = soft_layers(model)

    def write() -> str:
        return report_of_layers(layers, 10).to_markdown()

    taken = [seconds(write) for _ in range(2)][-1]
    tracemalloc.start()
    write()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return taken, peak / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", choices=BACKENDS, help="only this one")
    options = parser.parse_args()
    if options.backend is None:
        for backend in filter(importlib.util.find_spec, BACKENDS):
            command = [sys.executable, "-W", "ignore", __file__, "--backend", backend]
            command += ["--rounds", str(options.rounds)]
            environment = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
            subprocess.run(command, check=True, env={**os.environ, **environment})
        return
    added, grown = thirty_fits()
    rows = [[name, *measure(case, options.rounds)] for name, case in CASES.items()]
    head = ["layer", "step, ms", "a write / 100 steps", "first write, s"]
    head += ["histograms, s", "pictures, s", "report, s"]
    print(f"On {options.backend}:\n\n{table(head, rows)}\n")
    print(f"A fit of one epoch: {added:.2f} s more. Thirty of them: {grown:.1f} MB more.\n")
    taken, megabytes = report_of_many_families()
    print(f"Report of 2.7 million families: {taken:.2f} s, {megabytes:.0f} MB\n")


if __name__ == "__main__":
    main()
