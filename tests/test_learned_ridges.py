"""Learned strengths of classifiers and of whole networks: losses, layers, reports."""

import copy
import pickle
import warnings

import keras
import numpy as np
import pytest
from backends import not_on_keras_2
from cheap_training import ignore_compiled_data, uncompiled
from likelihood_models import CLASSES, L2, LOGITS, TIES, classifier, draw, fitted

from keras_softconv import SoftConv1D, SoftConv2D, structure_report
from keras_softconv.callbacks import AdaptiveStrengths, StructureMonitor
from keras_softconv.regularizers import FusedTies, SumOfPenalties

pytestmark = pytest.mark.filterwarnings(
    ignore_compiled_data, "ignore:Model '.*' has .* trainable weights without a ridge"
)


# Losses and shapes.

PER_POSITION = {
    "sparse": (LOGITS, lambda classes: classes),
    "sparse, shares": (
        keras.losses.SparseCategoricalCrossentropy(),
        lambda classes: classes,
    ),
    "categorical": (
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        lambda classes: np.eye(CLASSES, dtype="float32")[classes],
    ),
    "binary": (
        keras.losses.BinaryCrossentropy(from_logits=True),
        lambda classes: np.eye(CLASSES, dtype="float32")[classes],
    ),
    "poisson": (keras.losses.Poisson(), lambda classes: np.eye(CLASSES)[classes] * 2.0),
    "mse": ("mse", lambda classes: np.eye(CLASSES)[classes]),
}
ACTIVATIONS = {"sparse, shares": "softmax", "poisson": "exponential"}


@pytest.mark.parametrize("name", PER_POSITION)
def test_each_loss_is_learned_with_at_each_position(name, rng):
    loss, labels_of = PER_POSITION[name]
    x, labels = rng.normal(size=(20, 6, 1)), labels_of(rng.integers(CLASSES, size=(20, 4)))
    layer = SoftConv1D(
        CLASSES,
        3,
        activation=ACTIVATIONS.get(name),
        tie_regularizer=L2(0.01),
        off_template_regularizer=L2(0.01),
        deviation_initializer="glorot_uniform",
        name="soft",
    )
    model = keras.Sequential([keras.Input((6, 1)), layer], name="model")
    adaptive = AdaptiveStrengths(x, labels, update_freq=1, probes=4)
    fitted(model, adaptive, x, labels, loss, epochs=1)
    (found,) = adaptive.history
    assert float(layer.tie_strength) == np.float32(found[TIES])
    geometry = layer.weight_sharing.geometry
    assert 0 < found["model/soft/tie_effective_weights"] < geometry.template_size + 12
    assert np.isfinite(found["log_evidence"])
    assert ("noise_variance" in found) == (name == "mse")


# Other layers.


