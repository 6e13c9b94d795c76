"""Layers with a halo: between the locally connected layer and the dense one."""

import keras
import numpy as np
import pytest
from backends import gradients, not_on, tensorflow_only
from conv_cases import CASES
from keras import ops
from keras.ops import convert_to_numpy as to_numpy
from oracle import within_halo
from soft_models import (
    call,
    dense_form,
    export,
    kernel_of,
    names,
    outputs_and_losses,
    path_of,
    random_layer,
    read,
    soft_model,
)

from keras_softconv import SoftConv2D
from keras_softconv.callbacks import StructureMonitor
from keras_softconv.weight_sharing import HaloWeightSharing


def trained(images, epochs=3, jit_compile=False, **arguments) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = soft_model(**arguments)
    model.compile("adam", "mse", jit_compile=jit_compile)
    model.fit(*images, epochs=epochs, verbose=0)
    return model


@pytest.mark.parametrize("name", names)
def test_a_halo_larger_than_the_image_is_the_dense_layer(name, rng):
    case = CASES[name]
    layer = random_layer(case, rng)
    same = type(layer)(**layer.get_config() | {"halo": 50})
    same.build((None, *case[0], case[1]))
    same.set_weights(layer.get_weights())
    x = rng.normal(size=(3, *case[0], case[1])).astype("float32")
    np.testing.assert_array_equal(call(same, x)[0], call(layer, x)[0])
    np.testing.assert_array_equal(read(same, kernel_of), read(layer, kernel_of))
    assert read(same, SoftConv2D.penalties) == read(layer, SoftConv2D.penalties)


@pytest.mark.parametrize("padding", ["same", "circular", ((0, 2), 1)])
def test_a_halo_that_reaches_all_along_one_axis_only(padding, rng):
    case = ((3, 9), 2, 2, {"kernel_size": 2, "strides": (1, 2), "padding": padding})
    layer = random_layer(case, rng, halo=2)
    assert isinstance(layer.weight_sharing, HaloWeightSharing)
    kernel = read(layer, kernel_of)
    np.testing.assert_array_equal(kernel != 0, within_halo(case, 2))
    rows, columns = layer.weight_sharing.geometry.windows
    assert rows.pairs >= 3 * 3
    assert columns.has_void or padding == "circular"
    assert not columns.reaches_all
    x = rng.normal(size=(3, 3, 9, 2)).astype("float32")
    expected = x.reshape(3, -1) @ kernel.reshape(54, -1) + to_numpy(layer.bias).ravel()
    np.testing.assert_allclose(to_numpy(layer(x)).reshape(3, -1), expected, rtol=1e-4,
                               atol=1e-5)  # fmt: skip


def test_a_halo_larger_than_the_image_trains_as_the_dense_layer_does(images):
    dense, same = trained(images), trained(images, halo=4)
    for weight, other in zip(dense.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)


def step_of_gradient_descent(layer, x) -> None:
    """Towards outputs of 1, with the layer's own losses."""

    def loss(*weights):
        outputs, losses = outputs_and_losses(layer, x, weights)
        return ops.mean(ops.square(outputs - 1)) + sum(losses)

    weights = layer.trainable_weights
    keras.optimizers.SGD(0.1).apply_gradients(
        zip(gradients(loss, weights), weights, strict=True)
    )


@pytest.mark.parametrize("name", names)
def test_windows_that_together_hold_less_train_as_a_dense_layer_without_the_rest(name, rng):
    # One step of gradient descent, the void entries of the dense layer held at zero.
    case, halo = CASES[name], 1
    layer = random_layer(case, rng, halo=halo)
    dense = type(layer)(**layer.get_config() | {"halo": None})
    dense.build((None, *case[0], case[1]))
    kept = within_halo(case, halo)

    def dense_weights():
        stored = layer.get_weights()
        stored[1] = dense_form(layer.weight_sharing, stored[1])
        return stored

    dense.set_weights(dense_weights())
    x = rng.normal(size=(4, *case[0], case[1])).astype("float32")
    for each in (layer, dense):
        step_of_gradient_descent(each, x)
    expected = dense.get_weights()
    expected[1] = np.where(kept, expected[1], 0)
    for weight, other in zip(dense_weights(), expected, strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-4, atol=1e-5)


def test_halo_of_zero_is_a_locally_connected_layer(rng):
    # Written as such: every position has a kernel of its own.
    layer = SoftConv2D(3, (2, 3), strides=(2, 1), halo=0, use_bias=False)
    layer.build((None, 6, 7, 2))
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    x = rng.normal(size=(4, 6, 7, 2)).astype("float32")
    kernels = to_numpy(layer.shared_kernel) + to_numpy(layer.deviations).reshape(
        3, 5, 2, 3, 2, 3
    )
    outputs = to_numpy(layer(x))
    for row, col in np.ndindex(3, 5):
        seen = x[:, 2 * row : 2 * row + 2, col : col + 3]
        expected = np.tensordot(seen, kernels[row, col], axes=3)
        np.testing.assert_allclose(outputs[:, row, col], expected, rtol=1e-4, atol=1e-5)


