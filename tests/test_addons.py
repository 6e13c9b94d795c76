"""Beside TensorFlow Addons' own optimizers, callbacks and wrappers."""

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_addons as tfa
from event_files import read
from numpy.testing import assert_allclose
from processes import run

from keras_softconv import SoftConv2D, structure_report
from keras_softconv.callbacks import StrengthSchedule, StructureMonitor

keras = tf.keras  # as its users import it
legacy, addons = keras.optimizers.legacy, tfa.optimizers
decoupled = addons.extend_with_decoupled_weight_decay
EXAMPLE = Path(__file__).parents[1] / "examples" / "addons.py"
EPOCHS, STEPS = 12, 4  # an epoch
RIDGE = 1e-3

# With rates at which each of them learns this task in few steps.
OPTIMIZERS = {
    "LAMB": lambda: addons.LAMB(0.05),
    "AdamW": lambda: addons.AdamW(weight_decay=1e-4, learning_rate=0.01),
    "SGDW": lambda: addons.SGDW(weight_decay=1e-4, learning_rate=0.2, momentum=0.5),
    "decoupled decay": lambda: decoupled(legacy.Adam)(1e-4, learning_rate=0.01),
    "Lookahead": lambda: addons.Lookahead(addons.RectifiedAdam(0.05)),
    "SWA": lambda: addons.SWA(legacy.SGD(0.2), start_averaging=8, average_period=4),
    "MovingAverage": lambda: addons.MovingAverage(legacy.Adam(0.01), average_decay=0.8),
    "ProximalAdagrad": lambda: addons.ProximalAdagrad(
        0.05, l1_regularization_strength=0.02
    ),
    "ConditionalGradient": lambda: addons.ConditionalGradient(0.99, lambda_=10.0),
    "Yogi": lambda: addons.Yogi(0.05),
    "NovoGrad": lambda: addons.NovoGrad(0.05),
    "COCOB": lambda: addons.COCOB(),
}


def make_model(**arguments):
    layer = SoftConv2D(2, 3, padding="same", name="soft", **arguments)
    return keras.Sequential([keras.Input((6, 5, 1)), layer], name="model")


@pytest.fixture
def data(rng):
    """A convolution with a problem child."""
    x = rng.normal(size=(64, 6, 5, 1)).astype("float32")
    y = np.concatenate([x, 0.5 * x], axis=-1)
    y[:, 2, 2, 0] *= -1
    return x, y


