"""SoftConv2D as a layer: its two ends, its weights, its manners towards Keras."""

import inspect

import keras
import numpy as np
import oracle
import pytest
from backends import KERAS_2, at_once, gradients
from covering import each_case
from keras import ops
from keras.ops import convert_to_numpy as to_numpy
from soft_models import (
    SOFT_CONVS,
    call,
    dense_deviations,
    dense_form,
    kernel_of,
    numpy_weights,
    outputs_and_losses,
    random_layer,
    read,
)

import keras_softconv
from keras_softconv import SoftConv2D, weight_sharing
from keras_softconv.compat import name_of


def random_images(case, rng, count=3):
    grid, in_channels, *_ = case
    return rng.normal(size=(count, *grid, in_channels)).astype("float32")


@pytest.fixture
def halo(request, monkeypatch):
    """That of a layer in each of the ways to compute its outputs."""
    if request.param == "dense, large":
        monkeypatch.setattr(weight_sharing.dense, "SMALL_KERNEL", 0)
    return 1 if request.param == "halo" else None


in_each_way = each_case("dense", "dense, large", "halo", indirect=["halo"])
# What does not depend on how outputs are computed is asked of each storage once.
of_each_storage = each_case(None, 1)


class TestOrigin:
    """The example of Cross Validated question 559113: 3x3 input, 2x2 filter."""

    def test_counts(self):
        layer = SoftConv2D(1, 2)
        layer.build((None, 3, 3, 1))
        ids = layer.family_ids()
        assert ids.size == 36
        assert [int((ids == tap).sum()) for tap in range(4)] == [4, 4, 4, 4]
        assert (ids == -1).sum() == 20
        assert layer.template_mask().sum() == 16

    def test_members_are_those_of_the_formula(self):
        # Neuron (p, q) sees pixel (p + a, q + b) through tap (a, b).
        layer = SoftConv2D(1, 2)
        layer.build((None, 3, 3, 1))
        ids = layer.family_ids()
        for tap, (a, b) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
            members = {(p + a, q + b, 0, p, q, 0) for p in range(2) for q in range(2)}
            assert {tuple(map(int, m)) for m in np.argwhere(ids == tap)} == members


class TestEveryCase:
    @in_each_way
    def test_is_a_convolution_when_deviations_are_zero(self, case, halo, rng):
        layer = random_layer(case, rng, halo=halo)
        for weight in (layer.deviations, layer.bias_deviations):
            weight.assign(np.zeros(weight.shape))
        x = random_images(case, rng)
        expected = oracle.convolve(case, x, to_numpy(layer.shared_kernel))
        expected = expected + to_numpy(layer.shared_bias)
        outputs, _ = call(layer, x)
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)

    @in_each_way
    def test_is_a_dense_layer_always(self, case, halo, rng):
        layer = random_layer(case, rng, halo=halo)
        x = random_images(case, rng)
        kernel, bias = read(layer, lambda layer: (layer.kernel, layer.bias))
        kernel = kernel.astype("float64")
        expected = x.reshape(3, -1) @ kernel.reshape(x[0].size, -1) + bias.ravel()
        outputs, _ = call(layer, x)
        np.testing.assert_allclose(outputs.reshape(3, -1), expected, rtol=1e-4, atol=1e-4)

    @in_each_way
    def test_gradients_are_those_of_the_dense_kernel_summed_over_families(
        self, case, halo, rng
    ):
        layer = random_layer(
            case, rng, halo=halo, tie_regularizer=None, off_template_regularizer=None
        )
        x = random_images(case, rng)
        upstream = rng.normal(size=layer.compute_output_shape(x.shape)).astype("float32")

        def total(inputs, *weights):
            outputs, _ = outputs_and_losses(layer, inputs, weights)
            return ops.sum(ops.multiply(outputs, upstream))

        weights = layer.trainable_weights
        names = ["inputs", *map(name_of, weights)]
        found = dict(zip(names, gradients(total, [x, *weights]), strict=True))
        sharing, stored = layer.weight_sharing, found["deviations"]
        without_void = at_once(sharing.without_void)(stored)
        np.testing.assert_array_equal(to_numpy(without_void), to_numpy(stored))
        found["deviations"] = dense_form(sharing, stored)
        kernel, ids = read(layer, kernel_of), oracle.family_ids(case)
        dense = x.reshape(3, -1).T @ upstream.reshape(3, -1)
        dense = dense.reshape(kernel.shape)
        if halo is not None:
            dense = np.where(oracle.within_halo(case, halo), dense, 0)
        families = range(np.prod(layer.shared_kernel.shape))
        expected = {
            "shared_kernel": [dense[ids == family].sum() for family in families],
            "deviations": dense,
            "shared_bias": upstream.reshape(-1, upstream.shape[-1]).sum(0),
            "bias_deviations": upstream.sum(0),
            "inputs": upstream.reshape(3, -1) @ kernel.reshape(x[0].size, -1).T,
        }
        for name, gradient in found.items():
            np.testing.assert_allclose(
                to_numpy(gradient).ravel(), np.ravel(expected[name]), rtol=1e-4, atol=1e-4
            )

    @of_each_storage
    def test_kernel_is_the_expanded_shared_kernel_plus_deviations(self, case, halo, rng):
        layer = random_layer(case, rng, halo=halo)
        weights = numpy_weights(layer)
        expanded = oracle.dense_kernel(case, weights["shared_kernel"])
        np.testing.assert_allclose(
            read(layer, kernel_of),
            expanded + dense_deviations(layer),
            rtol=1e-5,
            atol=1e-6,
        )

    @of_each_storage
    def test_family_ids_and_means(self, case, halo, rng):
        layer = random_layer(case, rng, halo=halo)
        ids = oracle.family_ids(case)
        np.testing.assert_array_equal(layer.family_ids(), ids)
        np.testing.assert_array_equal(layer.template_mask(), ids >= 0)
        kernel = read(layer, kernel_of).astype("float64")
        means = read(layer, lambda layer: layer.family_means())
        assert means.shape == tuple(layer.shared_kernel.shape)
        for family, mean in enumerate(means.ravel()):
            members = kernel[ids == family]
            expected = members.mean() if members.size else 0.0
            np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-6)

    @in_each_way
    def test_channels_first_is_the_same_layer_transposed(self, case, halo, rng):
        last = random_layer(case, rng, halo=halo)
        first = type(last)(**last.get_config() | {"data_format": "channels_first"})
        x = random_images(case, rng)
        transposed = np.moveaxis(x, -1, 1)
        first.build(transposed.shape)
        first.set_weights(last.get_weights())
        outputs, _ = call(first, transposed)
        assert first.compute_output_shape(transposed.shape) == outputs.shape
        np.testing.assert_allclose(
            np.moveaxis(outputs, 1, -1), call(last, x)[0], rtol=1e-5, atol=1e-6
        )

    @in_each_way
    def test_symbolic_and_eager_shapes_agree(self, case, halo, rng):
        layer = random_layer(case, rng, halo=halo)
        x = random_images(case, rng)
        outputs, _ = call(layer, x)
        assert layer.compute_output_shape(x.shape) == outputs.shape
        symbolic = layer(keras.Input(x.shape[1:]))
        assert symbolic.shape == (None, *outputs.shape[1:])


