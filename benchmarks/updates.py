"""What an update of AdaptiveStrengths costs, in epochs of the training.

    python benchmarks/updates.py [--probes 4]

Two classifiers of digits with batches of 32: one SoftConv2D layer, and three layers with
BatchNormalization. Epochs and updates alternate, after both were compiled; medians.
"""

import argparse
import time
from statistics import median

import keras
import numpy as np
from sklearn.datasets import load_digits

from keras_softconv import SoftConv2D
from keras_softconv.callbacks import AdaptiveStrengths
from keras_softconv.diagnostics.tables import markdown_table

EXAMPLES, ROUNDS = 1000, 7


class Timed(AdaptiveStrengths):
    """Notes how long its updates take."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self.seconds: list[float] = []

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        begin = time.perf_counter()
        super().on_epoch_end(epoch, logs)
        self.seconds.append(time.perf_counter() - begin)


def digits() -> tuple[np.ndarray, np.ndarray]:
    data = load_digits()
    images = (data.images / 16).astype("float32")[..., None]
    return images[:EXAMPLES], data.target[:EXAMPLES]


def networks() -> dict[str, keras.Model]:
    """Compiled classifiers by name."""

    def block(filters: int) -> list[keras.Layer]:
        soft = SoftConv2D(filters, 3, padding="same", halo=0)
        return [soft, keras.layers.BatchNormalization(), keras.layers.ReLU()]

    layers = {
        "one layer": [SoftConv2D(8, 3, halo=0, activation="relu")],
        "three layers": [one for filters in (8, 16, 16) for one in block(filters)],
    }
    models = {}
    for name, body in layers.items():
        ridge = keras.regularizers.L2(1e-3)
        head = [keras.layers.Flatten(), keras.layers.Dense(10, kernel_regularizer=ridge)]
        model = keras.Sequential([keras.Input((8, 8, 1)), *body, *head])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss)
        models[name] = model
    return models


def measure(model: keras.Model, probes: int) -> tuple[float, float]:
    """Median seconds of an epoch, and of an update."""
    x, y = digits()
    callback = Timed(x, y, update_freq=1, probes=probes, include="all")
    model.fit(x, y, epochs=2, verbose=0, callbacks=[callback])  # compiles
    epochs, updates = [], []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        model.fit(x, y, epochs=1, verbose=0, callbacks=[callback])
        updates.append(callback.seconds[-1])
        epochs.append(time.perf_counter() - begin - updates[-1])
    return median(epochs), median(updates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--probes", type=int, default=4)
    options = parser.parse_args()
    rows = [["network", "epoch", "update", "update / epoch"]]
    for name, model in networks().items():
        epoch, update = measure(model, options.probes)
        cells = f"{1000 * epoch:.0f} ms", f"{1000 * update:.0f} ms", f"{update / epoch:.1f}"
        rows.append([name, *cells])
    print(f"{keras.backend.backend()}, {options.probes} probes\n\n{markdown_table(rows)}")


if __name__ == "__main__":
    main()