def fit(model, data, *callbacks, epochs=EPOCHS):
    return model.fit(
        *data, batch_size=64 // STEPS, epochs=epochs, callbacks=list(callbacks), verbose=0
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_train_with_penalties_monitor_and_schedule(name, data, tmp_path):
    ridge = keras.regularizers.L2(RIDGE)
    model = make_model(tie_regularizer=ridge, off_template_regularizer=ridge)
    model.compile(OPTIMIZERS[name](), "mse")
    before = model.evaluate(*data, verbose=0)
    rise = keras.optimizers.schedules.PolynomialDecay(0.0, 20, end_learning_rate=1.0)
    schedule = StrengthSchedule(tie_strength=rise, update_freq="batch")
    fit(model, data, StructureMonitor(tmp_path, update_freq=STEPS), schedule)
    after = model.evaluate(*data, verbose=0)
    assert after < 0.8 * before
    errors = model.predict(data[0], verbose=0).astype("float64") - data[1]
    assert_allclose(after, np.mean(errors**2) + penalty_of(model.layers[0]), rtol=1e-5)
    for events in read(tmp_path / "softconv").values():
        assert [step for step, _ in events] == [STEPS * n for n in range(EPOCHS + 1)]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    expected = model.predict(data[0], verbose=0)
    np.testing.assert_array_equal(loaded.predict(data[0], verbose=0), expected)


def penalty_of(layer) -> float:
    """The ridges, in float64 NumPy."""
    weights = layer.deviations.numpy().astype("float64"), layer.template_mask()
    ties = (weights[0][weights[1]] ** 2).sum() + (layer.bias_deviations.numpy() ** 2).sum()
    off_template = (weights[0][~weights[1]] ** 2).sum()
    strengths = layer.tie_strength.numpy(), layer.off_template_strength.numpy()
    return RIDGE * (strengths[0] * ties + strengths[1] * off_template)


@pytest.mark.parametrize(
    "make",
    [
        lambda: addons.Lookahead(keras.optimizers.Adam()),
        lambda: addons.SWA(keras.optimizers.SGD()),
        lambda: decoupled(keras.optimizers.Adam)(1e-4),
    ],
)
def test_addons_itself_asks_for_legacy_optimizers_around_which_it_is_wrapped(make):
    with pytest.raises((TypeError, AttributeError), match=r"legacy|_set_hyper"):
        make()


def test_proximal_adagrad_has_exact_zeros(data):
    model = make_model(tie_regularizer=None, off_template_regularizer=None)
    model.compile(OPTIMIZERS["ProximalAdagrad"](), "mse")
    fit(model, data, epochs=50)
    layer = model.layers[0]
    # Two weights of a convolution and one child are needed.
    deviations = layer.deviations.numpy()
    assert np.count_nonzero(deviations) < 0.1 * deviations.size
    largest = np.unravel_index(np.abs(deviations).argmax(), deviations.shape)
    assert largest == (2, 2, 0, 2, 2, 0)
    # Here its lasso acts on the shared kernel as well, which SoftConv2D's own do not.
    assert 0 < np.count_nonzero(layer.shared_kernel.numpy()) <= 4
    zeros = structure_report(layer)["zero_weights"]
    assert zeros == np.count_nonzero(layer.kernel.numpy() == 0)


def test_average_model_checkpoint_saves_the_averages_and_their_structure(data, tmp_path):
    model = make_model()
    model.compile(OPTIMIZERS["MovingAverage"](), "mse")
    path = str(tmp_path / "average.weights.h5")
    save = tfa.callbacks.AverageModelCheckpoint(False, path, save_weights_only=True)
    fit(model, data, save, StructureMonitor(tmp_path))
    averages = [
        model.optimizer.get_slot(weight, "average").numpy()
        for weight in model.trainable_weights
    ]
    saved = make_model()
    saved.load_weights(path)
    for found, expected in zip(saved.trainable_weights, averages, strict=True):
        assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    assert not np.allclose(saved.layers[0].deviations, model.layers[0].deviations)
    shares = [structure_report(one)["model/soft"] for one in (saved, model)]
    assert shares[0]["convolution_share"] != shares[1]["convolution_share"]


def test_stochastic_weight_averages_can_be_looked_at(data):
    model = make_model()
    model.compile(OPTIMIZERS["SWA"](), "mse")
    fit(model, data)
    before = structure_report(model)["model/soft"]
    model.optimizer.assign_average_vars(model.trainable_variables)
    after = structure_report(model)["model/soft"]
    assert before["family_variance"] != after["family_variance"] > 0


def test_progress_bar_and_time_stopping(data, tmp_path, capfd):
    model = make_model()
    model.compile(OPTIMIZERS["LAMB"](), "mse")
    monitor = StructureMonitor(tmp_path)
    bar = tfa.callbacks.TQDMProgressBar(show_overall_progress=False)
    stopping = tfa.callbacks.TimeStopping(seconds=1, verbose=1)
    history = fit(model, data, monitor, bar, stopping, epochs=100_000).history
    shown = capfd.readouterr()
    assert "Timed stopping" in shown.out
    assert "softconv/convolution_share: 0." in shown.out + shown.err
    events = read(tmp_path / "softconv")["softconv/model/soft/convolution_share"]
    assert len(events) == len(history["loss"]) + 1 < 100_000
    logged = history["softconv/convolution_share"]  # of the only layer
    # The log takes it from sums over all layers, in float32.
    assert_allclose([value for _, value in events[1:]], logged, rtol=1e-6)


@pytest.mark.parametrize(
    "wrap",
    [
        tfa.layers.SpectralNormalization,
        tfa.layers.WeightNormalization,
        lambda layer: tfa.layers.WeightNormalization(layer, data_init=False),
    ],
)
def test_wrappers_that_assign_to_the_kernel_are_refused(wrap, data):
    wrapped = wrap(SoftConv2D(2, 3, name="s"))
    message = r"(?s)of layer 's' cannot be assigned to, as the wrappers.*_constraint` inst"
    with pytest.raises(ValueError, match=message):
        wrapped(data[0], training=True)


def test_the_example_shows_progress_structure_and_how_to_see_it(tmp_path):
    printed = run(EXAMPLE, "--quick", "--log-dir", tmp_path)
    error = float(re.search(r"Test error: ([\d.]+) % of the noise", printed)[1])
    assert error < 26.7  # of a convolution; README.md
    assert re.search(r"denoiser/soft +\d\d\.\d\d%", printed)
    assert f"tensorboard --logdir {tmp_path}" in printed
    events = read(tmp_path / "softconv")["softconv/denoiser/soft/convolution_share"]
    assert len(events) == 301


@pytest.mark.parametrize("excluded", [None, ["shared"]])
def test_decoupled_decay_shrinks_the_shared_kernel_too_if_not_excluded(excluded):
    unpenalized = {"tie_regularizer": None, "off_template_regularizer": None}
    layer = make_model(deviation_initializer="ones", **unpenalized).layers[0]
    before = {weight.name: weight.numpy() for weight in layer.weights}
    optimizer = addons.SGDW(0.1, learning_rate=1.0, exclude_from_weight_decay=excluded)
    free = layer.non_trainable_weights
    free = free + ([layer.shared_kernel, layer.shared_bias] if excluded else [])
    for _ in range(3):
        with tf.GradientTape() as tape:  # no image, so that there is nothing but decay
            loss = tf.reduce_sum(layer(tf.zeros((1, 6, 5, 1))) * 0.0)
        gradients = tape.gradient(loss, layer.trainable_weights)
        optimizer.apply_gradients(zip(gradients, layer.trainable_weights, strict=True))
    for weight in layer.weights:
        factor = 1.0 if any(weight is one for one in free) else 0.9**3
        assert_allclose(weight, factor * before[weight.name], rtol=1e-5)


def test_the_released_convolution_of_the_decay_benchmark_is_stopped(scripts, monkeypatch):
    decay, synthetic = scripts("decoupled_decay"), scripts("synthetic")
    draw = synthetic.Draw(synthetic.Task("dense", 0.3, examples=50), seed=0)
    train, watched = decay.train, []

    def spy(model, *arguments):
        train(model, *arguments)
        watched.append(model.history.history.get("val_mse"))

    monkeypatch.setattr(decay, "train", spy)
    held, still, hasty = decay.Released("", [1e-9, 0.05], rounds=4).fits(draw)
    assert watched[0] is None
    for fit, errors in zip((still, hasty), watched[1:], strict=True):
        assert_allclose(fit["validation"], min(errors), rtol=1e-5)
    assert np.argmin(watched[2]) < 3  # it would have learnt by heart
    for number in ("validation", "error", "kept"):
        assert_allclose(still[number], held[number], rtol=1e-4)


def test_the_decay_benchmark_can_tell_what_is_shrunk(scripts):
    decay, synthetic = scripts("decoupled_decay"), scripts("synthetic")
    draw = synthetic.Draw(synthetic.Task("children", 0.0, examples=200), seed=0)
    adam, alone = (
        decay.decayed(addons.AdamW, "AdamW", only_deviations=alone)
        for alone in (False, True)
    )
    fits = {
        name: decay.Decayed(name, optimizer, [0.3], rounds=12).fits(draw)[0]
        for name, optimizer in (("all", adam), ("deviations", alone))
    }
    assert fits["all"]["kept"] < 0.5
    assert_allclose(fits["deviations"]["kept"], 1.0, atol=0.1)
    assert fits["deviations"]["error"] < 5 < fits["all"]["error"]
