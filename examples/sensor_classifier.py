"""Classify series of sensors: where in time do the classes differ?

Two sensors are watched for 48 steps. Two short patterns, A and B, occur once in each
series. In series of one class A occurs within the steps 20 to 27 and B elsewhere, in those
of the other class it is the other way round. A convolution with a mean over time sees A
and B in both classes. A SoftConv1D layer can have other kernels where that helps. The
training data choose the strengths of its ties and of the readout's ridge, and the report
says at which steps the layer is no convolution.

    python examples/sensor_classifier.py [--quick] [--log-dir logs]
"""

import argparse
from pathlib import Path

import keras
import numpy as np

from keras_softconv import SoftConv1D, harden, structure_report
from keras_softconv.callbacks import AdaptiveStrengths, StructureMonitor
from keras_softconv.regularizers import FusedTies

STEPS, SENSORS, PATTERN = 48, 2, 5
WINDOW = range(20, 28)  # where a pattern of the class begins
TRAINING = 600
EPOCHS = 60
L2 = keras.regularizers.L2


def draw(examples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Series with noise of variance 1, and their classes."""
    patterns = 2 * np.random.default_rng(0).normal(size=(2, PATTERN, SENSORS))
    rng = np.random.default_rng(seed)
    series = rng.normal(size=(examples, STEPS, SENSORS))
    classes = rng.integers(2, size=examples)
    elsewhere = [
        step
        for step in range(STEPS - PATTERN + 1)
        if step + PATTERN <= WINDOW.start or step >= WINDOW.stop + PATTERN
    ]
    for one, label in zip(series, classes, strict=True):
        inside, outside = rng.choice(WINDOW), rng.choice(elsewhere)
        one[inside : inside + PATTERN] += patterns[label]
        one[outside : outside + PATTERN] += patterns[1 - label]
    return series.astype("float32"), classes


def make_model() -> keras.Model:
    """Kernels that may drift along time, and a ridge for the readout."""
    soft = SoftConv1D(
        8,
        PATTERN,
        activation="relu",
        halo=0,
        tie_regularizer=FusedTies(L2(1e-3)),
        name="soft",
    )
    layers = [
        soft,
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.Dense(2, kernel_regularizer=L2(1e-3), name="readout"),
    ]
    model = keras.Sequential([keras.Input((STEPS, SENSORS)), *layers], name="sensors")
    compile_model(model)
    return model


def compile_model(model: keras.Model) -> None:
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def train(model: keras.Model, data: tuple, epochs: int, callbacks: list) -> None:
    model.fit(*data, batch_size=50, epochs=epochs, verbose=0, callbacks=callbacks)


def right(model: keras.Model, data: tuple) -> float:
    """Rightly classified series in %."""
    return 100 * model.evaluate(*data, verbose=0, return_dict=True)["accuracy"]


def show_learned(found: dict) -> None:
    """What the training data say about the strengths."""
    print("\nWhat the training data chose:")
    for name, value in found.items():
        if "/" in name:
            print(f"  {name}: {value:.3g}")


def show_where(report: dict) -> None:
    """At which steps the kernels are furthest from the shared one."""
    positions = report["positions"]
    energies = np.array([place["deviation_energy"] for place in positions])
    print("\nDistance of the kernels from a convolution, by the step where they begin:")
    for step in range(0, len(energies), 2):
        pair = energies[step : step + 2].mean()
        print(f"  {step:2d} {'#' * round(50 * pair / energies.max())}")
    # A kernel that begins two steps beside a pattern still sees most of it.
    near = slice(WINDOW.start - 2, WINDOW.stop + 2)
    share = energies[near].sum() / energies.sum()
    print(
        f"Steps {near.start} to {near.stop - 1}, around the planted window, have "
        f"{share:.0%} of the deviations' energy and {12 / len(energies):.0%} of the steps."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds: a smoke test")
    parser.add_argument("--log-dir", type=Path, default=Path("logs") / "sensors")
    options = parser.parse_args()
    keras.utils.set_random_seed(0)

    examples = 200 if options.quick else TRAINING
    epochs = 4 if options.quick else EPOCHS
    training, test = draw(examples, seed=1), draw(2000, seed=2)
    model = make_model()
    adaptive = AdaptiveStrengths(*training, update_freq=2, probes=4, include="all")
    train(model, training, epochs, [adaptive, StructureMonitor(options.log_dir)])

    convolution = harden(make_model())
    compile_model(convolution)
    train(convolution, training, epochs, [])
    print(
        f"Rightly classified of {len(test[0])} new series: Conv1D "
        f"{right(convolution, test):.1f} %, SoftConv1D {right(model, test):.1f} %"
    )
    show_learned(adaptive.history[-1])
    show_where(structure_report(model)["sensors/soft"])
    print(f"\ntensorboard --logdir {options.log_dir}")


if __name__ == "__main__":
    main()
