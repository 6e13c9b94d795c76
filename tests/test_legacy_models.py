"""Old models with locally connected layers predict what they predicted."""

import json
import os
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import old_layers
import pytest
from backends import BACKEND
from covering import covering
from keras.ops import convert_to_numpy as to_numpy
from old_layers import ACTIVATIONS, FORMATS, KINDS, WINDOWS, Case
from processes import TESTS, run

import keras_softconv
from keras_softconv import (
    SoftConv1D,
    SoftConv2D,
    from_locally_connected,
    harden,
    legacy_objects,
    to_conv,
)

DEFAULT = Path(sys.prefix) / "keras2" / "bin" / "python"
PYTHON_OF_KERAS_2 = os.environ.get("KERAS_2_PYTHON", str(DEFAULT))
needs_keras_2 = pytest.mark.skipif(
    not Path(PYTHON_OF_KERAS_2).exists(),
    reason="needs a Python with Keras 2 in KERAS_2_PYTHON",
)
FACTORS = [WINDOWS, KINDS, FORMATS, [True, False], ACTIVATIONS]
CASES = [Case(*values) for values in covering(*map(list, FACTORS))]
# Which of the two formats, and whether there is a bias, is all that a file depends on.
SUFFIXES = [".h5", ".keras"]
FILES = [
    (suffix, Case(*values)) for suffix, *values in covering(SUFFIXES, *map(list, FACTORS))
]
if BACKEND == "jax":  # which compiles each case
    CASES, FILES = CASES[::4], FILES[::4]
SOFT = {1: SoftConv1D, 2: SoftConv2D}
IMAGE = Case("image", (1, "valid"), "channels_last", True, "relu")


def identify(value):
    if isinstance(value, Case):
        return "-".join(str(part) for part in (*value.kind, value.window, *value[2:]))
    return str(value)


each_case = pytest.mark.parametrize("case", CASES, ids=identify)


def weights_and_inputs(case, rng):
    weights = old_layers.random_weights(case, rng)
    return weights, rng.normal(size=(3, *case.input_shape)).astype("float32")


def convert(case, rng, **changes):
    weights, _ = weights_and_inputs(case, rng)
    return from_locally_connected(case.config | changes, weights, case.input_shape)


def write(path, case, rng, **changes) -> tuple[np.ndarray, np.ndarray]:
    """A file of a model with one locally connected layer; inputs and its outputs."""
    weights, x = weights_and_inputs(case, rng)
    layer = case.class_name, case.config | changes, weights
    old_layers.save(path, case.input_shape, [layer])
    return x, old_layers.outputs_of(case, weights, x)


def load(path, **options):
    return keras.models.load_model(path, legacy_objects(), **options)


def family_variance(layer) -> float:
    model = keras.Sequential([keras.Input(IMAGE.input_shape), layer], name="model")
    report = keras_softconv.structure_report(model)[f"model/{layer.name}"]
    return float(report["family_variance"])


def energy_of(weight) -> float:
    return float(np.square(to_numpy(weight)).sum())


def check_soft(layer, rank):
    """It is exactly of the class that is saved, converted and reported on."""
    assert type(layer) is SOFT[rank]
    assert layer.halo == 0
    assert float(layer.tie_strength) == float(layer.off_template_strength) == 0
    means = to_numpy(layer.family_means())
    np.testing.assert_allclose(to_numpy(layer.shared_kernel), means, atol=1e-6)


def check_predictions(model, x, y):
    np.testing.assert_allclose(model.predict(x, verbose=0), y, rtol=1e-5, atol=1e-5)


