"""Strengths that the training data choose."""

import keras
import numpy as np
import pytest
from backends import BACKEND, not_on_keras_2
from cheap_training import ignore_compiled_data, rewinding, uncompiled
from covering import covering
from soft_models import dense_deviations

from keras_softconv import SoftConv1D
from keras_softconv.callbacks import AdaptiveStrengths
from keras_softconv.compat import name_of
from keras_softconv.evidence import Curvature, Part, TrainingData, likelihood_of
from keras_softconv.regularizers import FamilyStrengths

pytestmark = pytest.mark.filterwarnings(ignore_compiled_data)

L1, L2 = keras.regularizers.L1, keras.regularizers.L2
N, SIZE, NOISE = 150, 8, 0.5
OUTPUTS = SIZE - 2
STEPS = 20  # An epoch has so many steps.
TIE, OFF = "model/soft/tie_strength", "model/soft/off_template_strength"


def family_ids() -> np.ndarray:
    layer = SoftConv1D(1, 3)
    layer.build((None, SIZE, 1))
    return layer.family_ids().reshape(SIZE, OUTPUTS)


def examples(rng, spread, scale=0.0):
    """Linear responses whose members differ by `spread`, off-template by `scale`."""
    ids = family_ids()
    kernel = np.where(ids >= 0, rng.normal(size=3)[ids], 0.0)
    kernel += np.where(ids >= 0, spread, scale) * rng.normal(size=ids.shape)
    x = rng.normal(size=(N, SIZE, 1)).astype("float32")
    noise = NOISE * rng.normal(size=(N, OUTPUTS))
    y = x[..., 0] @ kernel + noise
    return x, y.astype("float32")[..., None]


def new_model(**arguments):
    arguments = {
        "tie_regularizer": L2(1e-3),
        "off_template_regularizer": L2(2e-3),
    } | arguments
    layer = SoftConv1D(1, 3, name="soft", **arguments)
    model = keras.Sequential([keras.Input((SIZE, 1)), layer], name="model")
    at_once = STEPS if BACKEND == "tensorflow" else 1  # the same steps, in less time
    model.compile(keras.optimizers.Adam(0.02), "mse", steps_per_execution=at_once)
    return model


@pytest.fixture(scope="module")
def rewound():
    """A function that always returns the same model, as if it were new."""
    keras.utils.set_random_seed(0)
    return rewinding(new_model())


def fitted(model, x, y, callback, epochs=40):
    """Its layer, trained to the end for the strengths that it has from time to time."""
    x, y = (np.tile(part, (STEPS, 1, 1)) for part in (x, y))
    model.fit(
        x, y, batch_size=N, epochs=epochs, verbose=0, shuffle=False, callbacks=[callback]
    )
    return model.layers[-1]


