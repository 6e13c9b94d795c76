"""Train with TensorFlow Addons' optimizer and progress bar, and watch the structure.

The 8x8 digits that come with scikit-learn, with Gaussian noise of standard deviation 0.5
added, are to be restored by one linear layer, learned from 50 of them. Lookahead around
RectifiedAdam trains it, TQDMProgressBar shows how far it is, AverageModelCheckpoint could
stand beside them. What is printed is the error on images that nothing was trained on, and
how convolutional the layer has become.

Addons ended in 2024 and runs with Keras 2.15, on Python 3.11:

    pip install '.[addons,examples]'

Use an environment of its own; docs/addons.md says what stands for it in Keras 3.

    python examples/addons.py [--quick] [--log-dir logs]
"""

import argparse

import numpy as np
import tensorflow as tf

from keras_softconv import SoftConv2D, structure_report
from keras_softconv.callbacks import StructureMonitor

try:
    import tensorflow_addons as tfa
    from sklearn.datasets import load_digits
except ImportError as error:
    raise SystemExit(
        f"This example cannot run: {error}. Addons needs Keras 2.15: `pip install "
        "'.[addons,examples]'` in an environment of Python 3.11. With Keras 3 see "
        "examples/denoise_digits.py."
    ) from error

keras = tf.keras
NOISE = 0.5
TRAINED_ON, OUTPUTS = 50, 64
L2 = keras.regularizers.L2


def draw() -> tuple[np.ndarray, np.ndarray]:
    """Noisy and clean digits, in a random order."""
    rng = np.random.default_rng(0)
    clean = rng.permutation(load_digits().images / 16 - 0.3)[..., None]
    return clean + NOISE * rng.normal(size=clean.shape), clean


def make_model(epochs: int) -> keras.Model:
    # The rule of thumb of README.md, "Which strengths?".
    ties, off_template = np.array([5, 20]) / (TRAINED_ON * OUTPUTS)
    layer = SoftConv2D(
        1,
        3,
        padding="same",
        tie_regularizer=L2(ties),
        off_template_regularizer=L2(off_template),
        name="soft",
    )
    model = keras.Sequential([keras.Input((8, 8, 1)), layer], name="denoiser")
    rate = keras.optimizers.schedules.CosineDecay(3e-2, epochs)
    optimizer = tfa.optimizers.Lookahead(tfa.optimizers.RectifiedAdam(rate))
    model.compile(optimizer, "mse", metrics=["mse"])
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little training")
    parser.add_argument("--log-dir", default="logs/addons", help="for TensorBoard")
    options = parser.parse_args()
    epochs = 300 if options.quick else 600  # one step each
    keras.utils.set_random_seed(0)
    noisy, clean = draw()
    model = make_model(epochs)
    model.fit(
        noisy[:TRAINED_ON],
        clean[:TRAINED_ON],
        batch_size=TRAINED_ON,
        epochs=epochs,
        callbacks=[
            StructureMonitor(options.log_dir),
            tfa.callbacks.TQDMProgressBar(show_epoch_progress=False),
        ],
        verbose=0,
    )
    mse = model.evaluate(noisy[1200:], clean[1200:], verbose=0, return_dict=True)["mse"]
    print(f"Test error: {100 * mse / NOISE**2:.1f} % of the noise variance.")
    print(structure_report(model, children=3))
    print(f"tensorboard --logdir {options.log_dir}")


if __name__ == "__main__":
    main()