class TestWeightsAlone:
    @each_case
    def test_outputs(self, case, rng):
        weights, x = weights_and_inputs(case, rng)
        layer = from_locally_connected(case.config, weights, case.input_shape)
        check_soft(layer, case.rank)
        expected = old_layers.outputs_of(case, weights, x)
        np.testing.assert_allclose(to_numpy(layer(x)), expected, rtol=1e-5, atol=1e-5)

    @each_case
    def test_the_input_shape_is_found_or_asked_for(self, case, rng):
        weights, _ = weights_and_inputs(case, rng)
        _, _, strides = WINDOWS[case.window]
        tells = max(strides) == 1 and (case.use_bias or case.rank == case.kind[0] == 1)
        if case.kind[0] == 2 or tells:
            layer = from_locally_connected(case.config, weights)
            found = tuple(layer.get_build_config()["input_shape"])
            assert found == (None, *case.input_shape)
        else:
            message = "do not show the shape of its input.*Give the `input_shape`"
            with pytest.raises(ValueError, match=message):
                from_locally_connected(case.config, weights)

    @pytest.mark.parametrize("dtype", ["float16", "float64", "int64"])
    def test_types_of_numbers(self, dtype, rng):
        weights = [rng.integers(-3, 4, size=shape) for shape in IMAGE.shapes]
        x = rng.normal(size=(3, *IMAGE.input_shape)).astype("float32")
        layer = from_locally_connected(IMAGE.config, [w.astype(dtype) for w in weights])
        expected = old_layers.outputs_of(IMAGE, weights, x)
        np.testing.assert_allclose(to_numpy(layer(x)), expected, rtol=1e-5, atol=1e-5)

    def test_json_has_no_tuples(self, rng):
        weights, x = weights_and_inputs(IMAGE, rng)
        config = json.loads(json.dumps(IMAGE.config))
        layer = from_locally_connected(config, weights)
        expected = old_layers.outputs_of(IMAGE, weights, x)
        np.testing.assert_allclose(to_numpy(layer(x)), expected, rtol=1e-5, atol=1e-5)

    def test_before_there_were_implementations(self, rng):
        config = IMAGE.config
        del config["implementation"]
        weights, _ = weights_and_inputs(IMAGE, rng)
        layer = from_locally_connected(config, weights)
        expected = weights[0].reshape(3, 2, -1, 3)
        found = to_numpy(layer.deviations) + to_numpy(layer.shared_kernel).reshape(-1, 3)
        np.testing.assert_allclose(found, expected, atol=1e-6)


class TestRefusals:
    @pytest.mark.parametrize(
        "config",
        [
            None,
            {"filters": 3},
            IMAGE.config | {"kernel_size": 3},
            IMAGE.config | {"kernel_size": (3, 3, 3)},
            IMAGE.config | {"groups": 1},
            {"class_name": "LocallyConnected2D", "config": IMAGE.config},
        ],
    )
    def test_of_configs(self, config, rng):
        weights, _ = weights_and_inputs(IMAGE, rng)
        with pytest.raises(ValueError, match=r"`config` must be.*Received.*`from_conv`"):
            from_locally_connected(config, weights)

    @pytest.mark.parametrize("weights", [None, [], "kernel", [None, None], np.ones(3)])
    def test_of_what_are_no_weights(self, weights):
        with pytest.raises(ValueError, match=r"`weights` must be.*Received: weights="):
            from_locally_connected(IMAGE.config, weights)

    @each_case
    def test_of_weights_that_do_not_fit(self, case, rng):
        weights, _ = weights_and_inputs(case, rng)
        message = "do not fit its config.*Expected.*Received.*Compare `implementation`"
        for wrong in (
            [*weights, weights[0]],
            [weights[0][1:], *weights[1:]],
            [weights[0][..., None], *weights[1:]],
        ):
            with pytest.raises(ValueError, match=message):
                from_locally_connected(case.config, wrong, case.input_shape)

    def test_of_an_input_shape_that_does_not_fit(self, rng):
        weights, _ = weights_and_inputs(IMAGE, rng)
        with pytest.raises(ValueError, match="do not fit its config and its input"):
            from_locally_connected(IMAGE.config, weights, (6, 4, 2))
        with pytest.raises(ValueError, match="is incompatible with the layer"):
            from_locally_connected(IMAGE.config, weights, (5, 4))

    @pytest.mark.parametrize("implementation", [0, 4, None, "1", 1.0, True])
    def test_of_implementations(self, implementation, rng):
        message = "`implementation` must be 1, 2 or 3.*Received.*if that has none, it is 1"
        with pytest.raises(ValueError, match=message):
            convert(IMAGE, rng, implementation=implementation)

    @pytest.mark.parametrize(
        ("implementation", "padding"), [(1, "same"), (2, 1), (3, "circular")]
    )
    def test_of_paddings(self, implementation, padding, rng):
        message = "has `padding` in.*Received: padding=.*Take it from the config"
        with pytest.raises(ValueError, match=message):
            convert(IMAGE, rng, implementation=implementation, padding=padding)

    def test_of_a_file_whose_weights_do_not_fit(self, rng, tmp_path):
        weights, _ = weights_and_inputs(IMAGE, rng)
        for suffix, message in ((".h5", "Shape mismatch"), (".keras", "do not fit")):
            path = tmp_path / f"wrong{suffix}"
            layer = IMAGE.class_name, IMAGE.config, [weights[0][1:], weights[1]]
            old_layers.save(path, IMAGE.input_shape, [layer])
            with pytest.raises(ValueError, match=message):
                load(path)


