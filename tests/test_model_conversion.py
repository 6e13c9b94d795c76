"""Whole models softened and hardened again, and the given model left as it was."""

from functools import partial

import keras
import numpy as np
import pytest
from backends import BACKEND, at_once, not_on, not_on_keras_2
from keras import layers
from keras.ops import convert_to_numpy as to_numpy

from keras_softconv import SoftConv1D, SoftConv2D, SoftConv3D, harden, soften
from keras_softconv.diagnostics import soft_layers

# Depthwise convolutions, gates and preprocessing; plain and strided ones, with padding
# layers; much concatenation. The weights of a halo of 0 fit into 0.5 GB.
APPLICATIONS = {
    "MobileNetV2": {"alpha": 0.35},
    "EfficientNetB0": {},
    "ResNet50V2": {},
}
if BACKEND != "tensorflow":  # the same graphs are cloned
    APPLICATIONS = {"MobileNetV2": {"alpha": 0.35}}


def randomize(model, rng):
    """Weights of the size that keeps signals alive through many layers."""
    for weight in model.weights:
        if weight.name == "seed_generator_state":
            continue
        values = rng.normal(size=weight.shape) * 0.3
        is_positive = "variance" in weight.name
        weight.assign(np.abs(values) + 0.1 if is_positive else values)


def predictions(model, inputs) -> np.ndarray:
    # Not by `predict`, which TensorFlow would trace for each model.
    outputs = keras.tree.flatten(at_once(partial(model, training=False))(inputs))
    return np.concatenate([to_numpy(output).ravel() for output in outputs])


def check_there_and_back(model, inputs, **arguments):
    """A softened model predicts the same; hardened again it is the same."""
    soft = soften(model, **arguments)
    hard = harden(soft)
    expected = predictions(model, inputs)
    assert np.isfinite(expected).all()
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(predictions(soft, inputs), expected, atol=1e-4 * scale)
    np.testing.assert_array_equal(predictions(hard, inputs), expected)
    assert hard.get_config() == model.get_config()
    for weight, original in zip(hard.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, original)
    return soft, hard


@not_on("jax", "compiles them for half a minute, for the same graphs")
@pytest.mark.parametrize(
    "name",
    [
        # The smallest is for every change.
        pytest.param(name, marks=[pytest.mark.slow] if name != "MobileNetV2" else [])
        for name in APPLICATIONS
    ],
)
def test_keras_applications(name, rng):
    model = getattr(keras.applications, name)(
        weights=None, include_top=False, input_shape=(32, 32, 3), **APPLICATIONS[name]
    )
    if name != "EfficientNetB0":  # its gates and its normalization need their own
        randomize(model, rng)
    x = rng.uniform(0, 1, size=(2, 32, 32, 3))
    soft, _ = check_there_and_back(model, x, halo=0)
    convs = [layer for layer in model.layers if type(layer) is layers.Conv2D]
    assert len(soft_layers(soft)) == len(convs) > 30
    assert all(layer.halo == 0 for layer in soft_layers(soft).values())


def sequential(*inner, shape=(6, 6, 1)):
    return keras.Sequential([keras.Input(shape), *inner], name="given")


def branched_model():
    """A shared layer, a shared nested model, two named inputs and two named outputs."""
    shared = layers.Conv2D(4, 3, padding="same", activation="relu", name="shared")
    nested = keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            layers.Conv2D(3, 3, strides=2, kernel_regularizer="l2", name="inner"),
            layers.BatchNormalization(),
            layers.Conv2D(2, 1, trainable=False),
        ],
        name="nested",
    )
    first, second = keras.Input((8, 8, 3), name="a"), keras.Input((8, 8, 3), name="b")
    features = layers.Add()([shared(first), shared(second)])
    scaled = nested(features * 2.0)
    outputs = {"flat": layers.Flatten()(scaled), "mean": layers.Average()([scaled, scaled])}
    return keras.Model({"a": first, "b": second}, outputs, name="branched")


def branched_inputs(rng):
    return {name: rng.normal(size=(5, 8, 8, 3)).astype("float32") for name in ("a", "b")}


def test_nested_shared_and_several_inputs(rng):
    model = branched_model()
    randomize(model, rng)
    soft, hard = check_there_and_back(model, branched_inputs(rng))
    assert [type(layer) for layer in soft_layers(soft).values()] == [SoftConv2D] * 3
    assert [layer.name for layer in soft.layers] == [layer.name for layer in model.layers]
    # One layer, called twice, is still one.
    names = [getattr(weight, "path", weight.name) for weight in soft.weights]
    assert sum("shared/shared_kernel" in name for name in names) == 1
    for converted in (soft, hard):
        nested = converted.get_layer("nested")
        assert [layer.trainable for layer in nested.layers] == [True, True, False]


