"""The structure in numbers against float64, and the search for layers."""

import independent
import keras
import numpy as np
import oracle
import pytest
from backends import KERAS_2, not_on_keras_2
from conv_cases import CASES
from covering import each_name_in_rings
from keras.ops import convert_to_numpy as to_numpy
from soft_models import kernel_of, random_layer, read

from keras_softconv import SoftConv2D
from keras_softconv.diagnostics import soft_layers, structure_numbers


def numbers_of(layer) -> dict[str, float]:
    numbers = read(layer, structure_numbers)
    return {name: float(value) for name, value in numbers.items()}


@each_name_in_rings(None, 0, 1)
def test_numbers_equal_an_independent_computation_in_float64(name, halo, rng):
    case = CASES[name]
    layer = random_layer(case, rng, halo=halo)
    kernel = read(layer, kernel_of)
    expected = independent.structure_numbers(kernel, oracle.family_ids(case))
    numbers = numbers_of(layer)
    assert numbers.keys() == expected.keys()
    for name, value in numbers.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-7)


@each_name_in_rings(None)
def test_analysis_of_variance_adds_up(name, halo, rng):
    layer = random_layer(CASES[name], rng, halo=halo)
    numbers = numbers_of(layer)
    kernel = read(layer, kernel_of).astype("float64")
    mask = layer.template_mask()
    parts = (
        numbers["convolution_share"] * (kernel**2).sum(),
        numbers["family_variance"] * mask.sum(),
        (kernel[~mask] ** 2).sum(),
    )
    np.testing.assert_allclose(sum(parts), (kernel**2).sum(), rtol=1e-5)


def test_the_two_ends(rng):
    layer = random_layer(((4, 4), 2, 3, {"kernel_size": 3, "padding": "same"}), rng)
    layer.deviations.assign(np.zeros(layer.deviations.shape))
    convolution = numbers_of(layer)
    assert convolution["off_template_mass"] == 0
    np.testing.assert_allclose(convolution["family_variance"], 0, atol=1e-12)
    np.testing.assert_allclose(convolution["convolution_share"], 1, rtol=1e-6)
    for weight in layer.trainable_weights:
        weight.assign(np.zeros(weight.shape))
    assert numbers_of(layer) == {
        "family_variance": 0.0,
        "family_variance_min": 0.0,
        "family_variance_max": 0.0,
        "off_template_mass": 0.0,
        "convolution_share": 1.0,
    }


def test_families_that_are_nearly_tied_keep_their_variance(rng):
    # Beside a mean of 1, shades of 1e-9 are below float32's resolution.
    case = ((6, 6), 1, 2, {"kernel_size": 3, "padding": "same"})
    layer = random_layer(case, rng)
    shades = 1e-9 * rng.normal(size=layer.deviations.shape).astype("float32")
    layer.deviations.assign(shades)
    kernel = oracle.dense_kernel(case, to_numpy(layer.shared_kernel))
    kernel = kernel.astype("float64") + shades
    expected = independent.structure_numbers(kernel, oracle.family_ids(case))
    for name, value in numbers_of(layer).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5)


def test_a_diverged_layer_is_not_taken_for_a_convolution(rng):
    layer = random_layer(((4, 4), 1, 1, {"kernel_size": 2}), rng)
    layer.shared_kernel.assign(np.full(layer.shared_kernel.shape, np.nan))
    numbers = numbers_of(layer)
    assert np.isnan(numbers["convolution_share"])
    assert np.isnan(numbers["off_template_mass"])


def test_half_precision_weights_are_summed_in_float32(rng):
    case = ((6, 6), 4, 8, {"kernel_size": 3, "padding": "same"})
    layer = random_layer(case, rng, dtype="float16")
    kernel = to_numpy(layer.shared_kernel).astype("float32")
    kernel = oracle.dense_kernel(case, kernel).astype("float64")
    kernel = kernel + to_numpy(layer.deviations)
    expected = independent.structure_numbers(kernel, oracle.family_ids(case))
    for name, value in numbers_of(layer).items():
        # In float16 itself the means alone would be wrong by 1e-3.
        np.testing.assert_allclose(value, expected[name], rtol=1e-5)


