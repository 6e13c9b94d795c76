"""Zeros that a proximal optimizer has found stay zero in all further training."""

import pickle
import warnings

import keras
import numpy as np
import pytest
from backends import BACKEND, tensorflow_only
from keras.ops import convert_to_numpy as to_numpy
from keras.optimizers import SGD, Adam
from lasso_models import EAGERLY, fit, lasso_layer, lasso_model, task_of

from keras_softconv import SoftConv1D, freeze_structure
from keras_softconv.diagnostics import soft_layers
from keras_softconv.layers.kept_weights import KeptWeights
from keras_softconv.optimizers import ProximalAdam, ProximalSGD
from keras_softconv.regularizers import GroupLasso


@pytest.fixture
def task(rng):
    return task_of(rng)


def frozen_model(task, rng, **arguments) -> keras.Model:
    """With zeros and others among the deviations of kernel and biases."""
    model = lasso_model(rng, **arguments)
    fit(model, task, ProximalAdam(0.1), **EAGERLY)
    model.layers[0].freeze_structure()
    return model


def deviations_of(model) -> dict[str, np.ndarray]:
    weights = model.layers[0].trainable_weights
    return {w.name: to_numpy(w) for w in weights if "deviations" in w.name}


def assert_only_zeros_stayed(model, before):
    """They may not move, and the others may not stay."""
    for name, after in deviations_of(model).items():
        np.testing.assert_array_equal(after == 0, before[name] == 0, err_msg=name)
        is_free = before[name] != 0
        assert (after[is_free] != before[name][is_free]).all()
    every = np.concatenate([weights.ravel() for weights in before.values()])
    assert 0 < np.mean(every == 0) < 0.95


OPTIMIZERS = {
    "adam": lambda: Adam(0.01, weight_decay=0.1),
    "momentum": lambda: SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "accumulation": lambda: Adam(0.01, gradient_accumulation_steps=2),
    "averages": lambda: Adam(0.01, use_ema=True, ema_momentum=0.5),
    "proximal adam": lambda: ProximalAdam(0.01, amsgrad=True),
    "proximal sgd": lambda: ProximalSGD(0.1, momentum=0.9),
}


# Accumulation has branches and is traced for every change, the others in the slow ring.
@pytest.mark.parametrize(
    ("name", "of_training"),
    [(name, {} if name == "accumulation" else EAGERLY) for name in OPTIMIZERS]
    + [
        pytest.param(name, {}, marks=[pytest.mark.slow, tensorflow_only])
        for name in OPTIMIZERS
        if name != "accumulation"
    ],
)
def test_zeros_stay_and_others_move(name, of_training, task, rng):
    model = frozen_model(task, rng)
    before = deviations_of(model)
    fit(model, task, OPTIMIZERS[name](), **of_training)
    assert_only_zeros_stayed(model, before)
    assert len(before) == 2


WAYS = {
    "halo": {"halo": 1},
    "groups": {"tie_regularizer": GroupLasso(0.03)},
    "registered": {"penalty_registration": "regularizer", "halo": 0},
    "mixed_float16": {"dtype": "mixed_float16"},
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "halo" else [pytest.mark.slow])
        for name in WAYS
    ],
)
def test_with_other_layers(name, task, rng):
    model = frozen_model(task, rng, **WAYS[name])
    layer = model.layers[0]
    before = deviations_of(model)
    void = to_numpy(layer.deviations) == 0
    fit(model, task, Adam(0.05), jit_compile=BACKEND != "torch")
    assert_only_zeros_stayed(model, before)
    assert (to_numpy(layer.deviation_mask) == ~void).all()


def test_the_penalties_are_gone(task, rng):
    model = frozen_model(task, rng)
    layer = model.layers[0]
    assert float(to_numpy(layer.tie_strength)) == 0
    assert float(to_numpy(layer.off_template_strength)) == 0
    for penalty in layer.penalties().values():
        assert float(to_numpy(penalty)) == 0
    x, y = task
    history = fit(model, (x[:4], y[:4]), Adam(0.0), epochs=1, metrics=["mse"])
    np.testing.assert_allclose(history["loss"], history["mse"], rtol=1e-6)