@not_on_keras_2("moves no regularizer but those of deviations")
def test_the_ridges_of_other_layers_are_learned_and_kept(rng, tmp_path):
    x, y = draw(rng)
    model = classifier(keras.layers.BatchNormalization(), keras.layers.Dropout(0.1))
    adaptive = AdaptiveStrengths(x, y, update_freq=1, include="all")
    fitted(model, adaptive, x, y)
    found = adaptive.history[-1]
    assert found["model/head/kernel_effective_weights"] > 0
    strength = found["model/head/kernel_strength"]
    assert strength not in (1, adaptive.history[0]["model/head/kernel_strength"])
    head = model.get_layer("head")
    np.testing.assert_allclose(head.kernel_regularizer.l2, 0.02 * strength, rtol=1e-6)
    # The loss has it, too, as that of the model that is saved and loaded.
    kernel = keras.ops.convert_to_numpy(head.kernel).astype("float64")
    (penalty,) = head.losses
    expected = 0.02 * strength * (kernel**2).sum()
    np.testing.assert_allclose(keras.ops.convert_to_numpy(penalty), expected, rtol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    (penalty,) = loaded.layers[-1].losses
    np.testing.assert_allclose(keras.ops.convert_to_numpy(penalty), expected, rtol=1e-5)
    assert len(loaded.weights) == len(model.weights)


@not_on_keras_2("moves no regularizer but those of deviations")
def test_the_ridges_of_shared_kernels_and_biases_are_learned_and_kept(rng, tmp_path):
    x, y = draw(rng)
    layer = SoftConv1D(
        CLASSES,
        3,
        kernel_regularizer=L2(0.02),
        bias_regularizer=L2(0.05),
        bias_initializer="ones",
        name="soft",
    )
    pooled = keras.layers.GlobalAveragePooling1D()
    model = keras.Sequential([keras.Input((6, 1)), layer, pooled], name="model")
    adaptive = AdaptiveStrengths(x, y, update_freq=1, include="soft")
    fitted(model, adaptive, x, y)
    found = adaptive.history[-1]
    kernel, bias = (
        found[f"model/soft/shared_{one}_strength"] for one in ("kernel", "bias")
    )
    model.save(tmp_path / "model.keras")
    for one in (layer, keras.models.load_model(tmp_path / "model.keras").layers[0]):
        np.testing.assert_allclose(one.kernel_regularizer.l2, 0.02 * kernel, rtol=1e-6)
        np.testing.assert_allclose(one.bias_regularizer.l2, 0.05 * bias, rtol=1e-6)
    report = structure_report(model)["model/soft"]
    counts = report["effective_weights"]
    assert list(counts) == ["tie", "off_template", "shared_kernel", "shared_bias"]
    for place, weights in (("shared_kernel", 9), ("shared_bias", CLASSES)):
        determined = found[f"model/soft/{place}_effective_weights"]
        assert counts[place] == {"determined": determined, "weights": weights}
        assert 0 < determined < weights
    said = " ".join(str(report).split())
    assert "of 9 weights of the shared kernel" in said
    assert "of 3 shared biases" in said


@not_on_keras_2("moves no regularizer but those of deviations")
@pytest.mark.parametrize("name", ["depthwise", "pointwise", "bias"])
def test_configs_of_all_layers_have_the_learned_factors(name, rng, recwarn):
    x, y = draw(rng)
    ridge = {f"{name}_regularizer": L2(0.02)}
    layer = {
        "depthwise": keras.layers.DepthwiseConv1D,
        "pointwise": lambda size, **ridge: keras.layers.SeparableConv1D(2, size, **ridge),
        "bias": lambda size, **ridge: keras.layers.Conv1DTranspose(2, size, **ridge),
    }[name](2, bias_initializer="ones", name="other", **ridge)
    adaptive = AdaptiveStrengths(x, y, update_freq=1, include="other")
    fitted(classifier(layer), adaptive, x, y, epochs=1)
    (strength,) = (v for k, v in adaptive.history[0].items() if "other" in k and "_s" in k)
    found = layer.get_config()[f"{name}_regularizer"]["config"]["l2"]
    np.testing.assert_allclose(found, 0.02 * strength, rtol=1e-6)
    assert strength != 1
    assert not any("config of the layer" in str(one.message) for one in recwarn)


class Composite(keras.layers.Layer):
    """Makes a layer from its own argument, as MultiHeadAttention does."""

    def __init__(self, kernel_regularizer):
        super().__init__(name="composite")
        self._kernel_regularizer = kernel_regularizer
        self.inner = keras.layers.Dense(2, name="in", kernel_regularizer=kernel_regularizer)

    def build(self, input_shape):
        self.inner.build(input_shape)

    def call(self, inputs):
        return self.inner(inputs)


@not_on_keras_2("moves no regularizer but those of deviations")
def test_factors_that_no_config_can_have_are_warned_of_once(rng):
    x, y = draw(rng)
    adaptive = AdaptiveStrengths(x, y, update_freq=1, include="all")
    model = classifier(Composite(L2(0.02)))
    message = "ridge of 'kernel' of layer 'model/composite/in', but the config"
    with pytest.warns(UserWarning, match=message):
        fitted(model, adaptive, x, y, epochs=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message)
        with uncompiled():
            model.fit(x, y, verbose=0, callbacks=[adaptive])


@not_on_keras_2("moves no regularizer but those of deviations")
def test_a_compiled_step_reads_a_strength_that_moves(rng):
    x, y = draw(rng)
    model = classifier()
    model.compile(keras.optimizers.SGD(0.0), LOGITS)
    model.fit(x, y, verbose=0)  # compiled before there is a callback
    adaptive = AdaptiveStrengths(x, y, update_freq=1, include="head", bounds=(5.0, 6.0))
    model.fit(x, y, verbose=0, callbacks=[adaptive])
    train_function = model.train_function
    history = model.fit(x, y, verbose=0, callbacks=[adaptive]).history
    assert model.train_function is train_function
    (strength,) = {update["model/head/kernel_strength"] for update in adaptive.history}
    assert strength >= 5
    kernel = keras.ops.convert_to_numpy(model.get_layer("head").kernel)
    outputs = model.predict(x, verbose=0)  # all deviations are zero
    expected = float(LOGITS(y, outputs)) + strength * 0.02 * (kernel**2).sum()
    np.testing.assert_allclose(history["loss"], [expected], rtol=1e-5)
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), expected, rtol=1e-5)


