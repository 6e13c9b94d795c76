"""A convolution, the same as a SoftConv layer, and back, on Keras's own convolutions."""

import keras
import numpy as np
import oracle
import pytest
from backends import BACKEND, gradients, not_on_keras_2, tensorflow_only
from conv_cases import CASES, CASES_2D, random_cases
from covering import covering, each_in_rings
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from keras import ops
from keras.ops import convert_to_numpy as to_numpy
from soft_models import (
    SOFT_CONVS,
    call,
    kernel_of,
    names,
    numpy_weights,
    random_layer,
    read,
)

from keras_softconv import SoftConv2D, from_conv, to_conv

WITHOUT_PENALTIES = {"tie_regularizer": None, "off_template_regularizer": None}

# The correctness tests of Conv2D in Keras's `conv_test.py`, as cases.
KERAS_CASES = {
    "valid": ((8, 8), 4, 5, {"kernel_size": 2}),
    "same": ((8, 8), 4, 4, {"kernel_size": 3, "strides": 2, "padding": "same"}),
    "dilated": (
        (8, 8), 4, 6,
        {"kernel_size": 2, "padding": "same", "dilation_rate": (2, 2), "groups": 2},
    ),
    "dilated_unevenly": (
        (8, 8), 4, 6,
        {"kernel_size": 2, "padding": "same", "dilation_rate": (2, 3), "groups": 2},
    ),
    "strided_groups": (
        (8, 8), 4, 6, {"kernel_size": (4, 3), "strides": (2, 1), "groups": 2}
    ),
}  # fmt: skip


def built_conv(case, rng, **arguments) -> keras.Layer:
    """The convolution of a case with random weights, channels last unless told."""
    grid, _, filters, conv_arguments = case
    given = {"data_format": "channels_last", "kernel_initializer": "zeros"}
    arguments = {**given, **conv_arguments, **arguments}
    conv = oracle.CONVS[len(grid)](filters, **arguments)
    conv.build((None, *input_shape(case, arguments["data_format"])))
    for weight in conv.weights:
        weight.assign(rng.normal(size=weight.shape))
    return conv


def input_shape(case, data_format="channels_last") -> tuple:
    grid, in_channels, *_ = case
    if data_format == "channels_last":
        return (*grid, in_channels)
    return (in_channels, *grid)


# TensorFlow has no convolutions with channels first on CPUs, and Keras 3.15 adds the bias
# along the wrong axis of those whose last axis is as long as there are filters.
DATA_FORMATS = ["channels_last", "channels_first"]
if BACKEND == "tensorflow":
    DATA_FORMATS.remove("channels_first")


