"""What StructureMonitor costs a training: one write of its scalars in a hundred steps.

    python benchmarks/monitoring.py [--rounds 5]

For each backend that is installed, in a process of its own: a hundred steps of `fit`, then
one write, over and over. Told is the time of a write in % of that of its hundred steps, the
median over the rounds, how long the first write takes, which compiles, how long the report
of a layer of 50 million weights takes, and time and memory of the report at the end of a
training for two layers of 1.3 million families each.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from statistics import median

from reports import table

BACKENDS = ("tensorflow", "jax", "torch")
STEPS = 100
BATCH = 32
CASES = {
    "8x8x1 to 8": (8, 1, 8, None),
    "16x16x3 to 16": (16, 3, 16, None),
    "24x24x3 to 16": (24, 3, 16, None),
    "32x32x3 to 16, halo=0": (32, 3, 16, 0),
}


def seconds(function, *arguments, **options) -> float:
    begin = time.perf_counter()
    function(*arguments, **options)
    return time.perf_counter() - begin


def measure(case: tuple, rounds: int) -> tuple[float, float, float]:
    """Milliseconds of a step, the write in % of a hundred, seconds of the first write."""
    import keras
    import numpy as np

    from keras_softconv import SoftConv2D
    from keras_softconv.callbacks import StructureMonitor

    side, channels, filters, halo = case
    layer = SoftConv2D(filters, 3, padding="same", halo=halo)
    model = keras.Sequential([keras.Input((side, side, channels)), layer])
    model.compile("adam", "mse")
    rng = np.random.default_rng(0)
    images = [
        rng.normal(size=(BATCH * STEPS, side, side, depth)).astype("float32")
        for depth in (channels, filters)
    ]
    with tempfile.TemporaryDirectory() as folder:
        monitor = StructureMonitor(folder, update_freq=STEPS)
        monitor.set_model(model)
        monitor.on_train_begin()
        steps, writes = [], []
        for _ in range(rounds + 1):
            steps.append(seconds(model.fit, *images, batch_size=BATCH, verbose=0))
            writes.append(seconds(monitor.on_train_batch_end, STEPS))
        monitor.on_train_end()
    ratios = [100 * write / step for write, step in zip(writes, steps, strict=True)]
    return 1e3 * median(steps[1:]) / STEPS, median(ratios[1:]), writes[0]


def seconds_of_report() -> float:
    """Of `structure_report` for 50 million weights, the second time."""
    from keras_softconv import SoftConv2D, structure_report

    layer = SoftConv2D(16, 3, padding="same", deviation_initializer="glorot_uniform")
    layer.build((None, 32, 32, 3))
    return [seconds(structure_report, layer) for _ in range(2)][-1]


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
    rows = []
    for name, case in CASES.items():
        step, share, first = measure(case, options.rounds)
        rows.append([name, f"{step:.2f}", f"{share:.2f} %", f"{first:.1f}"])
    head = ["layer", "step, ms", "a write / 100 steps", "first write, s"]
    print(f"On {options.backend}:\n\n{table(head, rows)}\n")
    print(f"Report of 50 million weights: {seconds_of_report():.1f} s\n")
    taken, megabytes = report_of_many_families()
    print(f"Report of 2.7 million families: {taken:.2f} s, {megabytes:.0f} MB\n")


if __name__ == "__main__":
    main()