def test_a_frozen_model_stays_frozen_and_a_thawed_part_of_it_thawed(rng):
    model = branched_model()
    model.get_layer("nested").trainable = False
    model.get_layer("nested").get_layer("inner").trainable = True
    for converted in (soften(model), harden(soften(model))):
        nested = converted.get_layer("nested")
        assert not nested.trainable
        assert [layer.trainable for layer in nested.layers] == [True, False, False]


@not_on_keras_2("freezes whole layers")
def test_frozen_weights_stay_frozen(rng):
    attention = layers.MultiHeadAttention(2, 2, name="attention")
    inputs = keras.Input((6, 2))
    signal = layers.Conv1D(3, 3, name="conv")(inputs)
    model = keras.Model(inputs, attention(signal, signal))
    attention._query_dense.trainable = False
    model.get_layer("conv").kernel.trainable = False
    model.compile("adam", "mse")
    x = rng.normal(size=(4, 6, 2)).astype("float32")
    soft, hard = check_there_and_back(model, x)
    conv = soft.get_layer("conv")
    trainable = [weight.trainable for weight in conv.weights]
    assert trainable == [False, False, True, True, False, False]
    frozen = [weight.path for weight in model.weights if not weight.trainable]
    assert [weight.path for weight in hard.weights if not weight.trainable] == frozen
    for converted in (soft, hard):  # the optimizer knows of it
        converted.fit(x, np.ones((4, 4, 3)), verbose=0)


def test_activations_that_are_layers_train_and_stay_shared(rng):
    activation = layers.PReLU(shared_axes=[1, 2])
    model = sequential(
        layers.Conv2D(3, 3, activation=activation),
        layers.Conv2D(3, 3, activation=activation),
    )
    model.compile("sgd", "mse")
    x = rng.normal(size=(4, 6, 6, 1)).astype("float32")
    model(x)
    soft, hard = check_there_and_back(model, x)
    assert soft.layers[0].activation is soft.layers[1].activation
    for converted in (soft, hard):
        converted.fit(x, np.ones((4, 2, 2, 3)), verbose=0)


def test_vocabularies_are_carried_over():
    if BACKEND != "tensorflow":
        pytest.skip("strings are TensorFlow's")
    lookup = layers.StringLookup()
    lookup.adapt(["a", "b", "c"])
    inputs = keras.Input((4,), dtype="string")
    features = layers.Embedding(5, 2)(lookup(inputs))
    model = keras.Model(inputs, layers.Conv1D(3, 3)(features))
    x = keras.ops.convert_to_tensor([["a", "c", "b", "d"]])
    np.testing.assert_allclose(
        predictions(soften(model), x), predictions(model, x), rtol=1e-5
    )


def test_lambda_layers_keep_their_function(rng):
    factor = 3.0
    times = layers.Lambda(
        lambda x, by: factor * by * x,
        output_shape=lambda shape: shape,
        mask=lambda inputs, mask=None: None,
        arguments={"by": 2.0},
    )
    model = sequential(times, layers.Conv2D(2, 3))
    x = rng.normal(size=(4, 6, 6, 1))
    np.testing.assert_allclose(
        predictions(soften(model), x), predictions(model, x), rtol=1e-4, atol=1e-6
    )


def test_time_distributed_and_other_ranks(rng):
    frames = keras.Sequential([layers.Conv2D(3, 3), layers.Flatten()], name="frames")
    film = keras.Sequential(
        [
            keras.Input((5, 6, 6, 3)),
            layers.TimeDistributed(frames, name="each"),
            layers.Conv1D(4, 3, padding="causal", dilation_rate=2, name="causal"),
            layers.TimeDistributed(layers.Dense(2)),
        ],
        name="film",
    )
    randomize(film, rng)
    soft, _ = check_there_and_back(film, rng.normal(size=(2, 5, 6, 6, 3)))
    kinds = [type(layer) for layer in soft_layers(soft).values()]
    assert kinds == [SoftConv2D, SoftConv1D]
    volumes = keras.Sequential(
        [
            keras.Input((5, 5, 5, 4)),
            layers.Normalization(mean=1.0, variance=2.0),
            layers.Conv3D(4, 2, groups=2, activation=layers.PReLU()),
            layers.Dropout(0.5),
        ]
    )
    volumes(np.zeros((1, 5, 5, 5, 4)))
    volumes.layers[1].activation.alpha.assign(rng.normal(size=(4, 4, 4, 4)))
    soft, _ = check_there_and_back(volumes, rng.normal(size=(2, 5, 5, 5, 4)))
    assert [type(layer) for layer in soft_layers(soft).values()] == [SoftConv3D]