def test_cross_group_weights_inside_the_window_stay(rng):
    case = ((5, 5), 4, 2, {"kernel_size": 3, "groups": 2})
    layer = random_layer(case, rng, halo=0)
    assert layer.deviations.shape == (3, 3, 9 * 4, 2)
    ids = layer.family_ids()
    assert (ids >= 0).sum() == 9 * 9 * 2 * 2
    off_template = np.count_nonzero(to_numpy(layer.kernel)[ids < 0])
    assert off_template == 9 * 9 * 2 * 2


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "Lion", "RMSprop"])
def test_void_weights_stay_at_zero_in_training(images, optimizer):
    model = soft_model(
        halo=1, tie_regularizer="l1", off_template_regularizer=keras.regularizers.L1L2()
    )
    layer = model.layers[0]
    void = np.ones(layer.deviations.shape)
    void = to_numpy(layer.weight_sharing.without_void(void)) == 0
    assert void.any()
    model.compile(getattr(keras.optimizers, optimizer)(), "mse")
    before = to_numpy(layer.deviations)
    model.fit(*images, epochs=3, verbose=0)
    deviations = to_numpy(layer.deviations)
    assert not deviations[void].any()
    assert (deviations != before)[~void].mean() > 0.9


@pytest.mark.slow
@not_on("torch", "has no XLA")
def test_with_xla(images):
    plain = trained(images, halo=1)
    compiled = trained(images, jit_compile=True, halo=1)
    for weight, other in zip(plain.get_weights(), compiled.get_weights(), strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_in_mixed_precision(images):
    plain = trained(images, halo=1)
    mixed = trained(images, halo=1, dtype="mixed_bfloat16")
    np.testing.assert_allclose(
        mixed.predict(images[0], verbose=0), plain.predict(images[0], verbose=0), atol=0.05
    )
    assert mixed.layers[0].deviations.dtype == "float32"


def test_saved_and_loaded(images, tmp_path):
    model = trained(images, halo=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].halo == 1
    assert loaded.evaluate(*images, verbose=0) == model.evaluate(*images, verbose=0)


@tensorflow_only
def test_exported_and_loaded(images, tmp_path):
    import tensorflow as tf

    model = trained(images, halo=1)
    export(model, tmp_path / "export")
    exported = tf.saved_model.load(tmp_path / "export")
    np.testing.assert_allclose(
        exported.serve(images[0]), model.predict(images[0], verbose=0), rtol=1e-5
    )


def test_monitor_sees_what_the_dense_form_holds(images, tmp_path):
    model = soft_model(halo=1)
    model.compile("adam", "mse")
    monitor = StructureMonitor(tmp_path, logs="all")
    logs = model.fit(*images, verbose=0, callbacks=[monitor]).history
    layer = model.layers[0]
    kernel = np.abs(to_numpy(layer.kernel).astype("float64"))
    mass = kernel[~layer.template_mask()].sum() / kernel.sum()
    found = logs[f"softconv/{path_of(model)}/off_template_mass"][0]
    np.testing.assert_allclose(found, mass, rtol=1e-5)
    assert 0 < mass < 1


@pytest.mark.parametrize("halo", [None, 0])
def test_empty_batches(halo, rng):
    layer = random_layer(CASES["same"], rng, halo=halo)
    assert layer(np.zeros((0, 5, 5, 1), "float32")).shape == (0, 5, 5, 2)


@tensorflow_only
def test_batches_of_any_size_in_one_graph(rng):
    import tensorflow as tf

    layer = random_layer(CASES["same"], rng, halo=0)
    compiled = tf.function(layer, input_signature=[tf.TensorSpec((None, 5, 5, 1))])
    assert compiled(np.zeros((0, 5, 5, 1))).shape == (0, 5, 5, 2)
    x = rng.normal(size=(3, 5, 5, 1))
    np.testing.assert_allclose(compiled(x)[:2], compiled(x[:2]), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@tensorflow_only
@pytest.mark.parametrize(
    ("grid", "filters", "halo", "window"),
    [((128, 128), 32, 1, 5 * 5), ((1, 4000), 1, 500, 1003 * 1)],
    ids=["large image", "long signal"],
)
def test_large_inputs_export_a_small_graph(grid, filters, halo, window, tmp_path):
    # 14 and 4 million weights, 0.4 and 4 million pairs of position and input.
    layer = SoftConv2D(filters, 3, padding="same", halo=halo)
    model = keras.Sequential([keras.Input((*grid, 1)), layer])
    slots = layer.deviations.shape[-2]
    assert slots == window if grid[0] > 1 else slots == 3 * window
    export(model, tmp_path / "export")
    assert (tmp_path / "export" / "saved_model.pb").stat().st_size < 5e5