class Block(keras.layers.Layer):
    """Holds layers in an attribute, a list and a dict, as users do."""

    def __init__(self, names=("first", "listed", "kept"), **kwargs):
        super().__init__(**kwargs)
        layers = [SoftConv2D(2, 3, padding="same", name=name) for name in names]
        self.first = layers[0]
        self.rest = [layers[1]]
        self.named = {"last": layers[2]}

    def call(self, inputs):
        return self.named["last"](self.rest[0](self.first(inputs)))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 2)


def model_of(name, layer_name) -> keras.Model:
    layer = SoftConv2D(3, 3, padding="same", name=layer_name)
    return keras.Sequential([keras.Input((5, 4, 2)), layer], name=name)


def test_layers_are_found_wherever_they_are():
    inner = model_of("encoder", "inner_soft")
    inputs = keras.Input((1, 5, 4, 2))
    outputs = keras.layers.TimeDistributed(inner)(inputs)
    outputs = keras.layers.TimeDistributed(SoftConv2D(2, 3, name="timed"))(outputs)
    outputs = keras.layers.Reshape((3, 2, 2))(outputs)
    outputs = Block(name="block")(outputs)
    shared = SoftConv2D(2, 3, padding="same", name="shared")
    model = keras.Model(inputs, shared(shared(outputs)))
    model(np.zeros((1, 1, 5, 4, 2)))
    found = soft_layers(model)
    assert {layer.name for layer in found.values()} == {
        "inner_soft", "timed", "first", "listed", "kept", "shared"
    }  # fmt: skip
    assert len(found) == 6
    if not KERAS_2:
        assert {path for path, layer in found.items() if path != layer.path} == {
            "time_distributed/encoder/inner_soft"  # Keras does not know what was around it
        }


@not_on_keras_2("has no paths")
def test_the_two_kinds_of_model_are_called_as_keras_calls_them():
    inputs = keras.Input((5, 4, 2))
    layer = SoftConv2D(2, 3, name="soft")
    for model in (
        keras.Sequential([inputs, layer], name="sequential"),
        keras.Model(inputs, SoftConv2D(2, 3, name="soft")(inputs), name="functional"),
    ):
        [(path, found)] = soft_layers(model).items()
        assert path == found.path
    assert list(soft_layers(layer)) == ["soft"]


@pytest.mark.parametrize("copy", ["reloaded", "cloned"])
def test_paths_stay_the_same_in_a_copy(copy, tmp_path):
    encoder = model_of("encoder", "soft")
    inputs = keras.Input((5, 4, 3))
    outputs = SoftConv2D(2, 3, padding="same", name="soft")(inputs)
    decoder = keras.Model(inputs, outputs, name="decoder")
    timed = keras.layers.TimeDistributed(SoftConv2D(2, 3, name="soft"), name="timed")
    layers = [encoder, decoder, keras.layers.Reshape((1, 5, 4, 2)), timed]
    model = keras.Sequential([keras.Input((5, 4, 2)), *layers], name="outer")
    if copy == "cloned":
        other = keras.models.clone_model(model)
    else:
        model.save(tmp_path / "model.keras")
        other = keras.models.load_model(tmp_path / "model.keras")
    assert list(soft_layers(other)) == list(soft_layers(model))
    paths = ["encoder/soft", "decoder/soft", "timed/soft"]
    assert list(soft_layers(model)) == [f"outer/{path}" for path in paths]


class Extended(keras.Model):
    """A functional model that holds a layer besides those of its graph."""

    def __init__(self):
        inputs = keras.Input((5, 4, 2))
        super().__init__(inputs, SoftConv2D(2, 3, name="inside")(inputs), name="extended")
        self.beside = SoftConv2D(2, 3, name="beside")


def test_layers_beside_the_graph_are_found_too():
    assert list(soft_layers(Extended())) == ["inside", "beside"]


def test_layers_of_the_same_path_are_numbered():
    found = soft_layers(Block(["soft"] * 3, name="block"))
    assert list(found) == ["block/soft", "block/soft_1", "block/soft_2"]
    assert len({id(layer) for layer in found.values()}) == 3