class LinearEvidence:
    """MacKay's updates in float64 NumPy, with the whole curvature and exact optima.

    Args:
        x, y: examples.
        ids: family of each weight, -1 off the template.
        factors: of the penalties of ties and off-template weights and, if there is a third
            one, of the shared kernel.
    """

    def __init__(self, x, y, ids, factors):
        self.y = y.astype("float64").ravel()
        self.design = design_of(x[..., 0].astype("float64"), ids)
        size = ids.size
        # Which columns are deviations: of the ties, and off the template.
        is_tie = np.zeros(self.design.shape[1], bool)
        is_tie[3 : 3 + size], is_tie[4 + size :] = (ids >= 0).ravel(), True
        is_off = np.zeros_like(is_tie)
        is_off[3 : 3 + size] = (ids < 0).ravel()
        is_shared = np.arange(is_tie.size) < 3
        self.groups = [is_tie, is_off, is_shared][: len(factors)]
        self.factors = np.array(factors)
        self.free = is_tie.size - sum(group.sum() for group in self.groups)

    def of_squares(self, updates=200):
        """Strengths and the variance of the noise, for the mean squared error."""
        strengths, curvature = np.ones(len(self.groups)), self.design.T @ self.design
        for _ in range(updates):
            prior = self.prior(strengths, self.y.size)
            whole = curvature + np.diag(prior)
            weights = np.linalg.solve(whole, self.design.T @ self.y)
            squares = ((self.y - self.design @ weights) ** 2).sum()
            gammas = self.gammas(whole, curvature)
            noise = squares / (self.y.size - sum(gammas) - self.free)
            strengths = noise * gammas / self.penalties(weights, self.y.size)
        return strengths, noise

    def of_logits(self, updates=100):
        """Strengths for the binary cross-entropy of logits."""
        strengths, weights = np.ones(2), np.zeros(self.design.shape[1])
        for _ in range(updates):
            prior = self.prior(strengths, 2 * self.y.size)
            for _ in range(20):  # Newton's method
                shares = 1 / (1 + np.exp(-self.design @ weights))
                weighted = self.design * (shares * (1 - shares))[:, None]
                curvature = self.design.T @ weighted
                whole = curvature + np.diag(prior)
                gradient = self.design.T @ (shares - self.y) + prior * weights
                weights = weights - np.linalg.solve(whole, gradient)
            gammas = self.gammas(whole, curvature)
            strengths = gammas / self.penalties(weights, 2 * self.y.size)
        return strengths

    def prior(self, strengths, number):
        products = number * strengths * self.factors
        return sum(one * group for one, group in zip(products, self.groups, strict=True))

    def gammas(self, whole, curvature):
        shares = np.diag(np.linalg.solve(whole, curvature))
        return np.array([shares[group].sum() for group in self.groups])

    def penalties(self, weights, number):
        sizes = np.array([(weights[group] ** 2).sum() for group in self.groups])
        return number * self.factors * sizes


def means_of_families(kernel, ids):
    """The mean of each family at the places of its members."""
    means = np.array([kernel[ids == family].mean() for family in range(3)])
    return means[ids]


def design_of(x, ids):
    """Columns: shared kernel, deviations, shared bias, deviations of the biases."""
    size = ids.size
    design = np.zeros((len(x), OUTPUTS, 3 + size + 1 + OUTPUTS))
    for i, p in np.ndindex(ids.shape):
        if ids[i, p] >= 0:
            design[:, p, ids[i, p]] += x[:, i]
        design[:, p, 3 + i * OUTPUTS + p] = x[:, i]
    design[:, :, 3 + size] = 1
    design[:, :, 4 + size :] = np.eye(OUTPUTS)
    return design.reshape(-1, design.shape[-1])


@pytest.mark.parametrize(
    ("spread", "scale"), [(0.5, 0.15), pytest.param(0.1, 0.4, marks=pytest.mark.slow)]
)
def test_training_ends_at_the_fixed_point_of_an_independent_computation(
    spread, scale, rng, rewound
):
    x, y = examples(rng, spread, scale)
    adaptive = AdaptiveStrengths(x, y, update_freq=2, probes=32)
    layer = fitted(rewound(), x, y, adaptive, epochs=80)
    evidence = LinearEvidence(x, y, family_ids(), [1e-3, 2e-3])
    strengths, noise = evidence.of_squares()
    found = adaptive.history[-1]
    # The curvature is drawn at random.
    np.testing.assert_allclose([found[TIE], found[OFF]], strengths, rtol=0.05)
    np.testing.assert_allclose(found["noise_variance"], noise, rtol=0.02)
    np.testing.assert_allclose(found["noise_variance"], NOISE**2, rtol=0.15)
    assert float(layer.tie_strength) == np.float32(found[TIE])


@pytest.mark.slow
@not_on_keras_2("moves no regularizer but those of deviations")
def test_so_it_does_with_a_ridge_of_the_shared_kernel(rng):
    """80 epochs of 20 steps, so that weights and strengths settle."""
    x, y = examples(rng, spread=0.5, scale=0.15)
    adaptive = AdaptiveStrengths(x, y, update_freq=2, probes=32, include="all")
    fitted(new_model(kernel_regularizer=L2(3e-3)), x, y, adaptive, epochs=80)
    evidence = LinearEvidence(x, y, family_ids(), [1e-3, 2e-3, 3e-3])
    strengths, noise = evidence.of_squares()
    found = adaptive.history[-1]
    np.testing.assert_allclose([found[TIE], found[OFF]], strengths[:2], rtol=0.05)
    # The means of 6 deviations have a share of what the shared kernel explains, which is
    # neglected.
    shared = found["model/soft/shared_kernel_strength"]
    np.testing.assert_allclose(shared, strengths[2], rtol=0.1)
    np.testing.assert_allclose(found["noise_variance"], noise, rtol=0.02)


