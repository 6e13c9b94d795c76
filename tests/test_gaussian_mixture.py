"""A mixture is trained and saved with the layer that it belongs to."""

import keras
import numpy as np
import pytest
from backends import BACKEND, at_once, gradients
from keras import ops
from keras.ops import convert_to_numpy as to_numpy
from soft_models import compile_and_build, read, soft_model

from keras_softconv import SoftConv2D
from keras_softconv.compat import name_of
from keras_softconv.regularizers import GaussianMixture, Layout

NAMES = [
    f"{place}_{name}"
    for place in ("tie", "off_template", "bias_tie")
    for name in ("logits", "means", "log_variances")
]


def mixture_model(**arguments) -> keras.Model:
    """Its ties have shades of their own in each family, what is off them has not."""
    return soft_model(
        tie_regularizer=GaussianMixture(0.1, components=2, per_family=True),
        off_template_regularizer=GaussianMixture(0.1),
        **arguments,
    )


def values_of(layer) -> dict[str, np.ndarray]:
    return {name_of(weight): to_numpy(weight).copy() for weight in layer.trainable_weights}


def train(model, images, epochs=2, jit_compile="auto"):
    compile_and_build(model, "adam", jit_compile=jit_compile)
    arguments = {"batch_size": 4, "epochs": epochs, "shuffle": False, "verbose": 0}
    return model.fit(*images, **arguments).history["loss"]


def test_its_parameters_are_weights_of_the_layer():
    layer = mixture_model().layers[0]
    shapes = {name: value.shape for name, value in values_of(layer).items()}
    assert set(NAMES) < set(shapes)
    assert len(layer.trainable_weights) == 4 + len(NAMES)
    for name in NAMES:
        place = name.split("_")[0]
        families = 3 * 3 * 2 * 3
        expected = {"tie": (families, 2), "off": (1, 3), "bias": (3, 2)}[place]
        assert shapes[name] == expected


def test_it_begins_spread_out():
    mixture = GaussianMixture(components=3, spread=0.6, minimum_variance=0.01)
    begin = {
        name: to_numpy(of.initializer(of.shape, dtype="float32"))
        for name, of in mixture.state(5).items()
    }
    np.testing.assert_allclose(begin["means"], [[-0.6, 0, 0.6]], atol=1e-7)
    np.testing.assert_array_equal(begin["logits"], 0)
    deviations = np.sqrt(0.01 + np.exp(begin["log_variances"]))
    np.testing.assert_allclose(deviations, 0.6, rtol=1e-6)
    assert all(of.trainable for of in mixture.state(5).values())


# For every change, each storage and each way to compile it is taken once.
WAYS = [(None, False), (1, BACKEND != "torch")]
if BACKEND != "torch":
    WAYS += [
        pytest.param(*way, marks=pytest.mark.slow) for way in [(None, True), (1, False)]
    ]


@pytest.mark.parametrize(("halo", "jit_compile"), WAYS)
def test_it_is_trained(images, halo, jit_compile):
    model = mixture_model(halo=halo)
    before = values_of(model.layers[0])
    losses = train(model, images, 3, jit_compile)
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    after = values_of(model.layers[0])
    for name in NAMES:
        assert np.isfinite(after[name]).all()
        assert (after[name] != before[name]).all()


