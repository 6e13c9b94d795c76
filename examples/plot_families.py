"""Draw the families of a learnt layer: the picture that this project began with.

Nine inputs, four outputs, a line for each of 36 weights. The data were made by a 2x2
filter, but one weight of it is another at one output: a problem child. Left the dense layer
before training, right after it: four families, the weights that a convolution would not
have faded to white, the problem child found.

    python examples/plot_families.py [--output families.png]
"""

import argparse
from pathlib import Path

import keras
import numpy as np

from keras_softconv import SoftConv2D, plots, structure_report
from keras_softconv.optimizers import ProximalAdam

NOISE, EXAMPLES, EPOCHS = 0.3, 200, 60
FILTER = np.array([[1.0, -0.7], [0.5, -1.2]]).reshape(2, 2, 1, 1)
CHILD, CHANGE = (1, 1, 0, 0, 1, 0), 1.6  # input (1, 1), output (0, 1): tap (1, 0)


def make_data(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    truth = SoftConv2D(1, 2, use_bias=False)
    truth.build((None, 3, 3, 1))
    deviations = np.zeros(truth.deviations.shape)
    deviations[CHILD] = CHANGE
    truth.shared_kernel.assign(FILTER)
    truth.deviations.assign(deviations)
    x = rng.normal(size=(EXAMPLES, 3, 3, 1)).astype("float32")
    y = keras.ops.convert_to_numpy(truth(x))
    return x, y + NOISE * rng.normal(size=y.shape).astype("float32")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("families.png"))
    options = parser.parse_args()
    keras.utils.set_random_seed(1)
    x, y = make_data(np.random.default_rng(0))
    layer = SoftConv2D(
        1,
        2,
        use_bias=False,
        kernel_initializer="zeros",
        deviation_initializer=keras.initializers.RandomNormal(stddev=0.7),
        tie_regularizer=keras.regularizers.L1(0.03),
        off_template_regularizer=keras.regularizers.L1(0.03),
        name="soft",
    )
    model = keras.Sequential([keras.Input((3, 3, 1)), layer], name="tiny")
    before = layer.get_weights()
    rate = keras.optimizers.schedules.CosineDecay(3e-2, EPOCHS * EXAMPLES // 20)
    model.compile(ProximalAdam(rate), "mse")
    model.fit(x, y, batch_size=20, epochs=EPOCHS, verbose=0)
    print(structure_report(layer))
    figure = plots.before_and_after(plots.connections, layer, before)
    figure.savefig(options.output, dpi=100)
    print(f"Picture: {options.output}")


if __name__ == "__main__":
    main()
