"""Locally connected layers of Keras 2 in NumPy, from the definition of each implementation.

Also the files that Keras 2 saves them in, as far as Keras reads them.
"""

import json
import zipfile
from itertools import product
from typing import NamedTuple

import h5py
import numpy as np

# Sizes of inputs, kernels and strides, by their names.
WINDOWS = {
    "plain": ((7,), (3,), (1,)),
    "even": ((6,), (2,), (1,)),
    "strided": ((9,), (3,), (2,)),
    "stride_past_kernel": ((7,), (2,), (3,)),
    "one_position": ((4,), (4,), (1,)),
    "image": ((5, 4), (3, 3), (1, 1)),
    "image_even": ((4, 5), (2, 4), (1, 1)),
    "image_strided": ((7, 6), (3, 2), (2, 3)),
    "image_mixed": ((6, 3), (1, 3), (2, 1)),
}
CHANNELS, FILTERS = 2, 3
KINDS = [(1, "valid"), (2, "valid"), (2, "same"), (3, "valid"), (3, "same")]
FORMATS = ["channels_last", "channels_first"]
ACTIVATIONS = {"linear": lambda x: x, "relu": lambda x: np.maximum(x, 0), "tanh": np.tanh}


class Case(NamedTuple):
    """A locally connected layer, by what is told of it."""

    window: str
    kind: tuple[int, str]
    data_format: str
    use_bias: bool
    activation: str

    @property
    def rank(self) -> int:
        return len(WINDOWS[self.window][0])

    @property
    def class_name(self) -> str:
        return f"LocallyConnected{self.rank}D"

    def arranged(self, grid, channels) -> tuple[int, ...]:
        first = self.data_format == "channels_first"
        return (channels, *grid) if first else (*grid, channels)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.arranged(WINDOWS[self.window][0], CHANNELS)

    @property
    def config(self) -> dict:
        _, kernel_size, strides = WINDOWS[self.window]
        implementation, padding = self.kind
        return {
            "name": "patches",
            "trainable": True,
            "dtype": "float32",
            "filters": FILTERS,
            "kernel_size": kernel_size,
            "strides": strides,
            "padding": padding,
            "data_format": self.data_format,
            "activation": self.activation,
            "use_bias": self.use_bias,
            "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": None}},
            "bias_initializer": {"class_name": "Zeros", "config": {}},
            "kernel_regularizer": None,
            "bias_regularizer": None,
            "activity_regularizer": None,
            "kernel_constraint": None,
            "bias_constraint": None,
            "implementation": implementation,
        }

    @property
    def output_grid(self) -> tuple[int, ...]:
        return tuple(len(ranges) for ranges in self.seen)

    @property
    def seen(self) -> list[list[range]]:
        """For each axis and output, the inputs that it sees."""
        padding, axes = self.kind[1], []
        for size, taps, stride in zip(*WINDOWS[self.window], strict=True):
            before = 0 if padding == "valid" else taps // 2
            last = size - taps + 1 if padding == "valid" else size
            starts = [first - before for first in range(0, last, stride)]
            axes.append([range(max(s, 0), min(s + taps, size)) for s in starts])
        return axes

    def connections(self) -> list[tuple[int, int]]:
        """Every pair of an output and an input that have a weight, raveled and sorted."""
        outputs = np.arange(np.prod(self.output_grid) * FILTERS)
        outputs = outputs.reshape(self.arranged(self.output_grid, FILTERS))
        inputs = np.arange(np.prod(self.input_shape)).reshape(self.input_shape)
        if self.data_format == "channels_first":
            outputs, inputs = np.moveaxis(outputs, 0, -1), np.moveaxis(inputs, 0, -1)
        pairs = []
        for position in np.ndindex(self.output_grid):
            ranges = (axis[at] for axis, at in zip(self.seen, position, strict=True))
            window = inputs[np.ix_(*ranges)].ravel()
            pairs += product(outputs[position].tolist(), window.tolist())
        return sorted(pairs)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of kernel and bias."""
        implementation, _ = self.kind
        positions = int(np.prod(self.output_grid))
        window = int(np.prod(WINDOWS[self.window][1])) * CHANNELS
        outputs = self.arranged(self.output_grid, FILTERS)
        kernel = {
            1: (positions, window, FILTERS),
            2: (*self.input_shape, *outputs),
            3: (len(self.connections()),),
        }[implementation]
        return [kernel, (*self.output_grid, FILTERS)][: 1 + self.use_bias]


def random_weights(case, rng) -> list[np.ndarray]:
    return [rng.normal(size=shape).astype("float32") for shape in case.shapes]


def outputs_of(case, weights, x) -> np.ndarray:
    """What the layer computes of a batch, in float64."""
    kernel = weights[0].astype("float64")
    shape = case.arranged(case.output_grid, FILTERS)
    if case.kind[0] == 1:
        outputs = _of_slices(case, kernel, x)
    else:
        outputs = x.reshape(len(x), -1) @ _matrix(case, kernel)
    outputs = outputs.reshape(len(x), *shape)
    if case.use_bias:
        outputs = outputs + weights[1].reshape(shape)  # reshaped in either format
    return ACTIVATIONS[case.activation](outputs)


def _matrix(case, kernel) -> np.ndarray:
    """The dense matrix of implementations 2 and 3."""
    outputs, inputs = np.transpose(case.connections())
    n_outputs = int(np.prod(case.output_grid)) * FILTERS
    matrix = np.zeros((int(np.prod(case.input_shape)), n_outputs))
    if case.kind[0] == 2:
        kernel = kernel.reshape(matrix.shape)[inputs, outputs]
    matrix[inputs, outputs] = kernel
    return matrix


def _of_slices(case, kernel, x) -> np.ndarray:
    """Implementation 1: the raveled slice of each position times its own matrix."""
    outputs = np.zeros((len(x), *case.output_grid, FILTERS))
    for n, position in enumerate(np.ndindex(case.output_grid)):
        ranges = [axis[at] for axis, at in zip(case.seen, position, strict=True)]
        slices = [slice(r.start, r.stop) for r in ranges]
        window = x[:, *case.arranged(slices, slice(None))]
        outputs[:, *position] = window.reshape(len(x), -1) @ kernel[n]
    if case.data_format == "channels_first":
        outputs = np.moveaxis(outputs, -1, 1)
    return outputs


# Files of models whose layers are given by class name, config and weights.


def save(path, input_shape, layers) -> None:
    """A Sequential model as Keras 2.15 saves it: `.h5` or `.keras`, by the name."""
    name = {"name": "input", "dtype": "float32", "sparse": False, "ragged": False}
    inputs = ("InputLayer", name | {"batch_input_shape": [None, *input_shape]}, [])
    layers = [inputs, *layers]
    (_save_h5 if path.suffix == ".h5" else _save_keras)(path, layers)


def _save_h5(path, layers) -> None:
    listed = [{"class_name": name, "config": config} for name, config, _ in layers]
    config = {"class_name": "Sequential", "config": {"name": "old", "layers": listed}}
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.15.0"
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [config["name"] for _, config, _ in layers]
        for _, config, weights in layers:
            names = [f"{config['name']}/{n}:0" for n in range(len(weights))]
            layer = group.create_group(config["name"])
            layer.attrs["weight_names"] = names
            for name, weight in zip(names, weights, strict=True):
                layer[name] = weight


def _save_keras(path, layers) -> None:
    listed = [
        {
            "module": "keras.layers",
            "class_name": name,
            "config": config,
            "registered_name": None,
        }
        for name, config, _ in layers
    ]
    config = {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "old", "layers": listed},
        "registered_name": None,
    }
    weights_path = path.with_suffix(".weights.h5")
    save_weights(weights_path, layers)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "2.15.0"}))
        archive.writestr("config.json", json.dumps(config))
        archive.write(weights_path, "model.weights.h5")


def save_weights(path, layers) -> None:
    """A `.weights.h5` file; the layers are of different classes."""
    with h5py.File(path, "w") as file:
        for class_name, _, weights in layers:
            variables = file.create_group(f"layers/{SNAKE[class_name]}/vars")
            for n, weight in enumerate(weights):
                variables[str(n)] = weight


SNAKE = {
    "InputLayer": "input_layer",
    "LocallyConnected1D": "locally_connected1d",
    "LocallyConnected2D": "locally_connected2d",
    "Flatten": "flatten",
    "Dense": "dense",
}
