"""Run by Keras 2.15: writes models with locally connected layers, and what they predict.

    python old_models.py FOLDER CASES

CASES is a list in JSON of arguments, by which `make_model` makes a model.
"""

import json
import sys
import warnings

import keras
import numpy as np

warnings.filterwarnings("ignore")
layers = keras.layers


def make_model(class_name, config, input_shape) -> keras.Model:
    cls = getattr(layers, class_name)
    after = [layers.Flatten(name="flat"), layers.Dense(2, name="last")]
    return keras.Sequential([keras.Input(input_shape), cls.from_config(config), *after])


def make_network() -> keras.Model:
    """A whole network, with branches, two locally connected layers and what is around."""
    inputs = keras.Input((8, 7, 3), name="inputs")
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    x = layers.BatchNormalization(name="normalized")(x)
    x = layers.LocallyConnected2D(3, (3, 2), activation="relu", name="first")(x)
    second = layers.LocallyConnected2D(
        3, 3, padding="same", implementation=3, kernel_regularizer="l2", name="second"
    )
    x = layers.Add(name="sum")([x, second(second(x))])
    x = layers.Reshape((4, 4, 3), name="rows")(x)
    per_row = layers.LocallyConnected1D(2, 2, implementation=2, name="per_row")
    x = layers.TimeDistributed(per_row, name="timed")(x)
    x = layers.Flatten(name="flat")(x)
    return keras.Model(inputs, layers.Dense(2, name="last")(x), name="network")


def make_sequential() -> keras.Model:
    """The same in a row."""
    first = layers.LocallyConnected2D(3, (3, 2), activation="relu", name="first")
    before = [keras.Input((8, 7, 3)), layers.Conv2D(4, 3), layers.BatchNormalization()]
    return keras.Sequential([*before, first, layers.Flatten(), layers.Dense(2)])


def write(model, path, rng) -> None:
    """The model with random weights, and its predictions in a file beside it."""
    model.set_weights(
        [rng.uniform(0.1, 0.5, w.shape) * _sign(w, rng) for w in model.weights]
    )
    x = rng.normal(size=(3, *model.input_shape[1:])).astype("float32")
    model.save(path)
    np.savez(f"{path}.npz", x=x, y=model.predict(x, verbose=0))


def _sign(weight, rng) -> np.ndarray:
    if "variance" in weight.name:
        return np.ones(weight.shape)
    return rng.choice([-1, 1], weight.shape)


def main(folder, cases) -> None:
    rng = np.random.default_rng(0)
    for n, (suffix, arguments) in enumerate(cases):
        write(make_model(*arguments), f"{folder}/{n}{suffix}", rng)
    network = make_network()
    network.compile("adam", "mse")
    x = rng.normal(size=(8, 8, 7, 3))
    network.fit(x, np.ones((8, 2)), verbose=0)
    write(network, f"{folder}/network.h5", rng)
    write(network, f"{folder}/network.keras", rng)
    write(make_sequential(), f"{folder}/sequential.h5", rng)
    write(make_sequential(), f"{folder}/sequential.keras", rng)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