def test_freezing_changes_nothing_but_the_strengths(task, rng):
    model = lasso_model(rng)
    fit(model, task, ProximalAdam(0.1), **EAGERLY)
    layer = model.layers[0]
    before = {weight.name: to_numpy(weight) for weight in layer.weights}
    outputs = to_numpy(model(task[0]))
    layer.freeze_structure()
    after = {weight.name: to_numpy(weight) for weight in layer.weights}
    masks = {"deviation_mask", "bias_deviation_mask"}
    assert after.keys() - before.keys() == masks
    assert {weight.name for weight in layer.non_trainable_weights} >= masks
    for name in before.keys() - {"tie_strength", "off_template_strength"}:
        np.testing.assert_array_equal(after[name], before[name])
    for name in ("deviation", "bias_deviation"):
        mask = after[f"{name}_mask"]
        assert mask.dtype == "uint8"
        np.testing.assert_array_equal(mask, before[f"{name}s"] != 0)
    np.testing.assert_array_equal(to_numpy(model(task[0])), outputs)


def test_what_is_frozen_later_comes_on_top(task, rng):
    model = frozen_model(task, rng, use_bias=False)
    layer = model.layers[0]
    weights = to_numpy(layer.deviations)
    layer.deviations.assign(np.where(np.abs(weights) < 0.1, 0, weights))
    count = len(layer.weights)
    layer.freeze_structure()
    assert len(layer.weights) == count
    before = deviations_of(model)
    assert (before["deviations"] == 0).sum() > (weights == 0).sum()
    fit(model, task, Adam(0.01), **EAGERLY)
    assert_only_zeros_stayed(model, before)
    assert layer.bias_deviation_mask is None


@pytest.mark.parametrize("halo", [None, 1])
def test_a_loaded_model_keeps_them_too(halo, task, rng, tmp_path):
    model = frozen_model(task, rng, halo=halo)
    before = deviations_of(model)
    fit(model, task, Adam(0.01))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        fit(each, task)
        assert_only_zeros_stayed(each, before)
    for ours, theirs in zip(loaded.weights, model.weights, strict=True):
        ours, theirs = to_numpy(ours), to_numpy(theirs)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("is_frozen_before", [False, True], ids=["new", "frozen"])
def test_weights_bring_their_masks(is_frozen_before, task, rng, tmp_path):
    model = frozen_model(task, rng, halo=1)
    model.save_weights(tmp_path / "model.weights.h5")
    other = lasso_model(np.random.default_rng(1), halo=1)
    if is_frozen_before:
        with pytest.warns(UserWarning, match="no deviation that is exactly zero"):
            other.layers[0].freeze_structure()
    other.load_weights(tmp_path / "model.weights.h5")
    before = deviations_of(model)
    for name, weights in deviations_of(other).items():
        np.testing.assert_array_equal(weights, before[name])
    fit(other, task, Adam(0.01), **EAGERLY)
    assert_only_zeros_stayed(other, before)


def test_a_frozen_layer_can_be_in_several_places(task, rng):
    x, y = task
    layer = lasso_layer(rng)
    layer.deviations.assign(np.where(rng.random(layer.deviations.shape) < 0.5, 0, 0.1))
    layer.bias_deviations.assign([[0, 0.1], [0, 0.1], [0.1, 0]])
    layer.freeze_structure()
    first, second = keras.Input((5, 2)), keras.Input((5, 2))
    outputs = keras.layers.Add()([layer(first), layer(second)])
    model = keras.Model([first, second], outputs)
    before = {w.name: to_numpy(w) for w in (layer.deviations, layer.bias_deviations)}
    fit(model, ([x, x], y), Adam(0.01), **EAGERLY)
    for name, weights in before.items():
        after = to_numpy(getattr(layer, name))
        np.testing.assert_array_equal(after == 0, weights == 0)


def test_without_weights_there_is_nothing_to_freeze():
    layer = SoftConv1D(2, 3, name="soft")
    with pytest.raises(ValueError, match=r"You must build the layer .*freeze_structure"):
        layer.freeze_structure()


def test_a_whole_model_is_frozen_and_fit_goes_on(task, rng):
    model = lasso_model(rng)
    fit(model, task, ProximalAdam(0.1))
    freeze_structure(model)
    before = deviations_of(model)
    fit(model, task)  # compiled before
    assert_only_zeros_stayed(model, before)
    assert float(model.layers[0].tie_strength) == 0


