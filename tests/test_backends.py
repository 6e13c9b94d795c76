"""The same layer on every installed backend, each in a process of its own."""

import pytest
from processes import run, skip_without

PROGRAM = """
import sys, warnings, keras, numpy as np, keras_softconv
from keras_softconv import SoftConv2D
from keras_softconv.callbacks import StructureMonitor

strong = keras.regularizers.L2(0.5)
layer = SoftConv2D(
    4, 3, padding="same", groups=2,
    tie_regularizer=strong, off_template_regularizer=keras.regularizers.L1L2(0.1, 0.5),
    penalty_registration=sys.argv[1], halo=None if sys.argv[3] == "dense" else 1,
)
first, second = keras.Input((5, 4, 2)), keras.Input((5, 4, 2))
model = keras.Model([first, second], keras.layers.Add()([layer(first), layer(second)]))
# Weights that are all different, in case a backend mixes up their places.
for weight in layer.trainable_weights:
    weight.assign(np.random.default_rng(0).normal(size=weight.shape))
model.compile(keras.optimizers.SGD(1e-2), "mse")
x = np.linspace(-1, 1, 8 * 5 * 4 * 2).reshape(8, 5, 4, 2).astype("float32")
monitor = StructureMonitor(sys.argv[2], update_freq="batch")
history = model.fit(
    [x, x], np.zeros((8, 5, 4, 4)), epochs=3, verbose=0, callbacks=[monitor]
).history
means = keras.ops.convert_to_numpy(layer.family_means())
# A convolution whose every window lies in the padding.
empty = SoftConv2D(2, 1, strides=2, padding=((1, 0), 0), deviation_initializer="ones")
empty(np.ones((1, 1, 3, 1), "float32"))
assert [float(loss) for loss in empty.losses] == [0.0, np.float32(0.012)]
print([float(np.sum(means)), *(value for values in history.values() for value in values)])
"""


def numbers(backend, *arguments) -> list[float]:
    """Losses, structure and family means after three epochs of a shared layer."""
    printed = run("-c", PROGRAM, *arguments, KERAS_BACKEND=backend)
    return [float(number) for number in printed.strip(" []\n").split(",")]


@pytest.mark.parametrize("storage", ["dense", "halo"])
@pytest.mark.parametrize("registration", ["add_loss", "regularizer"])
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_training_and_monitor_agree_with_tensorflow(
    backend, registration, storage, tmp_path
):
    skip_without(backend)
    arguments = registration, tmp_path, storage
    expected = numbers("tensorflow", *arguments)
    assert numbers(backend, *arguments) == pytest.approx(expected, rel=1e-4)


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


LEFT_OVER = """
import numpy as np, keras
from keras_softconv import SoftConv2D, SoftConv3D

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
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_inputs_that_strides_leave_over_are_not_misread_with_onednn(backend):
    # As Conv2D on TensorFlow and Conv3D on torch do on processors with AVX-512.
    skip_without(backend)
    run("-c", LEFT_OVER, KERAS_BACKEND=backend, TF_ENABLE_ONEDNN_OPTS="1")