@pytest.mark.parametrize("rank", SOFT_CONVS)
def test_same_names_order_and_defaults_as_keras_has(rank):
    ours = inspect.signature(SOFT_CONVS[rank]).parameters
    theirs = inspect.signature(oracle.CONVS[rank]).parameters
    new = {
        "tie_regularizer",
        "off_template_regularizer",
        "deviation_initializer",
        "halo",
        "penalty_registration",
    }
    if KERAS_2 and rank == 1:  # where one of them does not ask Keras's configuration
        ours = ours | {"data_format": theirs["data_format"]}
    shared = [(name, p.default, p.kind) for name, p in ours.items() if name not in new]
    assert shared == [(name, p.default, p.kind) for name, p in theirs.items()]
    assert {ours[name].kind for name in new} == {inspect.Parameter.KEYWORD_ONLY}
    for name in ("tie_regularizer", "off_template_regularizer"):
        assert isinstance(ours[name].default, keras.regularizers.L2)
        assert ours[name].default.l2 == pytest.approx(3.0)


@pytest.mark.parametrize("rank", SOFT_CONVS)
def test_penalties_are_those_of_the_config_and_not_todays_defaults(rank):
    names = ("tie_regularizer", "off_template_regularizer")
    new = SOFT_CONVS[rank](2, 3).get_config()
    assert [new[name]["config"]["l2"] for name in names] == [3.0, 3.0]
    # As 1.0.0 wrote it of a layer that was given none.
    old = {"class_name": "L2", "config": {"l2": 1e-3}}
    layer = SOFT_CONVS[rank].from_config(new | dict.fromkeys(names, old))
    assert [getattr(layer, name).l2 for name in names] == pytest.approx([1e-3, 1e-3])
    again = type(layer).from_config(layer.get_config())
    assert [getattr(again, name).l2 for name in names] == pytest.approx([1e-3, 1e-3])


