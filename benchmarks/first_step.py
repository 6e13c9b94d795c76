"""How long a user waits for the first training step, and how large an export is.

    python benchmarks/first_step.py

A SoftConv2D of 33.5 million weights (64x64x1 to 64x64x2) against a Dense layer with
Keras's L2 of the same size: first step (tracing and compilation included), steps after
it, and the graph of the exported SavedModel. The contenders alternate in one process;
medians over the repetitions.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import keras
import numpy as np

import keras_softconv

SIDE, CHANNELS, FILTERS = 64, 1, 2


def make_dense() -> keras.Model:
    units = SIDE * SIDE * FILTERS
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE, CHANNELS)),
            keras.layers.Flatten(),
            keras.layers.Dense(units, kernel_regularizer=keras.regularizers.L2(1e-3)),
        ]
    )


def make_soft() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE, CHANNELS)),
            keras_softconv.SoftConv2D(FILTERS, 3, padding="same"),
            keras.layers.Flatten(),
        ]
    )


def seconds(function, *arguments) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def measure(make_model, steps: int) -> tuple[float, float, float]:
    """Seconds of the first step and of a later one, MB of the exported graph."""
    keras.utils.clear_session()
    model = make_model()
    model.compile("adam", "mse")
    x = np.zeros((8, SIDE, SIDE, CHANNELS), "float32")
    y = np.zeros((8, SIDE * SIDE * FILTERS), "float32")
    first = seconds(model.train_on_batch, x, y)
    later = median(seconds(model.train_on_batch, x, y) for _ in range(steps))
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, verbose=False)
        graph = (Path(folder) / "saved_model.pb").stat().st_size / 1e6
    return first, later, graph


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    contenders = {"Dense + L2": make_dense, "SoftConv2D": make_soft}
    results = {name: [] for name in contenders}
    for _ in range(options.repetitions):
        for name, make_model in contenders.items():
            results[name].append(measure(make_model, options.steps))
    print("| layer | first step, s | later step, s | SavedModel graph, MB |")
    print("|---|---|---|---|")
    for name, rows in results.items():
        columns = [f"{median(column):.2f}" for column in zip(*rows, strict=True)]
        print(f"| {name} | {' | '.join(columns)} |")


if __name__ == "__main__":
    main()