class TestFiles:
    @pytest.mark.parametrize(("suffix", "case"), FILES, ids=identify)
    def test_predictions(self, suffix, case, rng, tmp_path):
        path = tmp_path / f"model{suffix}"
        x, y = write(path, case, rng)
        model = load(path)
        check_soft(model.layers[0], case.rank)
        check_predictions(model, x, y)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_saved_again_it_needs_no_custom_objects(self, suffix, rng, tmp_path):
        # Its padding is that of no convolution.
        case = Case("image_even", (3, "same"), "channels_last", True, "tanh")
        x, y = write(tmp_path / f"old{suffix}", case, rng)
        model = load(tmp_path / f"old{suffix}")
        model.layers[0].tie_strength.assign(0.5)
        model.save(tmp_path / "new.keras")
        again = keras.models.load_model(tmp_path / "new.keras")
        check_predictions(again, x, y)
        assert again.layers[0].get_config() == model.layers[0].get_config()
        assert float(again.layers[0].tie_strength) == 0.5

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_the_types_of_mixed_precision(self, suffix, rng, tmp_path):
        policy = {"class_name": "Policy", "config": {"name": "mixed_float16"}}
        if suffix == ".keras":
            policy |= {"module": "keras.mixed_precision", "registered_name": None}
        x, y = write(tmp_path / f"old{suffix}", IMAGE, rng, dtype=policy)
        model = load(tmp_path / f"old{suffix}")
        assert model.layers[0].compute_dtype == "float16"
        assert model.layers[0].deviations.dtype == "float32"
        found = model.predict(x, verbose=0)
        np.testing.assert_allclose(found, y, rtol=0.02, atol=0.05)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_a_layer_that_was_frozen_and_told_the_input_shape(self, suffix, rng, tmp_path):
        changes = {"trainable": False, "batch_input_shape": [None, *IMAGE.input_shape]}
        x, y = write(tmp_path / f"old{suffix}", IMAGE, rng, **changes)
        model = load(tmp_path / f"old{suffix}")
        check_predictions(model, x, y)
        assert model.trainable_variables == []

    def test_code_of_the_old_model_and_weights_alone(self, rng, tmp_path):
        weights, x = weights_and_inputs(IMAGE, rng)
        layer = IMAGE.class_name, IMAGE.config, weights
        old_layers.save(tmp_path / "old.h5", IMAGE.input_shape, [layer])
        old_layers.save_weights(tmp_path / "old.weights.h5", [layer])
        y = old_layers.outputs_of(IMAGE, weights, x)
        for file in ("old.h5", "old.weights.h5"):
            cls = legacy_objects()["LocallyConnected2D"]
            inputs = keras.Input(IMAGE.input_shape)
            model = keras.Sequential([inputs, cls(3, (3, 3), activation="relu")])
            assert model.count_params() == sum(weight.size for weight in weights)
            model.load_weights(tmp_path / file)
            check_soft(model.layers[0], 2)
            check_predictions(model, x, y)