@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")
@pytest.mark.parametrize(
    ("filters", "arguments", "input_shape", "output_shape"),
    [
        (5, {"kernel_size": 2}, (3, 5, 5, 4), (3, 4, 4, 5)),
        (
            6,
            {"kernel_size": 2, "padding": "same", "dilation_rate": (2, 2), "groups": 2},
            (3, 4, 4, 4),
            (3, 4, 4, 6),
        ),
        (
            6,
            {"kernel_size": (2, 2), "strides": (2, 1), "groups": 2},
            (3, 5, 5, 4),
            (3, 2, 4, 6),
        ),
        (
            2,
            {
                "kernel_size": 3,
                "padding": ((1, 0), (2, 2)),
                "deviation_initializer": "he_normal",
                "tie_regularizer": "l1",
                "off_template_regularizer": keras.regularizers.L1L2(0.1, 0.2),
                "penalty_registration": "regularizer",
            },
            (3, 4, 4, 1),
            (3, 3, 6, 2),
        ),
        (2, {"kernel_size": 3, "padding": "causal"}, (3, 6, 2), (3, 6, 2)),
        (2, {"kernel_size": 2, "halo": 1}, (3, 4, 3, 3, 1), (3, 3, 2, 2, 2)),
    ],
)
def test_keras_own_layer_test(filters, arguments, input_shape, output_shape):
    testing = pytest.importorskip("keras.src.testing", reason="Keras's private helper")
    testing.TestCase().run_layer_test(
        SOFT_CONVS[len(input_shape) - 2],
        init_kwargs={"filters": filters, **arguments},
        input_shape=input_shape,
        expected_output_shape=output_shape,
        expected_num_trainable_weights=4,
        expected_num_non_trainable_weights=2,
        expected_num_losses=2,
        supports_masking=False,
    )


def test_weights_have_the_documented_names_shapes_and_dtypes():
    layer = SoftConv2D(6, 3, padding="same", groups=2, dtype="bfloat16")
    layer.build((None, 5, 4, 4))
    weights = {name_of(weight): weight for weight in layer.weights}
    assert {name: tuple(weight.shape) for name, weight in weights.items()} == {
        "shared_kernel": (3, 3, 2, 6),
        "deviations": (5, 4, 4, 5, 4, 6),
        "shared_bias": (6,),
        "bias_deviations": (5, 4, 6),
        "tie_strength": (),
        "off_template_strength": (),
    }
    for name in ("tie_strength", "off_template_strength"):
        assert weights[name].dtype == "float32"
        assert not weights[name].trainable
        assert float(weights[name]) == 1.0


def test_small_deviations_are_not_lost_in_half_precision():
    layer = SoftConv2D(1, 2, use_bias=False, dtype="mixed_bfloat16")
    layer.build((None, 2, 2, 1))
    signs = np.array([1.0, -1.0, 1.0, -1.0], "float32")
    layer.shared_kernel.assign(np.ones((2, 2, 1, 1)))
    layer.deviations.assign(1e-4 * signs.reshape(layer.deviations.shape))
    outputs = ops.cast(layer(signs.reshape(1, 2, 2, 1)), "float32")
    np.testing.assert_allclose(to_numpy(outputs).ravel(), [4e-4], rtol=1e-2)


def test_without_bias():
    layer = SoftConv2D(2, 2, use_bias=False)
    layer.build((None, 3, 3, 1))
    assert layer.bias is None
    assert list(map(name_of, layer.trainable_weights)) == ["shared_kernel", "deviations"]


def test_deviations_start_with_the_fans_of_the_dense_layer():
    layer = SoftConv2D(4, 3, padding="same", deviation_initializer="glorot_uniform")
    layer.build((None, 10, 10, 3))
    limit = np.sqrt(6 / (10 * 10 * 3 + 10 * 10 * 4))
    deviations = to_numpy(layer.deviations)
    np.testing.assert_allclose(np.abs(deviations).max(), limit, rtol=1e-3)
    assert np.abs(deviations).max() <= limit


def test_by_default_starts_as_a_convolution():
    layer = SoftConv2D(4, 3, deviation_initializer=None)
    layer.build((None, 6, 6, 3))
    assert not to_numpy(layer.deviations).any()
    assert to_numpy(layer.shared_kernel).any()


def test_constraints_and_activation(images):
    x, _ = images
    layer = SoftConv2D(
        3, 2, activation="relu", kernel_constraint="non_neg", bias_constraint="non_neg"
    )
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    model.compile("sgd", "mse")
    outputs = model.predict(x, verbose=0)
    assert outputs.min() >= 0
    model.fit(x, -np.ones_like(outputs), epochs=3, verbose=0)
    for weight in (layer.shared_kernel, layer.shared_bias):
        assert to_numpy(weight).min() >= 0


def test_integer_images():
    layer = SoftConv2D(2, 2)
    whole = layer(np.arange(18).reshape(2, 3, 3, 1))
    np.testing.assert_allclose(
        to_numpy(whole),
        to_numpy(layer(np.arange(18.0).reshape(2, 3, 3, 1))),
        rtol=1e-6,
    )


def test_public_names():
    assert set(keras_softconv.__all__) <= set(dir(keras_softconv))
    assert keras_softconv.layers.SoftConv2D is SoftConv2D