def test_state_that_a_layer_computes_from_its_weights_is_carried_over(rng):
    normalization = layers.Normalization()
    normalization.adapt(rng.normal(3.0, 2.0, size=(64, 6, 6, 2)))
    model = keras.Sequential([keras.Input((6, 6, 2)), normalization, layers.Conv2D(3, 3)])
    x = rng.normal(size=(4, 6, 6, 2)).astype("float32")
    for converted in (soften(model), harden(soften(model))):
        np.testing.assert_allclose(
            predictions(converted, x), predictions(model, x), rtol=1e-4, atol=1e-5
        )


def test_a_predicate_chooses_and_softening_again_treats_others_differently(rng):
    model = branched_model()
    first = soften(model, lambda layer: layer.name == "shared", halo=1)
    assert {layer.name: layer.halo for layer in soft_layers(first).values()} == {
        "shared": 1
    }
    both = soften(first, lambda layer: layer.name == "inner", halo=0)
    halos = {layer.name: layer.halo for layer in soft_layers(both).values()}
    assert halos == {"shared": 1, "inner": 0}
    rest = harden(both, lambda layer: layer.name == "shared")
    assert [layer.name for layer in soft_layers(rest).values()] == ["inner"]


def test_models_train_on_their_own(rng):
    """No weight is shared; on JAX a shared buffer would be given away by training."""
    model = branched_model()
    x, targets = branched_inputs(rng), {"flat": np.ones((5, 18)), "mean": np.ones(5)}
    targets["mean"] = np.ones((5, 3, 3, 2))
    model.compile(keras.optimizers.Adam(0.1), "mse")
    before = predictions(model, x)
    soft = soften(model, tie_regularizer="l1", penalty_registration="regularizer")
    hard = harden(soft)
    for converted in (soft, hard):
        assert converted.optimizer.name == model.optimizer.name
        converted.fit(x, targets, epochs=2, verbose=0)
        assert not np.allclose(predictions(converted, x), before, atol=1e-3)
    np.testing.assert_array_equal(predictions(model, x), before)
    assert int(model.optimizer.iterations) == 0
    after = harden(soft)
    dropped = after.get_layer("shared").dropped_energy
    assert 0 < dropped["kernel"] < 1
    assert not np.allclose(predictions(after, x), predictions(soft, x), atol=1e-4)


@pytest.mark.parametrize("padding", ["circular", ((2, 0), (0, 3))])
def test_other_paddings_become_a_padding_layer_and_a_convolution(padding, rng, tmp_path):
    model = keras.Sequential(
        [keras.Input((7, 6, 2)), SoftConv2D(3, 3, padding=padding, name="wrapped")]
    )
    x = rng.normal(size=(4, 7, 6, 2))
    hard = harden(model)
    np.testing.assert_allclose(
        predictions(hard, x), predictions(model, x), rtol=1e-4, atol=1e-5
    )
    assert hard.layers[0].name == "wrapped"
    assert dict(hard.layers[0].dropped_energy) == {"kernel": 0.0, "bias": 0.0}
    assert "keras_softconv" not in hard.to_json()
    hard.save(tmp_path / "hard.keras")
    loaded = keras.models.load_model(tmp_path / "hard.keras")
    np.testing.assert_array_equal(predictions(loaded, x), predictions(hard, x))


def test_the_shared_kernel_on_request(rng):
    model = keras.Sequential([keras.Input((6, 6, 1)), SoftConv2D(2, 3)])
    randomize(model, rng)
    kernel = to_numpy(model.layers[0].shared_kernel)
    hard = harden(model, kernel="shared_kernel")
    np.testing.assert_array_equal(to_numpy(hard.layers[0].kernel), kernel)
    assert np.abs(to_numpy(harden(model).layers[0].kernel) - kernel).max() > 0.01


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(2, 3)

    def call(self, inputs):
        return self.conv(inputs)


def test_a_nested_subclass_is_copied_whole(rng):
    inputs = keras.Input((6, 6, 1))
    model = keras.Model(inputs, layers.Conv2D(2, 1)(Subclassed()(inputs)))
    soft, _ = check_there_and_back(model, rng.normal(size=(4, 6, 6, 1)))
    assert len(soft_layers(soft)) == 1