@not_on_keras_2("moves no regularizer but those of deviations")
@pytest.mark.parametrize(
    ("include", "message"),
    [
        ("soft", r"cannot include layer 'soft'.*with an L2 regularizer: \['model/head'\]"),
        ("soft", "kernel or bias; ties and off-template weights are learned without"),
        (["dense"], "layer 'dense'.*kernel_regularizer=keras.regularizers.L2"),
    ],
)
def test_layers_without_a_ridge_cannot_be_included(include, message, rng):
    x, y = draw(rng)
    with pytest.raises(ValueError, match=message):
        fitted(classifier(), AdaptiveStrengths(x, y, include=include), x, y)


@not_on_keras_2("moves no regularizer but those of deviations")
def test_nothing_to_include(rng):
    x, y = draw(rng)
    layers = [SoftConv1D(2, 3), keras.layers.Flatten(), keras.layers.Dense(CLASSES)]
    model = keras.Sequential([keras.Input((6, 1)), *layers])
    message = "found no layer to include.*regularizer: none"
    with pytest.raises(ValueError, match=message):
        fitted(model, AdaptiveStrengths(x, y, include="all"), x, y)


def test_names_to_include_are_strings(rng):
    with pytest.raises(ValueError, match="`include` must be a name or path"):
        AdaptiveStrengths(*draw(rng), include=3)


# Fused ties.


def test_ridge_and_fused_ties_have_strengths_of_their_own(rng):
    x = rng.normal(size=(40, 8, 8, 1)).astype("float32")
    y = rng.integers(CLASSES, size=(40, 8, 8))
    ties = SumOfPenalties([L2(0.01), FusedTies(L2(0.01))])
    layer = SoftConv2D(
        CLASSES, 3, padding="same", halo=0, tie_regularizer=ties, name="soft"
    )
    model = keras.Sequential([keras.Input((8, 8, 1)), layer], name="model")
    adaptive = AdaptiveStrengths(x, y, update_freq=1)
    fitted(model, adaptive, x, y)
    found = adaptive.history[-1]
    for place in ("tie", "bias_tie"):
        strengths = found[f"model/soft/{place}_term_strengths"]
        assert len(strengths) == 2
        assert strengths[0] != strengths[1]
    assert float(layer.tie_strength) == 1  # multiplies both


# What it tells.


def test_report_and_monitor_tell_the_effective_weights(rng, tmp_path):
    x, y = draw(rng)
    model = classifier()
    adaptive = AdaptiveStrengths(x, y, update_freq=2)
    monitor = StructureMonitor(tmp_path, logs="all")
    history = keras.callbacks.History()
    fitted(model, [adaptive, monitor, history], x, y)
    (found,) = adaptive.history
    layer = model.get_layer("soft")
    expected = {
        "tie": found["model/soft/tie_effective_weights"],
        "off_template": found["model/soft/off_template_effective_weights"],
    }
    assert layer.effective_weights == expected
    report = structure_report(model)["model/soft"]
    assert report["effective_weights"] == {
        "tie": {"determined": expected["tie"], "weights": 24 + 8},
        "off_template": {"determined": expected["off_template"], "weights": 24},
    }
    assert "of 32 deviations on the template and of biases" in " ".join(str(report).split())
    assert "of 24 off-template weights" in report._repr_html_()
    logs = history.history
    assert logs["softconv/model/soft/tie_effective_weights"] == [expected["tie"]]
    assert logs["softconv/log_evidence"] == [found["log_evidence"]]
    assert "effective_weights" not in structure_report(classifier())["model/soft"]


def test_copies_have_the_history_and_nothing_of_the_training(rng):
    x, y = draw(rng)
    adaptive = AdaptiveStrengths(x, y, update_freq=1)
    fitted(classifier(), adaptive, x, y, epochs=1)
    for other in (copy.deepcopy(adaptive), pickle.loads(pickle.dumps(adaptive))):
        assert other.history == adaptive.history
        assert other._learner is None
        assert (other.x == x).all()