class TestBeforeWeightsAreLoaded:
    @pytest.fixture
    def layer(self):
        layer = legacy_objects()["LocallyConnected2D"].from_config(IMAGE.config)
        layer.build((None, *IMAGE.input_shape))
        return layer

    def test_config_and_weights_are_the_old_ones(self, layer):
        config = layer.get_config()
        assert set(config) == set(IMAGE.config)
        for name in ("filters", "kernel_size", "padding", "activation", "implementation"):
            assert config[name] == IMAGE.config[name]
        assert [tuple(weight.shape) for weight in layer.weights] == IMAGE.shapes

    def test_a_copy_loads_them_too(self, layer, rng):
        weights, x = weights_and_inputs(IMAGE, rng)
        copy = type(layer).from_config(layer.get_config())
        copy.build((None, *IMAGE.input_shape))
        copy.set_weights(weights)
        check_soft(copy, 2)
        y = old_layers.outputs_of(IMAGE, weights, x)
        np.testing.assert_allclose(to_numpy(copy(x)), y, rtol=1e-5, atol=1e-5)

    def test_its_weights_cannot_be_read(self, layer):
        message = r"kernel of layer '.*' has no value yet.*Load them.*use SoftConv2D with"
        with pytest.raises(ValueError, match=message):
            layer.get_weights()
        with pytest.raises(ValueError, match=message):
            _ = layer.weights[0].value

    def test_it_is_saved_as_it_is(self, layer, rng, tmp_path):
        x = rng.normal(size=(3, *IMAGE.input_shape)).astype("float32")
        model = keras.Sequential([keras.Input(IMAGE.input_shape), layer])
        model.save(tmp_path / "unloaded.keras")
        again = load(tmp_path / "unloaded.keras")
        assert type(again.layers[0]) is SoftConv2D
        check_predictions(again, x, model.predict(x, verbose=0))


class TestTies:
    def test_they_are_off_and_can_be_switched_on(self, rng):
        layer = convert(IMAGE, rng)
        assert float(to_numpy(layer.penalties()["tie_penalty"])) == 0
        layer.tie_strength.assign(1 / layer.tie_regularizer.l2)
        # The ridge is then the sum of squares of what deviates from the family means.
        size, variance = np.prod(IMAGE.shapes[0]), family_variance(layer)
        biases = to_numpy(layer.bias_deviations)
        found = float(to_numpy(layer.penalties()["tie_penalty"]))
        np.testing.assert_allclose(found, size * variance + (biases**2).sum(), rtol=1e-4)

    @pytest.mark.slow
    def test_training_with_them_leaves_a_convolution_and_not_nothing(self, rng, tmp_path):
        x, y = write(tmp_path / "old.h5", IMAGE, rng)
        model = load(tmp_path / "old.h5")
        layer = model.layers[0]
        layer.tie_strength.assign(1 / layer.tie_regularizer.l2)
        variance, energy = family_variance(layer), energy_of(layer.shared_kernel)
        model.compile(keras.optimizers.SGD(0.05), "mse")
        model.fit(x, y, epochs=30, verbose=0)
        assert family_variance(layer) < 0.01 * variance
        assert energy_of(layer.shared_kernel) > 0.5 * energy

    @pytest.mark.parametrize(
        "regularizer",
        [
            keras.regularizers.L1(0.25),
            keras.regularizers.L2(0.5),
            keras.regularizers.L1L2(0.25, 0.5),
        ],
    )
    def test_a_plain_regularizer_of_the_kernel_becomes_the_ties(self, regularizer, rng):
        config = keras.regularizers.serialize(regularizer)
        layer = convert(IMAGE, rng, kernel_regularizer=config)
        assert type(layer.tie_regularizer) is type(regularizer)
        assert layer.tie_regularizer.get_config() == regularizer.get_config()
        assert layer.kernel_regularizer is None
        assert float(to_numpy(layer.penalties()["tie_penalty"])) == 0

    @pytest.mark.parametrize(
        "changes",
        [
            {"kernel_regularizer": keras.regularizers.OrthogonalRegularizer()},
            {"bias_regularizer": "l2"},
            {
                "kernel_constraint": "non_neg",
                "bias_constraint": keras.constraints.MaxNorm(),
            },
        ],
    )
    def test_what_has_no_counterpart_is_left_out_with_a_warning(self, changes, rng):
        message = rf"'patches' is loaded without {', '.join(changes)}.*tie_strength.assign"
        with pytest.warns(UserWarning, match=message):
            layer = convert(IMAGE, rng, **changes)
        for name in changes:
            assert getattr(layer, name) is None

    def test_it_is_hardened_to_the_family_means(self, rng, tmp_path):
        write(tmp_path / "old.keras", IMAGE, rng)
        model = load(tmp_path / "old.keras")
        conv = harden(model).layers[0]
        assert type(conv) is keras.layers.Conv2D
        means = to_numpy(model.layers[0].family_means())
        np.testing.assert_allclose(to_numpy(conv.kernel), means, rtol=1e-5, atol=1e-6)
        assert to_conv(model.layers[0]).dropped_energy["kernel"] > 0.1