def test_it_finds_the_shades_of_what_it_is_given(rng):
    # By descent on the penalty alone, from components beside the shades.
    mixture = GaussianMixture(1 / 600, components=2, minimum_variance=1e-4)
    shades = np.concatenate([rng.normal(-0.8, 0.1, 200), rng.normal(0.3, 0.05, 400)])
    weights = ops.convert_to_tensor(shades[:, None], "float32")

    def penalty(*state):
        return mixture.penalty(weights, Layout((0,)), *state)

    slopes = at_once(lambda *state: gradients(penalty, state))
    state = [[[0, 0]], [[-0.5, 0.5]], np.log([[0.1, 0.1]])]
    state = [ops.convert_to_tensor(values, "float32") for values in state]
    for _ in range(200):
        rates = (1, 0.005, 1)
        state = [s - r * g for s, r, g in zip(state, rates, slopes(*state), strict=True)]
    logits, means, log_variances = (to_numpy(values)[0] for values in state)
    np.testing.assert_allclose(means, [-0.8, 0.3], atol=0.02)
    proportions = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(proportions, [1 / 3, 2 / 3], atol=0.02)
    widths = np.sqrt(1e-4 + np.exp(log_variances))
    np.testing.assert_allclose(widths, [0.1, 0.05], atol=0.02)


def test_it_is_saved(images, tmp_path):
    model = mixture_model()
    train(model, images)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    saved, found = values_of(model.layers[0]), values_of(loaded.layers[0])
    assert saved.keys() == found.keys()
    for name, value in saved.items():
        np.testing.assert_array_equal(found[name], value)
    penalties = [read(m.layers[0], SoftConv2D.penalties) for m in (model, loaded)]
    assert penalties[0] == penalties[1]
    losses = [m.evaluate(*images, verbose=0) for m in (model, loaded)]
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_layers_that_share_the_object_have_mixtures_of_their_own(images):
    mixture = GaussianMixture(0.1)
    arguments = {"padding": "same", "tie_regularizer": mixture,
                 "deviation_initializer": "glorot_uniform"}  # fmt: skip
    layers = [SoftConv2D(filters, 3, **arguments) for filters in (2, 3)]
    model = keras.Sequential([keras.Input((5, 4, 2)), *layers])
    train(model, images)
    first, second = map(values_of, layers)
    for name in NAMES[:3]:
        assert first[name].shape == second[name].shape == (1, 3)
        assert (first[name] != second[name]).any()
    assert layers[0].tie_regularizer is layers[1].tie_regularizer


def least_penalty(members, minimum_variance) -> float:
    return members * np.log(2 * np.pi * minimum_variance) / 2


@pytest.mark.parametrize("log_variance", [-20.0, -200.0, -1e6])
def test_a_mixture_that_has_shrunk_to_a_point_costs_no_less_than_its_least(log_variance):
    mixture = GaussianMixture(1.0, components=3, minimum_variance=1e-3)
    state = {
        name: ops.full((1, 3), value)
        for name, value in
        {"logits": 0.0, "means": 0.25, "log_variances": log_variance}.items()
    }  # fmt: skip
    weights = ops.full((4, 5, 2), 0.25)
    value = mixture.penalty(weights, Layout((0, 1)), **state)
    np.testing.assert_allclose(to_numpy(value), least_penalty(40, 1e-3), rtol=1e-5)


def test_training_that_goes_on_ends_at_the_least(images):
    # Nothing to learn and all deviations 0: the mixture shrinks as far as it may.
    mixture = GaussianMixture(1e-3, components=1, minimum_variance=1e-2)
    model = soft_model(tie_regularizer=mixture, off_template_regularizer=None,
                       deviation_initializer="zeros", use_bias=False)  # fmt: skip
    model.compile(keras.optimizers.Adam(0.3), "mse")
    nothing = [np.zeros_like(array) for array in images]
    model.fit(*nothing, batch_size=8, epochs=60, verbose=0)
    layer = model.layers[0]
    np.testing.assert_array_equal(to_numpy(layer.deviations), 0)
    variance = np.exp(values_of(layer)["tie_log_variances"].item())
    assert variance < 1e-3  # below the minimum, which it adds to
    members = int(layer.weight_sharing.geometry.template_size)
    least = 1e-3 * least_penalty(members, 1e-2)
    value = float(read(layer, SoftConv2D.penalties)["tie_penalty"])
    assert least * (1 + 1e-5) <= value < least + 0.1 * 1e-3 * members
