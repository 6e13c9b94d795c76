"""What cannot be converted is refused with a clear error, and left as it was."""

import keras
import numpy as np
import pytest
from backends import KERAS_2, not_on_keras_2
from conv_cases import CASES_2D
from keras import layers
from test_conversion import built_conv
from test_model_conversion import Subclassed, predictions, sequential

from keras_softconv import SoftConv2D, from_conv, harden, soften, to_conv


class Special(layers.Conv2D):
    """May compute anything."""


class SpecialSoft(SoftConv2D):
    """Here too."""


UNCONVERTIBLE = [
    layers.Dense(3),
    layers.DepthwiseConv2D(3),
    layers.Conv2DTranspose(3, 3),
    Special(3, 3),
    SpecialSoft(3, 3),
    "conv",
]


@pytest.mark.parametrize("layer", UNCONVERTIBLE, ids=lambda layer: type(layer).__name__)
def test_other_layers_are_refused(layer):
    title = type(layer).__name__
    with pytest.raises(ValueError, match=rf"one of .*Conv1D, Conv2D.*Received: {title} '"):
        from_conv(layer, (8, 8, 1))
    with pytest.raises(
        ValueError, match=rf"one of .*SoftConv1D.*Received: {title} '.*`soft"
    ):
        to_conv(layer)


def test_unbuilt_layers_are_refused():
    message = r"You must build the layer before.*Received: an unbuilt {}2D 'named'. Call"
    with pytest.raises(ValueError, match=message.format("Conv")):
        from_conv(layers.Conv2D(3, 3, name="named"), (8, 8, 1))
    with pytest.raises(ValueError, match=message.format("SoftConv")):
        to_conv(SoftConv2D(3, 3, name="named"))


@not_on_keras_2("has no such weights")
def test_lora_is_refused(rng):
    conv = built_conv(CASES_2D["same"], rng)
    conv.enable_lora(2)
    with pytest.raises(
        ValueError, match=r"layers without LoRA.*with lora_rank=2. Merge them"
    ):
        from_conv(conv, (5, 5, 1))


@pytest.mark.parametrize(
    "shape",
    [
        (None, 5, 5, 1),
        (5, 5),
        (5, 5, 2),
        5,
        None,
        "5x5",
        (5, 5, None),
        (0, 5, 1),
        (5.0, 5, 1),
    ],
)
def test_an_input_shape_that_does_not_fit(shape, rng):
    conv = built_conv(CASES_2D["same"], rng)
    message = r"`input_shape` must be.*3 sizes.*of which 1 channels. Received: input_shape="
    with pytest.raises(ValueError, match=message):
        from_conv(conv, shape)


def test_an_input_of_unknown_size(rng):
    conv = built_conv(CASES_2D["same"], rng)
    with pytest.raises(ValueError, match=r"fully-defined.*Give the sizes.*`set_weights`"):
        from_conv(conv, (None, 5, 1))


def test_arguments_that_the_convolution_has(rng):
    conv = built_conv(CASES_2D["same"], rng)
    message = (
        r"Expected only.*'halo'.*Received: \['filters', 'strides'\].*change them there"
    )
    with pytest.raises(ValueError, match=message):
        from_conv(conv, (5, 5, 1), strides=2, filters=3)


@pytest.mark.parametrize("kernel", ["mean", None, 1, ["family_means"]])
def test_an_unknown_choice_of_kernel(kernel):
    soft = SoftConv2D(1, 2)
    soft.build((None, 3, 3, 1))
    with pytest.raises(ValueError, match=r"`kernel` must be one of .* Keep 'family_means'"):
        to_conv(soft, kernel)


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


def two_sizes_in_one_nested_model():
    conv = layers.Conv1D(2, 3, name="conv")
    inner = keras.Sequential([keras.Input((6, 1)), conv], name="inner")
    inputs = [keras.Input((6, 1)), keras.Input((8, 1))]
    outputs = [inner(inputs[0]), layers.TimeDistributed(conv)(inputs[1][:, None])]
    return keras.Model(inputs, outputs, name="outer")


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
        r"(?s)Keras cannot copy model 'given': .*'unregistered'.*Register your",
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
    "two sizes, named": (
        two_sizes,
        r"^Cannot soften convolution 'conv' of model '.*of different sizes, shapes "
        r"\(None, (6, 6|7, 7), 1\) and \(None, (6, 6|7, 7), 1\)\..*`predicate=lambda",
    ),
    "two sizes, nested": (
        two_sizes_in_one_nested_model,
        r"^Cannot soften convolution 'conv' of model 'outer'.*`predicate=lambda layer: "
        r"layer.name != 'conv'`",
    ),
    "unknown size, named": (
        lambda: sequential(layers.Conv2D(2, 3, name="conv"), shape=(None, None, 1)),
        r"^Cannot soften convolution 'conv' of model 'given'.*of unknown size, shape "
        r"\(None, None, None, 1\).*`predicate=lambda",
    ),
    "a subclass": (lambda: sequential(Special(2, 3)), r"exactly one .*Received: Special '"),
    "too large": (
        lambda: sequential(layers.Conv2D(64, 3), shape=(300, 300, 3)),
        r"dense kernel of SoftConv2D .* GB.*`halo=0`",
    ),
}  # fmt: skip
if KERAS_2:  # it has no such weights
    del REFUSED["LoRA"]


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


def test_what_the_refusal_of_two_sizes_says_to_do(rng):
    conv = layers.Conv2D(2, 3, name="conv")
    inputs = [keras.Input((6, 6, 1)), keras.Input((7, 7, 1))]
    outputs = [layers.Conv2D(2, 3, name="other")(conv(inputs[0])), conv(inputs[1])]
    model = keras.Model(inputs, outputs)
    soft = soften(model, predicate=lambda layer: layer.name != "conv")
    assert [type(soft.get_layer(name)) for name in ("conv", "other")] == [
        layers.Conv2D,
        SoftConv2D,
    ]
    x = [rng.normal(size=(2, *each.shape[1:])) for each in inputs]
    np.testing.assert_allclose(predictions(soft, x), predictions(model, x), atol=1e-5)


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