@pytest.mark.parametrize("loss", ["mse", "MAE", "bce", "kld", "mape", "MSLE"])
def test_a_compiled_file_with_short_names(loss, rng, tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "softmax")])
    model.compile("adam", loss, metrics=["mae"])
    x, y = rng.normal(size=(4, 3)), rng.uniform(size=(4, 2))
    expected = model.evaluate(x, y, verbose=0)
    model.save(tmp_path / "old.h5")
    loaded = load(tmp_path / "old.h5")
    np.testing.assert_allclose(loaded.evaluate(x, y, verbose=0), expected, rtol=1e-6)


# Files that Keras 2 itself wrote.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files that one process of Keras 2 wrote."""
    folder = tmp_path_factory.mktemp("old")
    cases = [
        (suffix, (case.class_name, case.config, case.input_shape)) for suffix, case in FILES
    ]
    run(
        TESTS / "old_models.py",
        folder,
        json.dumps(cases),
        python=PYTHON_OF_KERAS_2,
        KERAS_BACKEND="tensorflow",
    )
    return folder


@needs_keras_2
@pytest.mark.slow
@pytest.mark.parametrize("n", range(len(FILES)), ids=lambda n: identify(FILES[n][1]))
def test_predictions_of_files_that_keras_2_wrote(n, folder):
    suffix, case = FILES[n]
    path = folder / f"{n}{suffix}"
    model = load(path, compile=False)
    check_soft(model.layers[0], case.rank)
    data = np.load(f"{path}.npz")
    check_predictions(model, data["x"], data["y"])


@needs_keras_2
@pytest.mark.slow
def test_a_whole_network_that_keras_2_wrote(folder, tmp_path):
    model = load(folder / "network.h5")
    data = np.load(folder / "network.h5.npz")
    check_predictions(model, data["x"], data["y"])
    check_whole(model)
    assert model.loss == "mean_squared_error"
    model.compile("adam", "mse")  # as after every compiled file
    model.get_layer("second").tie_strength.assign(1.0)
    losses = model.fit(data["x"], data["y"] + 1, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "network.keras")
    again = keras.models.load_model(tmp_path / "network.keras")
    check_predictions(again, data["x"], model.predict(data["x"], verbose=0))


def check_whole(model):
    check_soft(model.get_layer("first"), 2)
    check_soft(model.get_layer("second"), 2)
    check_soft(model.get_layer("timed").layer, 1)


@needs_keras_2
@pytest.mark.slow
@pytest.mark.parametrize("name", ["network.keras", "sequential.h5"])
def test_batch_normalization_in_a_file(folder, name):
    model = load(folder / name, compile=False)
    data = np.load(folder / f"{name}.npz")
    check_predictions(model, data["x"], data["y"])
    check_soft(model.get_layer("first"), 2)
    if name.startswith("network"):
        check_whole(model)


@needs_keras_2
@pytest.mark.slow
def test_batch_normalization_in_a_keras_file_of_a_sequential_model(folder):
    """As the guide says: Keras cannot read its axis, which is a list there."""
    path = folder / "sequential.keras"
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "BatchNormalization":
            layer["config"]["axis"] = layer["config"]["axis"][0]
    model = keras.saving.deserialize_keras_object(config, legacy_objects())
    model.load_weights(path)
    check_soft(model.get_layer("first"), 2)
    data = np.load(f"{path}.npz")
    check_predictions(model, data["x"], data["y"])
