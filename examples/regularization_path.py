"""How strong should the penalties be? Error and structure along a path of strengths.

The 8x8 digits of scikit-learn are denoised by one linear layer, as in denoise_digits.py,
with lasso ties: from a convolution (strong) towards a dense layer (weak). The loss is
convex, so that each strength may start from the optimum of the last one. ProximalAdam makes
ties and zeros exact, so that they can be counted. For comparison the strengths that
AdaptiveStrengths finds for ridges from the training data alone.

    python examples/regularization_path.py [--quick] [--output path.png]
"""

import argparse
from pathlib import Path

import keras
import matplotlib
import numpy as np
from matplotlib import pyplot
from sklearn.datasets import load_digits

from keras_softconv import RegularizationPath, SoftConv2D, regularization_path
from keras_softconv.callbacks import AdaptiveStrengths
from keras_softconv.optimizers import ProximalAdam

NOISE = 0.5
SIZE = 200
STEPS = 50  # an epoch
EPOCHS = 10
L1, L2 = keras.regularizers.L1, keras.regularizers.L2


def draw(seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Noisy and clean images: to train, to validate, to test."""
    rng = np.random.default_rng(seed)
    clean = (load_digits().images / 16 - 0.3).astype("float32")[..., None]
    noisy = clean + NOISE * rng.normal(size=clean.shape).astype("float32")
    order = rng.permutation(1200)
    parts = order[:SIZE], order[SIZE : 2 * SIZE], np.arange(1200, len(clean))
    return [(noisy[part], clean[part]) for part in parts]


def over_and_over(data: tuple[np.ndarray, np.ndarray]) -> list[np.ndarray]:
    """An epoch of many steps with all images."""
    return [np.tile(images, (STEPS, 1, 1, 1)) for images in data]


def make_model(penalty: type = L1, epochs: int = EPOCHS) -> keras.Model:
    """Penalties in units of the rule of thumb for ridges."""
    unit = 1 / (SIZE * 64)
    layer = SoftConv2D(
        1,
        3,
        padding="same",
        tie_regularizer=penalty(5 * unit),
        off_template_regularizer=penalty(20 * unit),
        name="soft",
    )
    model = keras.Sequential([keras.Input((8, 8, 1)), layer], name="denoiser")
    rate = keras.optimizers.schedules.CosineDecay(1e-2, STEPS * epochs)
    steps = {} if keras.backend.backend() == "torch" else {"steps_per_execution": STEPS}
    model.compile(ProximalAdam(rate), "mse", **steps)
    return model


def error(model: keras.Model, data: tuple[np.ndarray, np.ndarray]) -> float:
    """Mean squared error in % of the noise variance."""
    squares = (model.predict(data[0], verbose=0) - data[1]) ** 2
    return 100 * float(squares.mean()) / NOISE**2


def learn(train: tuple, epochs: int) -> tuple[keras.Model, dict]:
    """A model with ridges, and the strengths that the training data choose for it."""
    model = make_model(L2, epochs)
    adaptive = AdaptiveStrengths(*train, update_freq=1)
    model.fit(
        *over_and_over(train),
        epochs=epochs,
        batch_size=SIZE,
        shuffle=False,
        verbose=0,
        callbacks=[adaptive],
    )
    return model, adaptive.history[-1]


def show(path: RegularizationPath, output: Path) -> None:
    axes = path.plot()
    axes.set_title("Denoising digits: error and structure against strength")
    axes.figure.savefig(output, dpi=150)
    pyplot.close(axes.figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds: a smoke test")
    parser.add_argument("--output", type=Path, default=Path("path.png"))
    options = parser.parse_args()
    matplotlib.use("Agg")
    keras.utils.set_random_seed(0)

    train, validation, test = draw()
    strengths = 10.0 ** np.arange(-2, 2, 0.25)
    path = regularization_path(
        make_model,
        over_and_over(train),
        strengths[-2:] if options.quick else strengths,
        validation,
        warm_start=True,
        epochs=EPOCHS,
        batch_size=SIZE,
        shuffle=False,
        keep_weights=True,
    )
    model = make_model()
    for name in ("best", "one_standard_error"):
        index = getattr(path, name)
        path.restore(model, index)
        zeros = np.mean(keras.ops.convert_to_numpy(model.layers[-1].deviations) == 0)
        print(
            f"{name.replace('_', ' ')}: strength {path.points[index]['tie_strength']:.2g}, "
            f"test error {error(model, test):.1f} % of the noise variance, {zeros:.0%} of "
            "the deviations exactly zero"
        )
    model, found = learn(train, 2 if options.quick else EPOCHS)
    ties, off_template = (
        found[f"denoiser/soft/{name}_strength"] for name in ("tie", "off_template")
    )
    print(
        f"learned ridges: strengths {ties:.2g} and {off_template:.2g}, test error "
        f"{error(model, test):.1f} %"
    )
    show(path, options.output)
    print(f"Picture: {options.output}")


if __name__ == "__main__":
    main()
