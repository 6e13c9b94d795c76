"""The same layer on every installed backend, each in a process of its own."""

import json

import numpy as np
import pytest
from processes import run, skip_without

pytestmark = pytest.mark.slow  # starts a process for each backend

# Convolutions with inputs that strides leave over, which Conv2D on TensorFlow and Conv3D on
# torch misread with oneDNN, their default on processors with AVX-512.
PROGRAM = """
import json, sys, keras, numpy as np
from keras_softconv import SoftConv2D, SoftConv3D
from keras_softconv.callbacks import StructureMonitor

def numbers(registration, storage):
    layer = SoftConv2D(
        4, 3, padding="same", groups=2,
        tie_regularizer=keras.regularizers.L2(0.5),
        off_template_regularizer=keras.regularizers.L1L2(0.1, 0.5),
        penalty_registration=registration, halo=None if storage == "dense" else 1,
        name="soft",
    )
    first, second = keras.Input((5, 4, 2)), keras.Input((5, 4, 2))
    outputs = keras.layers.Add()([layer(first), layer(second)])
    model = keras.Model([first, second], outputs, name="model")
    # Weights that are all different, in case a backend mixes up their places.
    for weight in layer.trainable_weights:
        weight.assign(np.random.default_rng(0).normal(size=weight.shape))
    model.compile(keras.optimizers.SGD(1e-2), "mse")
    x = np.linspace(-1, 1, 8 * 5 * 4 * 2).reshape(8, 5, 4, 2).astype("float32")
    folder = f"{sys.argv[1]}/{registration}-{storage}"
    monitor = StructureMonitor(folder, update_freq="batch")
    history = model.fit(
        [x, x], np.zeros((8, 5, 4, 4)), epochs=3, verbose=0, callbacks=[monitor]
    ).history
    means = keras.ops.convert_to_numpy(layer.family_means())
    return {"means": [float(np.sum(means))], **history}

def empty_losses():
    # A convolution whose every window lies in the padding.
    ridge = keras.regularizers.L2(1e-3)
    empty = SoftConv2D(
        2,
        1,
        strides=2,
        padding=((1, 0), 0),
        deviation_initializer="ones",
        off_template_regularizer=ridge,
    )
    empty(np.ones((1, 1, 3, 1), "float32"))
    return [float(loss) for loss in empty.losses]

def errors_of_inputs_left_over():
    rng = np.random.default_rng(0)
    for kind, grid, kernel_size, strides in (
        (SoftConv2D, (2, 2), (1, 2), (1, 3)),
        (SoftConv2D, (3, 4), (1, 3), (1, 2)),
        (SoftConv2D, (3, 3), (1, 2), (2, 2)),
        (SoftConv3D, (1, 3, 3), (1, 1, 2), (1, 1, 2)),
        (SoftConv3D, (2, 3, 4), (1, 1, 3), (1, 2, 3)),
    ):
        layer = kind(1, kernel_size, strides)
        layer.build((None, *grid, 1))
        x = rng.normal(size=(4, *grid, 1)).astype("float32")
        kernel = keras.ops.convert_to_numpy(layer.kernel).reshape(np.prod(grid), -1)
        expected = x.reshape(4, -1) @ kernel
        outputs = keras.ops.convert_to_numpy(layer(x)).reshape(4, -1)
        yield outputs.tolist(), expected.tolist()

found = {
    f"{registration}-{storage}": numbers(registration, storage)
    for registration in ("add_loss", "regularizer")
    for storage in ("dense", "halo")
}
found["empty"] = empty_losses()
found["left over"] = list(errors_of_inputs_left_over())
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the program finds on a backend; each backend runs it once, with oneDNN."""
    of_backends = {}

    def found_on(backend):
        skip_without(backend)
        if backend not in of_backends:
            folder = tmp_path_factory.mktemp(backend)
            with_onednn = {"KERAS_BACKEND": backend, "TF_ENABLE_ONEDNN_OPTS": "1"}
            of_backends[backend] = json.loads(run("-c", PROGRAM, folder, **with_onednn))
        return of_backends[backend]

    return found_on


@pytest.mark.parametrize("storage", ["dense", "halo"])
@pytest.mark.parametrize("registration", ["add_loss", "regularizer"])
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_training_and_monitor_agree_with_tensorflow(backend, registration, storage, found):
    """Losses, structure and family means of three epochs of a shared layer."""
    name = f"{registration}-{storage}"
    numbers, expected = found(backend)[name], found("tensorflow")[name]
    assert numbers.keys() == expected.keys()
    for key, values in numbers.items():
        assert values == pytest.approx(expected[key], rel=1e-4), key


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_convolution_without_any_template_has_off_template_penalties(backend, found):
    assert found(backend)["empty"] == [0.0, float(np.float32(0.012))]


WITHOUT_TENSORFLOW = """
import sys
if sys.argv[1] == "missing":
    sys.modules["tensorflow"] = None  # as where it is not installed
import keras, numpy as np, keras_softconv
from keras_softconv import SoftConv2D
from keras_softconv.callbacks import StructureMonitor

model = keras.Sequential([keras.Input((5, 4, 1)), SoftConv2D(2, 3, halo=0)])
model.compile("sgd", "mse")
monitor = [StructureMonitor(sys.argv[2])] if sys.argv[1] == "missing" else None
x, y = np.ones((4, 5, 4, 1)), np.ones((4, 3, 2, 2))
model.fit(x, y, verbose=0, callbacks=monitor)
assert sys.modules.get("tensorflow") is None
keras_softconv.harden(model).predict(x, verbose=0)  # Keras's cloning may import it
"""


@pytest.mark.parametrize("tensorflow", ["missing", "installed"])
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_tensorflow_is_not_needed_and_not_imported(backend, tensorflow, tmp_path):
    skip_without(backend)
    run("-c", WITHOUT_TENSORFLOW, tensorflow, tmp_path, KERAS_BACKEND=backend)
    written = list((tmp_path / "softconv").glob("events.*"))
    assert len(written) == (tensorflow == "missing")


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_inputs_that_strides_leave_over_are_not_misread_with_onednn(backend, found):
    for outputs, expected in found(backend)["left over"]:
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
