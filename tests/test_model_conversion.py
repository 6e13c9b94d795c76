"""Whole models softened and hardened again, and the given model left as it was."""

import keras
import numpy as np
import pytest
from backends import BACKEND
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
    # Not by `predict`, which would compile each model anew.
    outputs = keras.tree.flatten(model(inputs, training=False))
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


@pytest.mark.parametrize("name", APPLICATIONS)
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
    names = [weight.path for weight in soft.weights]
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
    model = sequential(layers.Lambda(lambda x: factor * x), layers.Conv2D(2, 3))
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
    hard.save(tmp_path / "hard.keras")
    loaded = keras.models.load_model(tmp_path / "hard.keras", custom_objects={})
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


class Special(layers.Conv2D):
    pass


def sequential(*inner, shape=(6, 6, 1)):
    return keras.Sequential([keras.Input(shape), *inner], name="given")


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 6, 6, 1)))
    return model


class Tenfold(keras.Model):
    """A functional model that computes something else."""

    def __init__(self):
        inputs = keras.Input((6, 6, 1))
        super().__init__(inputs, layers.Conv2D(2, 3)(inputs))

    def call(self, inputs, training=None):
        return super().call(inputs, training=training) * 10


def shared_with_a_wrapper():
    conv = layers.Conv1D(2, 3, padding="same", name="conv")
    inputs = keras.Input((6, 2))
    return keras.Model(inputs, layers.SpectralNormalization(conv)(conv(inputs)))


def with_lora():
    model = sequential(layers.Conv2D(2, 3), layers.Dense(3, name="dense"))
    model.layers[1].enable_lora(2)
    return model


def unregistered(x):
    return x


def own_loss(targets, outputs):
    return keras.ops.mean(outputs)


def compiled_with(loss):
    model = sequential(layers.Conv2D(2, 3))
    model.compile("sgd", loss)
    return model


def two_sizes():
    conv = layers.Conv2D(2, 3, name="conv")
    inputs = [keras.Input((6, 6, 1)), keras.Input((7, 7, 1))]
    return keras.Model(inputs, [conv(x) for x in inputs])


CLONED = r"Expected a Sequential or functional model that is built.*Received: "
REFUSED = {
    "subclassed": (subclassed, CLONED + r"Subclassed '.*convert the layers by `from_conv`"),
    "overridden call": (Tenfold, CLONED + r"Tenfold '.*`keras.Model\(model.inputs"),
    "shared within": (
        shared_with_a_wrapper,
        r"'conv' is used within SpectralNormalization '.* and elsewhere.*Use each layer in",
    ),
    "LoRA": (with_lora, r"Received: Dense 'dense' with lora_rank=2. Merge them first"),
    "unregistered activation": (
        lambda: sequential(layers.Conv2D(2, 3), layers.Dense(2, activation=unregistered)),
        r"(?s)Keras cannot copy model 'given': .*function 'unregistered'.*Register your",
    ),
    "unregistered loss": (
        lambda: compiled_with(own_loss),
        r"(?s)Keras cannot copy model 'given': .*'own_loss'.*before it is compiled",
    ),
    "unbuilt": (lambda: keras.Sequential([layers.Conv2D(2, 3)]), CLONED + "Sequential '"),
    "a layer": (lambda: layers.Conv2D(2, 3), CLONED + "Conv2D '"),
    "no model": (lambda: "model", CLONED + "str 'model'"),
    "no convolution": (
        lambda: sequential(layers.Dense(2, name="dense")),
        r"no layer to convert in model 'given'.*one Conv1D.*\['dense'\].*`from_conv`",
    ),
    "unknown size": (
        lambda: sequential(layers.Conv2D(2, 3), shape=(None, None, 1)),
        r"fully-defined.*shape \(None, None, None, 1\).*`keras.models.clone_model",
    ),
    "two sizes": (two_sizes, r"layer 'conv' is incompatible .* the one size that it was"),
    "a subclass": (lambda: sequential(Special(2, 3)), r"exactly one .*Received: Special '"),
    "too large": (
        lambda: sequential(layers.Conv2D(64, 3), shape=(300, 300, 3)),
        r"dense kernel of SoftConv2D .* GB.*`halo=0`",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused_is_left_untouched(make, message):
    model = make()
    is_model = isinstance(model, keras.Model) and model.built
    before = (model.get_config(), model.get_weights()) if is_model else None
    with pytest.raises(ValueError, match=message):
        soften(model)
    if is_model:
        assert model.get_config() == before[0]
        for weight, original in zip(model.get_weights(), before[1], strict=True):
            np.testing.assert_array_equal(weight, original)


def test_a_predicate_that_chooses_nothing():
    model = sequential(layers.Conv2D(2, 3))
    with pytest.raises(ValueError, match=r"one Conv1D .* that `predicate` chooses. Rec"):
        soften(model, lambda layer: False)
    with pytest.raises(ValueError, match=r"no layer to convert.*one SoftConv1D or SoftC"):
        harden(model)


@pytest.mark.parametrize("predicate", ["conv", 3])
def test_a_predicate_that_cannot_be_asked(predicate):
    with pytest.raises(ValueError, match=r"`predicate` must be .*Received: predicate="):
        soften(sequential(layers.Conv2D(2, 3)), predicate)


def test_a_nested_subclass_is_copied_whole(rng):
    inputs = keras.Input((6, 6, 1))
    model = keras.Model(inputs, layers.Conv2D(2, 1)(Subclassed()(inputs)))
    soft, _ = check_there_and_back(model, rng.normal(size=(4, 6, 6, 1)))
    assert len(soft_layers(soft)) == 1


def test_other_arguments_are_refused_before_anything_is_made():
    model = sequential(layers.Conv2D(2, 3))
    with pytest.raises(ValueError, match=r"Received: \['strides'\]. All others"):
        soften(model, strides=2)
    with pytest.raises(ValueError, match=r"`kernel` must be one of"):
        harden(soften(model), kernel="mean")


def test_a_model_of_unknown_size_is_softened_as_its_error_says(rng):
    model = sequential(layers.Conv2D(2, 3), shape=(None, None, 1))
    sized = keras.models.clone_model(model, keras.Input((6, 6, 1)))
    sized.set_weights(model.get_weights())
    x = rng.normal(size=(3, 6, 6, 1))
    np.testing.assert_allclose(
        predictions(soften(sized), x), predictions(model, x), rtol=1e-4, atol=1e-5
    )