def check_same(conv, soft, rng):
    """Two layers agree on random and on one-hot images, in outputs and input gradients.

    The answer to all one-hot images is the dense kernel.
    """
    shape = soft.get_build_config()["input_shape"][1:]
    random, one_hot = rng.normal(size=(3, *shape)), np.eye(np.prod(shape))
    x = np.concatenate([random, one_hot.reshape(-1, *shape)]).astype("float32")
    (expected, _), (outputs, _) = (call(layer, x) for layer in (conv, soft))
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    upstream = rng.normal(size=expected.shape).astype("float32")
    expected, found = (
        to_numpy(gradients(lambda x, f=f: ops.sum(ops.multiply(f(x), upstream)), [x])[0])
        for f in (conv, soft)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def check_family_ids(conv, soft):
    """Each member of a family has the weight of its tap; the weights are all different."""
    kernel, ids = to_numpy(conv.kernel).ravel(), soft.family_ids()
    assert len(set(kernel)) == kernel.size
    expected = np.where(ids >= 0, kernel[ids], 0)
    np.testing.assert_array_equal(read(soft, kernel_of), expected)


@pytest.mark.parametrize(("name", "data_format"), covering(list(KERAS_CASES), DATA_FORMATS))
def test_configurations_of_keras_own_test(name, data_format, rng):
    case = KERAS_CASES[name]
    conv = built_conv(case, rng, data_format=data_format)
    soft = from_conv(conv, input_shape(case, data_format))
    check_same(conv, soft, rng)
    np.testing.assert_array_equal(soft.family_ids(), oracle.family_ids(case))


configurations = given(
    random_cases(paddings=("valid", "same")),
    st.sampled_from([None, 0, 1]),
    st.sampled_from([None, "tanh"]),
    st.booleans(),
)


@settings(max_examples={"tensorflow": 50, "torch": 50, "jax": 8}[BACKEND])
@configurations
def test_random_configurations(case, halo, activation, use_bias):
    check_there_and_back(case, halo, activation, use_bias)


@pytest.mark.slow
@tensorflow_only
@not_on_keras_2("takes fewer, above")
@settings(max_examples=500)
@configurations
def test_many_random_configurations(case, halo, activation, use_bias):
    check_there_and_back(case, halo, activation, use_bias)


def check_there_and_back(case, halo, activation, use_bias):
    rng = np.random.default_rng(0)
    assume(not _is_misread(case))
    conv = built_conv(case, rng, activation=activation, use_bias=use_bias)
    soft = from_conv(conv, input_shape(case), halo=halo, **WITHOUT_PENALTIES)
    check_same(conv, soft, rng)
    check_family_ids(conv, soft)
    check_identical(to_conv(soft), conv)


def _is_misread(case) -> bool:
    """Whether the framework's own Conv3D may be wrong, with inputs that are left over.

    TensorFlow's may begin too late, see `oracle`; torch's reads beyond its memory on
    processors with AVX-512, where it takes oneDNN.
    """
    geometry = oracle.geometry_of(case)
    leaves_over = len(case[0]) == 3 and any(geometry.rest)
    is_misread = {
        "tensorflow": geometry.padding == "same",
        "torch": True,
        "jax": False,
    }
    return leaves_over and is_misread[BACKEND]


def check_identical(conv, original):
    """Two convolutions are the same, weights to the last bit."""
    assert type(conv) is type(original)
    assert conv.get_config() == original.get_config()
    for weight, expected in zip(conv.get_weights(), original.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)
    assert set(conv.dropped_energy.values()) == {0.0}


@pytest.mark.parametrize("kernel", ["family_means", "shared_kernel"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_all_arguments_are_carried_over_and_back(rank, kernel, rng):
    case = ((4,) * rank, 2, 2, {"kernel_size": 3, "padding": "same", "groups": 2})
    original = built_conv(
        case, rng, name="named", trainable=False, dtype="mixed_bfloat16",
        activation="relu", kernel_initializer="he_normal", bias_initializer="ones",
        kernel_regularizer=keras.regularizers.L1(0.1), bias_regularizer="l2",
        activity_regularizer="l1", kernel_constraint="non_neg", bias_constraint="max_norm",
    )  # fmt: skip
    soft = from_conv(original, input_shape(case), tie_regularizer="l1", halo=1)
    assert type(soft) is SOFT_CONVS[rank]
    assert soft.tie_regularizer.l1 == keras.regularizers.get("l1").l1
    assert soft.halo == 1
    config = soft.get_config()
    assert {k: config[k] for k in original.get_config()} == original.get_config()
    check_identical(to_conv(soft, kernel), original)


# JAX has no float64 unless asked for.
@pytest.mark.parametrize(
    "policy",
    ["mixed_float16", "bfloat16", *(["float64"] if BACKEND != "jax" else [])],
)
def test_precision_is_carried_over(policy, rng):
    case = CASES_2D["same"]
    conv = built_conv(case, rng, dtype=policy)
    soft = from_conv(conv, input_shape(case))
    x = rng.normal(size=(3, *input_shape(case)))
    outputs, expected = (to_numpy(ops.cast(f(x), "float32")) for f in (soft, conv))
    rough = {"mixed_float16": 1e-2, "bfloat16": 1e-1, "float64": 1e-6}[policy]
    np.testing.assert_allclose(outputs, expected, rtol=rough, atol=rough)
    check_identical(to_conv(soft), conv)


@pytest.mark.parametrize("activation", [keras.layers.PReLU, lambda: lambda x: 2 * x])
def test_activations_that_are_layers_or_nameless(activation, rng):
    conv = keras.layers.Conv2D(2, 2, activation=activation())
    x = rng.normal(size=(3, 4, 4, 1)).astype("float32")
    conv(x)
    for weight in conv.weights:
        weight.assign(rng.normal(size=weight.shape))
    soft = from_conv(conv, (4, 4, 1))
    for layer in (soft, to_conv(soft)):
        np.testing.assert_allclose(to_numpy(layer(x)), to_numpy(conv(x)), atol=1e-5)
    if isinstance(conv.activation, keras.Layer):
        assert soft.activation is not conv.activation


@pytest.mark.parametrize(("name", "data_format"), covering(names, DATA_FORMATS))
def test_every_padding_goes_to_keras_own_layers(name, data_format, rng):
    case = CASES[name]
    if _is_misread(case):
        pytest.skip("Keras's own layer is wrong here")
    rank = len(case[0])
    arguments = {"data_format": data_format, "kernel_initializer": "zeros", **case[3]}
    soft = SOFT_CONVS[rank](case[2], **arguments)
    soft.build((None, *input_shape(case, data_format)))
    for weight in (soft.shared_kernel, soft.shared_bias):
        weight.assign(rng.normal(size=weight.shape))
    conv = to_conv(soft)
    check_same(conv, soft, rng)
    assert type(conv).__module__.startswith("keras.")
    assert conv.name == soft.name
    if isinstance(soft.padding, str) and soft.padding != "circular":
        assert type(conv) is oracle.CONVS[rank]


@each_in_rings(
    ("name", "kernel", "halo"), names, ["family_means", "shared_kernel"], [None, 1]
)
def test_what_is_dropped(name, kernel, halo, rng):
    """Against the effective kernels of both, in float64."""
    case = CASES[name]
    soft = random_layer(case, rng, halo=halo)
    before = numpy_weights(soft)
    conv = to_conv(soft, kernel)
    last = conv.layers[-1] if isinstance(conv, keras.Model) else conv
    kept, ids = to_numpy(last.kernel).astype("float64"), oracle.family_ids(case)
    weights = read(soft, kernel_of).astype("float64")
    convolved = np.where(ids >= 0, kept.ravel()[ids], 0)
    biases = to_numpy(soft.bias).astype("float64")
    expected = {
        "kernel": ((weights - convolved) ** 2).sum() / (weights**2).sum(),
        "bias": ((biases - to_numpy(last.bias)) ** 2).sum() / (biases**2).sum(),
    }
    assert dict(conv.dropped_energy) == pytest.approx(expected, rel=1e-4)
    for name, weight in numpy_weights(soft).items():
        np.testing.assert_array_equal(weight, before[name])
    members = [weights[ids == family] for family in range(kept.size)]
    for value, shared, family in zip(
        kept.ravel(), before["shared_kernel"].ravel(), members, strict=True
    ):
        nearest = family.mean() if kernel == "family_means" and family.size else shared
        np.testing.assert_allclose(value, nearest, rtol=1e-5, atol=1e-6)


def test_without_biases_and_without_weights():
    soft = SoftConv2D(2, 3, use_bias=False, kernel_initializer="zeros")
    soft.build((None, 4, 4, 1))
    conv = to_conv(soft)
    assert conv.bias is None
    assert dict(conv.dropped_energy) == {"kernel": 0.0}


def test_deviations_may_start_elsewhere(rng):
    conv = built_conv(CASES_2D["same"], rng)
    soft = from_conv(conv, (5, 5, 1), deviation_initializer="ones")
    np.testing.assert_array_equal(to_numpy(soft.deviations), 1)