@pytest.mark.slow
def test_so_it_does_with_a_classifier(rng):
    """80 epochs of 20 steps, so that weights and strengths settle."""
    x, y = examples(rng, spread=1.0, scale=0.3)
    y = (y > NOISE * rng.logistic(size=y.shape)).astype("float32")
    adaptive = AdaptiveStrengths(x, y, update_freq=2, probes=32)
    model = new_model()
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    at_once = STEPS if BACKEND == "tensorflow" else 1
    model.compile(keras.optimizers.Adam(0.02), loss, steps_per_execution=at_once)
    fitted(model, x, y, adaptive, epochs=80)
    evidence = LinearEvidence(x, y, family_ids(), [1e-3, 2e-3])
    found = adaptive.history[-1]
    np.testing.assert_allclose([found[TIE], found[OFF]], evidence.of_logits(), rtol=0.06)


@pytest.mark.parametrize(
    ("use_bias", "tie", "off"), covering([True, False], [L2(0.05), None], [L2(0.08), None])
)
def test_an_update_is_that_of_the_formula(tie, off, use_bias, rng):
    x, y = (part[:20] for part in examples(rng, 0.5, 0.3))
    model = new_model(
        tie_regularizer=tie,
        off_template_regularizer=off,
        use_bias=use_bias,
        deviation_initializer="glorot_uniform",
    )
    model.compile(keras.optimizers.SGD(0.0), "mse")
    # With one example at a time the curvature does not depend on chance.
    adaptive = AdaptiveStrengths(x, y, update_freq=1, probes=1, batch_size=1)
    with uncompiled():
        model.fit(x, y, verbose=0, callbacks=[adaptive])
        squares = ((model.predict(x, verbose=0).astype("float64") - y) ** 2).sum()
    (found,) = adaptive.history
    deviations = dense_deviations(model.layers[-1]).reshape(SIZE, OUTPUTS)
    ids, of_bias = family_ids(), OUTPUTS if use_bias else 0
    curvature = (x.astype("float64") ** 2).sum(axis=0) * np.ones(OUTPUTS)
    free, gammas, strengths = 3 + bool(use_bias), {}, {}
    # The shared kernel will take what the members of a family have in common.
    deviations = deviations - np.where(ids >= 0, means_of_families(deviations, ids), 0.0)
    for name, regularizer, members, biases in (
        (TIE, tie, ids >= 0, of_bias),
        (OFF, off, ids < 0, 0),
    ):
        if regularizer is None:
            free += members.sum() + biases
            continue
        prior = y.size * float(regularizer.l2)
        gammas[name] = (curvature / (curvature + prior))[members].sum()
        gammas[name] += biases * len(x) / (len(x) + prior)
        if name == TIE:  # The shared kernel has a weight for each six members.
            gammas[name] *= 1 - 1 / OUTPUTS
        strengths[name] = gammas[name] / (prior * (deviations[members] ** 2).sum())
    noise = squares / (y.size - sum(gammas.values()) - free)
    expected = {name: noise * strength for name, strength in strengths.items()}
    names = {"epoch", "noise_variance", "log_evidence", *expected}
    names |= {name.replace("strength", "effective_weights") for name in expected}
    assert found.keys() == names
    for name, gamma in gammas.items():
        name = name.replace("strength", "effective_weights")
        np.testing.assert_allclose(found[name], gamma, rtol=1e-4)
    for name, value in (expected | {"noise_variance": noise}).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4)