@pytest.mark.parametrize("nothing", [None, keras.Sequential([keras.layers.Dense(1)])])
def test_a_model_without_soft_layers_has_no_structure(nothing):
    with pytest.raises(ValueError, match="expects a model with SoftConv layers"):
        freeze_structure(nothing)


def test_freezing_without_zeros_is_warned_of(rng):
    layer = lasso_layer(rng)
    layer.deviations.assign(keras.ops.ones(layer.deviations.shape))
    with pytest.warns(UserWarning, match="no deviation that is exactly zero"):
        layer.freeze_structure()


# Configs say that a structure is frozen, for what makes a layer from its config alone.


def new_frozen_model(kind, rng) -> tuple[keras.Model, SoftConv1D]:
    arguments = {"halo": 1} if kind == "halo" else {"use_bias": kind != "no bias"}
    layer = lasso_layer(rng, **arguments)
    layer.deviations.assign(np.where(rng.random(layer.deviations.shape) < 0.5, 0, 0.1))
    layer.freeze_structure()
    inputs = keras.Input((3, 5, 2) if kind == "wrapped" else (5, 2))
    if kind == "nested":
        outputs = keras.Sequential([keras.Input((5, 2)), layer])(inputs)
    elif kind == "wrapped":
        outputs = keras.layers.TimeDistributed(layer)(inputs)
    else:
        outputs = keras.layers.ReLU()(layer(inputs))
    return keras.Model(inputs, outputs), layer


def frozen_layer_of(model) -> SoftConv1D:
    (layer,) = soft_layers(model).values()
    return layer


def by_legacy_file(model, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras advises against the format
        model.save(folder / "model.h5")
    return keras.models.load_model(folder / "model.h5", compile=False)


def by_legacy_weights(model, folder):
    copied = keras.models.model_from_json(model.to_json())
    by_legacy_file(model, folder)
    copied.load_weights(folder / "model.h5")
    return copied


def by_clone_and_weights(model, folder):
    copied = keras.models.clone_model(model)
    copied.set_weights(model.get_weights())
    return copied


def by_weights_file(model, folder):
    copied = keras.models.model_from_json(model.to_json())
    model.save_weights(folder / "model.weights.h5")
    copied.load_weights(folder / "model.weights.h5")
    return copied


def by_pickle(model, folder):
    return pickle.loads(pickle.dumps(model))


COPIES = [
    by_legacy_file, by_legacy_weights, by_clone_and_weights, by_weights_file, by_pickle
]  # fmt: skip


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("kind", ["plain", "no bias", "halo", "nested", "wrapped"])
def test_copies_of_a_frozen_model(kind, copied, rng, tmp_path):
    model, layer = new_frozen_model(kind, rng)
    copy = copied(model, tmp_path)
    found = frozen_layer_of(copy)
    assert found is not layer
    assert [w.name for w in found.weights] == [w.name for w in layer.weights]
    for weight, original in zip(found.weights, layer.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), to_numpy(original))
    assert isinstance(found.deviations.constraint, KeptWeights)
    assert found.get_config() == layer.get_config()


def test_only_the_config_of_a_frozen_layer_says_so(rng):
    layer = lasso_layer(rng)
    before = layer.get_config()
    assert "is_frozen" not in before
    layer.deviations.assign(np.zeros(layer.deviations.shape))
    layer.freeze_structure()
    assert layer.get_config() == {**before, "is_frozen": True}
    config = layer.get_config()
    copy = SoftConv1D.from_config(config)
    assert config["is_frozen"]  # the caller's own, left as it was
    assert copy.get_config() == config
    assert copy.deviation_mask is None
    copy.build((None, 5, 2))
    assert to_numpy(copy.deviation_mask).all()


def test_files_of_the_first_version(rng, tmp_path, monkeypatch):
    """There only the build config said that a structure is frozen."""
    model, layer = new_frozen_model("plain", rng)
    get_config = SoftConv1D.get_config

    def without_entry(self):
        config = get_config(self)
        config.pop("is_frozen")
        return config

    with monkeypatch.context() as patch:
        patch.setattr(SoftConv1D, "get_config", without_entry)
        model.save(tmp_path / "model.keras")
    found = frozen_layer_of(keras.models.load_model(tmp_path / "model.keras"))
    for weight, original in zip(found.weights, layer.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), to_numpy(original))
    assert found.get_config() == layer.get_config()
