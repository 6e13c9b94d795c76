"""Soften a trained network: which of its layers would rather not be convolutions?

A small Conv2D network learns the 8x8 digits that come with scikit-learn. `soften` turns
its convolutions into SoftConv2D layers that predict the same; fine-tuned with weak
penalties, each goes as far from a convolution as it pays. The report says which layers
left, and where; TensorBoard shows how.

    python examples/soften_a_network.py [--quick] [--log-dir logs] [--output where.png]
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

from keras_softconv import harden, soften, structure_report
from keras_softconv.callbacks import StructureMonitor
from keras_softconv.diagnostics import StructureReport

TRAINING = 1000
EPOCHS = 30
PENALTY = keras.regularizers.L2(3e-4)  # weak, for ties and off the template


def draw(training: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and their digits: to learn from, and to test with."""
    digits = load_digits()
    images = (digits.images / 16).astype("float32")[..., None]
    order = np.random.default_rng(0).permutation(len(images))
    parts = order[:training], order[1200:]
    return [(images[part], digits.target[part]) for part in parts]


def make_network() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="edges"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(16, 3, padding="same", activation="relu", name="strokes"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10, name="digit"),
        ],
        name="network",
    )


def train(model: keras.Model, data: tuple, epochs: int, callbacks=()) -> None:
    steps = epochs * -(-len(data[0]) // 32)
    rate = keras.optimizers.schedules.CosineDecay(1e-2, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.fit(*data, epochs=epochs, verbose=0, callbacks=list(callbacks))


def error(model: keras.Model, data: tuple) -> float:
    """Wrong digits in %."""
    logits = model.predict(data[0], verbose=0)
    return 100 * float(np.mean(logits.argmax(axis=1) != data[1]))


def draw_where(report: StructureReport) -> Figure:
    """For each layer, how far every output position is from the convolution."""
    kinds = {"deviation_energy": "within families", "off_template_energy": "off template"}
    figure = Figure(figsize=(7, 3.2 * len(report)), layout="constrained")
    panels = figure.subplots(len(report), len(kinds), squeeze=False)
    for row, (path, layer) in zip(panels, report.items(), strict=True):
        grid = np.max([place["position"] for place in layer["positions"]], axis=0) + 1
        for axes, (name, title) in zip(row, kinds.items(), strict=True):
            energies = np.reshape([place[name] for place in layer["positions"]], grid)
            image = axes.imshow(energies, cmap="cividis", vmin=0)
            axes.set(xticks=[], yticks=[], title=f"{path}: {title}")
            figure.colorbar(image, ax=axes, label="sum of squares")
    figure.suptitle("Where the layers left the convolution: a pixel for each output")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds: a smoke test")
    parser.add_argument("--log-dir", type=Path, default=Path("logs/soften"))
    parser.add_argument("--output", type=Path, default=Path("where.png"))
    options = parser.parse_args()
    epochs = 3 if options.quick else EPOCHS
    keras.utils.set_random_seed(0)
    data, test = draw(TRAINING)

    network = make_network()
    train(network, data, epochs)
    soft = soften(network, tie_regularizer=PENALTY, off_template_regularizer=PENALTY)
    before = error(network, test)
    monitor = StructureMonitor(options.log_dir, histogram_freq=10, image_freq=10)
    train(soft, data, epochs, [monitor])
    train(network, data, epochs)  # as long, for a fair comparison

    report = structure_report(soft)
    print(report)
    print(
        f"\nWrong digits: {before:.1f} % at first. After as much training again: as a "
        f"convolution {error(network, test):.1f} %,\nsoftened {error(soft, test):.1f} %, "
        f"and that hardened again {error(harden(soft), test):.1f} %."
    )
    draw_where(report).savefig(options.output, dpi=120)
    print(f"Picture: {options.output}\nTensorBoard: tensorboard --logdir {options.log_dir}")


if __name__ == "__main__":
    main()