@pytest.mark.slow
def test_a_convolution_is_found_to_be_one_and_does_not_collapse_otherwise(rng, rewound):
    x, y = examples(rng, spread=0.0)
    adaptive = AdaptiveStrengths(x, y, update_freq=2, bounds=(1e-3, 1e4))
    layer = fitted(rewound(), x, y, adaptive, epochs=60)
    assert float(layer.tie_strength) > 100
    x, y = examples(rng, spread=0.5)
    again = AdaptiveStrengths(x, y, update_freq=2, bounds=(1e-3, 1e4))
    assert float(fitted(rewound(), x, y, again, epochs=60).tie_strength) < 20


def test_bounds_hold(rng, rewound):
    x, y = examples(rng, spread=0.5, scale=0.3)
    adaptive = AdaptiveStrengths(x, y, update_freq=1, bounds=(30.0, 40.0))
    layer = fitted(rewound(), x, y, adaptive, epochs=3)
    for strength in (layer.tie_strength, layer.off_template_strength):
        assert 30 <= float(strength) <= 40


def test_each_family_may_have_its_own_strength(rng):
    x, _ = examples(rng, spread=0.0)
    ids = family_ids()
    # Only the members of the second family differ.
    kernel = np.where(ids >= 0, np.array([1.0, -0.5, 0.3])[ids], 0.0)
    kernel += np.where(ids == 1, 0.6 * rng.normal(size=ids.shape), 0.0)
    y = x[..., 0] @ kernel + NOISE * rng.normal(size=(N, OUTPUTS))
    y = y.astype("float32")[..., None]
    adaptive = AdaptiveStrengths(x, y, update_freq=2)
    model = new_model(tie_regularizer=FamilyStrengths(L2(1e-3)))
    layer = fitted(model, x, y, adaptive)
    found = adaptive.history[-1]
    strengths = found["model/soft/tie_family_strengths"]
    assert strengths[1] < 0.2 * min(strengths[0], strengths[2])
    assert len(found["model/soft/bias_tie_family_strengths"]) == 1
    weights = {name_of(weight): weight for weight in layer.weights}
    saved = keras.ops.convert_to_numpy(weights["tie_family_strengths"])
    np.testing.assert_allclose(saved, strengths, rtol=1e-6)


def test_an_output_of_another_shape_than_y_is_refused(rng, rewound):
    x, y = examples(rng, 0.1)
    message = r"outputs of shape \(None, 6, 1\) expects.* `y` of shape \(150, 5, 1\)"
    with pytest.raises(ValueError, match=message):
        fitted(rewound(), x, y, AdaptiveStrengths(x, y[:, 1:], update_freq=1), epochs=1)


def test_curvature_is_that_of_the_jacobian(rng):
    x = rng.normal(size=(20, SIZE, 1)).astype("float32")
    layer = SoftConv1D(1, 3, activation="tanh", name="soft")
    head = keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((SIZE, 1)), layer, keras.layers.Flatten(), head])
    y = rng.normal(size=(20, 2)).astype("float32")
    likelihood, data = likelihood_of("mse"), TrainingData(x, y, batch_size=8)
    data.check(model, likelihood)
    parts = [Part(layer.deviations, keras.ops.copy)]
    measured = Curvature(model, parts, likelihood, data).measure(600, rng)
    (curvature,) = measured.curvatures
    weights = keras.ops.convert_to_numpy(head.kernel)
    hidden = x.reshape(20, SIZE) @ keras.ops.convert_to_numpy(layer.kernel).reshape(
        SIZE, OUTPUTS
    )
    slopes = 1 - np.tanh(hidden) ** 2
    expected = (x.reshape(20, SIZE) ** 2).T @ (slopes**2 * (weights**2).sum(axis=1))
    assert measured.terms == 40
    expected *= 2  # of squared errors
    np.testing.assert_allclose(
        curvature.reshape(SIZE, OUTPUTS), expected, rtol=0.25, atol=1e-3
    )
    ratio = curvature.sum() / expected.sum()
    np.testing.assert_allclose(ratio, 1, rtol=0.03)
    outputs = np.tanh(hidden) @ weights
    np.testing.assert_allclose(measured.total, ((outputs - y) ** 2).sum(), rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": np.zeros((3, 1))}, "same number of examples.*\\(4, 1\\) and \\(3, 1\\)"),
        ({"x": iter([])}, "needs `x` as an array.*Received: list_iterator"),
        ({"y": iter([])}, "needs `y` as an array.*Received: list_iterator"),
        ({"update_freq": 0}, "`update_freq` of AdaptiveStrengths must be a positive"),
        ({"probes": 1.5}, "`probes`.*Received: probes=1.5"),
        ({"batch_size": -1}, "`batch_size`.*positive integer"),
        ({"bounds": (2.0, 1.0)}, "0 < least < greatest. Received: bounds=\\(2.0, 1.0\\)"),
        ({"bounds": 3.0}, "must be a pair of finite numbers"),
        ({"bounds": ("a", 1.0)}, "must be a pair of finite numbers"),
        ({"layers": 3}, "a name or path of a layer"),
    ],
)
def test_bad_arguments(arguments, message):
    data = {"x": np.zeros((4, 1)), "y": np.zeros((4, 1))}
    with pytest.raises(ValueError, match=message):
        AdaptiveStrengths(**data | arguments)


@pytest.mark.parametrize(
    ("regularizers", "loss", "message"),
    [
        ({"tie_regularizer": L1(1.0)}, "mse", "`tie_regularizer` of layer 'model/soft'"),
        ({"off_template_regularizer": L2(0)}, "mse", "finds the strengths of ridges"),
        (
            {},
            keras.losses.MeanSquaredError(reduction="sum"),
            "mean of the loss over all of its terms.*reduction='sum'",
        ),
        ({}, "mae", "Received: loss='mae'.*regularization_path"),
    ],
)
def test_what_is_no_gaussian_model_is_refused(regularizers, loss, message, rng):
    x, y = examples(rng, 0.1)
    model = new_model(**regularizers)
    model.compile("sgd", loss)
    with pytest.raises(ValueError, match=message):
        model.fit(x, y, verbose=0, callbacks=[AdaptiveStrengths(x, y)])


@not_on_keras_2("keeps no deviations at zero")
def test_frozen_layers_and_deviations_at_zero_are_left_alone(rng):
    x, y = examples(rng, 0.5)
    frozen = SoftConv1D(1, 3, padding="same", name="frozen")
    kept = SoftConv1D(1, 3, padding="same", name="kept")
    soft = SoftConv1D(1, 3, name="soft")
    model = keras.Sequential([keras.Input((SIZE, 1)), frozen, kept, soft], name="model")
    frozen.trainable = False
    kept.freeze_structure()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    adaptive = AdaptiveStrengths(x, y, update_freq=1)
    with uncompiled():
        model.fit(x, y, verbose=0, callbacks=[adaptive])
    found = adaptive.history[0]
    names = {name for name in found if name.endswith("strength")}
    assert names == {TIE, OFF}
    assert float(frozen.tie_strength) == 1
    assert float(kept.tie_strength) == 0
    assert float(soft.tie_strength) == 1  # the rate is 0, and deviations begin there


def test_unpenalised_deviations_count_as_free_weights(rng):
    x, y = examples(rng, 0.5)
    adaptive = AdaptiveStrengths(x, y, update_freq=20, probes=32)
    fitted(new_model(off_template_regularizer=None), x, y, adaptive)
    # Dense and nearly free: the residuals alone would give a quarter less.
    np.testing.assert_allclose(adaptive.history[-1]["noise_variance"], 0.25, rtol=0.12)


def test_loss_weights_are_refused(rng):
    x, y = examples(rng, 0.1)
    model = keras.Sequential([keras.Input((SIZE, 1)), SoftConv1D(1, 3)])
    model.compile("sgd", "mse", loss_weights=[2.0])
    with pytest.raises(ValueError, match=r"without weights.*loss_weights=\[2.0\]"):
        model.fit(x, y, verbose=0, callbacks=[AdaptiveStrengths(x, y)])


def test_training_that_ends_before_an_update_is_warned_of(rng, rewound):
    x, y = examples(rng, 0.1)
    with pytest.warns(UserWarning, match="made no update.*before epoch 3"):
        fitted(rewound(), x, y, AdaptiveStrengths(x, y, update_freq=3), epochs=2)
