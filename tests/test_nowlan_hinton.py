"""Data, networks and formulas of experiments/shift_detection.py and sunspots.py."""

import numpy as np
import pytest

from keras_softconv import SoftConv1D


@pytest.fixture
def shifts(scripts):
    return scripts("shift_detection")


@pytest.fixture
def sunspots(scripts):
    return scripts("sunspots")


@pytest.fixture
def networks(scripts):
    return scripts("small_networks")


def size(weights) -> int:
    return sum(int(np.prod(weight.shape)) for weight in weights)


# Shift detection: data.


def test_cases_are_labelled_by_their_shift(shifts):
    draw = shifts.Draw(shifts.TASK, seed=3)
    parts = draw.train, draw.validation, draw.test
    assert [len(targets) for _, targets in parts] == [100, 1000, 1300]
    for inputs, targets in parts:
        assert set(np.unique(inputs)) == {-1, 1}
        assert set(targets.ravel()) == {-1, 1}
        for case, (target,) in zip(inputs, targets, strict=True):
            first, second = case.T.tolist()
            is_left = second == first[1:] + first[:1]
            is_right = second == first[-1:] + first[:-1]
            assert is_left if target == 1 else is_right


def test_four_strings_are_symmetric_and_are_not_trained(shifts):
    strings = (np.arange(1024)[:, None] >> np.arange(10)) & 1
    found = {"".join(map(str, s)) for s in strings[shifts.is_symmetric(strings)]}
    assert found == {"0" * 10, "1" * 10, "01" * 5, "10" * 5}
    draws = [shifts.Draw(shifts.TASK, seed) for seed in range(20)]
    symmetric = [
        [shifts.is_symmetric(inputs[..., 0]).sum() for inputs, _ in (d.train, d.test)]
        for d in draws
    ]
    of_training, of_test = np.sum(symmetric, axis=0)
    assert of_training == 0
    assert of_test > 0
    assert not np.array_equal(draws[0].train[0], draws[1].train[0])
    again = shifts.Draw(shifts.TASK, seed=0)
    np.testing.assert_array_equal(again.train[0], draws[0].train[0])


# Shift detection: networks.


def test_template_is_four_neighbouring_bits_of_both_strings(shifts):
    layer = SoftConv1D(**shifts.TEMPLATE)
    layer.build((None, 10, 2))
    mask = np.asarray(layer.template_mask())[..., 0]  # [bits, strings, units]
    for unit in range(10):
        bits = {(unit + step) % 10 for step in (-1, 0, 1, 2)}
        for string in (0, 1):
            assert set(np.flatnonzero(mask[:, string, unit])) == bits


def test_local_network_has_the_101_weights_of_the_paper(shifts, networks):
    hidden = networks.without_sharing(**shifts.TEMPLATE, halo=0)
    model = networks.Network((10, 2), hidden, "tanh", rounds=1).model
    layer, *_, readout = model.layers
    deviations = [layer.deviations, layer.bias_deviations]
    assert size([*deviations, *readout.weights]) == 101


def test_mixture_of_the_dense_network_has_all_200_weights(shifts, networks):
    (layer,) = networks.mixture(5, 1.0, **shifts.ALL)(None)
    layer.build((None, 10, 2))
    assert size([layer.deviations]) == 200
    assert np.all(layer.template_mask())
    logits = [w for w in layer.trainable_weights if w.name == "tie_logits"]
    assert [tuple(weight.shape) for weight in logits] == [(1, 5)]


def test_convolution_of_wrapped_bits_is_circular(shifts, networks, rng):
    padded, conv = networks.convolution(
        [shifts.Wrapped()], filters=1, kernel_size=shifts.WIDTH
    )(None)
    inputs = rng.normal(size=(5, 10, 2)).astype("float32")
    expected = conv(padded(inputs))
    circular = SoftConv1D(**shifts.TEMPLATE, activation="tanh")
    circular.build((None, 10, 2))
    circular.shared_kernel.assign(conv.kernel)
    np.testing.assert_allclose(circular(inputs), expected, atol=1e-6)


# Networks.


def without_xla(network):
    """A network without XLA, which would compile for longer than the network trains."""
    network.model.jit_compile = False
    return network


@pytest.fixture
def network(networks):
    """A small one, with a mixture, whose state has to begin anew too."""
    hidden = networks.mixture(2, 1.0, filters=1, kernel_size=3)
    return without_xla(networks.Network((5, 1), hidden, "linear", rounds=2))


@pytest.fixture
def data(rng):
    shapes = (20, 5, 1), (20, 1)
    return tuple(rng.normal(size=shape).astype("float32") for shape in shapes)


@pytest.mark.slow
def test_every_fit_begins_anew(network, data):
    weights = []
    for seed in (0, 1, 0):
        network.train(data, (0.1, 1.0, 0.1), seed)
        weights.append(network.model.get_weights())
    first, other, again = weights
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, same)
    assert any((one != two).any() for one, two in zip(first, other, strict=True))


def test_strengths_are_in_units_of_one_over_the_examples(networks):
    hidden = networks.soft(filters=1, kernel_size=3, deviation_initializer="ones")
    network = networks.Network((5, 1), hidden, "linear", rounds=1)
    network.set_strengths((2.0, 3.0, 5.0), examples=10)
    network.model.layers[0].bias_deviations.assign(np.full((3, 1), 2.0))
    network.model(np.zeros((1, 5, 1)))  # penalties are added in the call
    readout = np.asarray(network.model.layers[-1].kernel)
    # 9 weights on the template, 6 off it, 3 biases.
    expected = (2 * 9 + 2 * 3 * 4 + 3 * 6 + 5 * np.sum(readout**2)) / 10
    np.testing.assert_allclose(sum(map(float, network.model.losses)), expected, rtol=1e-6)


@pytest.mark.slow
def test_released_goes_on_from_the_convolution_without_penalties(networks, data):
    template = {"filters": 2, "kernel_size": 3}
    conv, after = (
        without_xla(networks.Network((5, 1), hidden(**template), "linear", rounds=2))
        for hidden in (networks.convolution, networks.soft)
    )
    one = networks.Released(conv, after)
    one.train(data, (0.1, 1e-9, 1.0), 0, data)
    conv.train(data, (0.1, 0.0, 1.0), 0)
    np.testing.assert_allclose(one.predict(data[0]), conv.predict(data[0]), atol=1e-5)
    assert 1 <= one.train(data, (0.1, 1e-2, 1.0), 0, data) <= 2
    layer = after.model.layers[0]
    assert float(layer.tie_strength) == float(layer.off_template_strength) == 0
    error, held = (
        np.mean((network.predict(data[0]) - data[1]) ** 2) for network in (one, conv)
    )
    assert error < held
    assert np.any(layer.deviations)


def test_early_stopping_keeps_the_best_round(networks, data, rng):
    network = without_xla(networks.Network((5, 1), networks.dense(4), "linear", rounds=6))
    # Learnt by heart sooner than understood.
    other = data[0], rng.normal(size=(20, 1)).astype("float32")

    def error(rounds):
        network.train(data, (0.0, 0.0, 0.0), 0, rounds=rounds)
        return np.mean((network.predict(other[0]) - other[1]) ** 2)

    of_each = [error(rounds) for rounds in range(1, 7)]
    best = network.train(data, (0.0, 0.0, 0.0), 0, validation=other)
    assert best == 1 + np.argmin(of_each) < 6
    stopped = np.mean((network.predict(other[0]) - other[1]) ** 2)
    np.testing.assert_allclose(stopped, min(of_each), rtol=1e-3)


def test_differences_are_taken_seed_by_seed(networks):
    def seeds(*errors):
        return [[{"validation": 0, "error": error}] for error in errors]

    found = {"a": seeds(1, 2, 6), "b": seeds(0, 1, 5)}
    cells = networks.differences(found, "a", ("a", "b", "left out"), digits=1)
    assert cells == ["", "1.0 ± 0.0", ""]
    assert networks.differences(found, "a", ("b",), 1, sign=-1) == ["-1.0 ± 0.0"]


# Sunspots.


def test_inputs_are_the_twelve_years_before(sunspots):
    _, numbers = sunspots.series()
    inputs, targets = sunspots.lagged(numbers)
    assert inputs.shape == (len(numbers) - 12, 12, 1)
    for index in range(len(targets)):
        for lag in range(1, 13):
            before = numbers[12 + index - lag]
            np.testing.assert_allclose(inputs[index, 12 - lag, 0], before, rtol=1e-6)
        np.testing.assert_allclose(targets[index, 0], numbers[12 + index], rtol=1e-6)


def test_spans_of_years_are_those_of_the_paper(sunspots):
    draw = sunspots.Draw(sunspots.TASK, seed=0)
    parts = draw.early, draw.validation, draw.train, draw.test, draw.later
    assert [len(targets) for _, targets in parts] == [169, 40, 209, 35, 24]
    together = np.concatenate([draw.early[1], draw.validation[1]])
    np.testing.assert_array_equal(together, draw.train[1])
    years, numbers = sunspots.series()
    for (_, targets), first in ((draw.train, 1712), (draw.test, 1921), (draw.later, 1956)):
        np.testing.assert_allclose(targets[0, 0], numbers[years == first][0], rtol=1e-6)
    assert numbers.max() == 1
    # In sunspots, of the test years.
    np.testing.assert_allclose(190.2**2 * np.var(draw.test[1]), 1673.7, atol=0.1)


def test_relative_variance_is_one_for_the_mean_and_zero_for_the_truth(sunspots, rng):
    targets, wrong = rng.normal(3, 2, size=(2, 30, 1))
    of = sunspots.relative_variance
    assert of(targets, targets) == 0
    np.testing.assert_allclose(of(targets, np.full((30, 1), targets.mean())), 1)
    expected = np.mean((targets - wrong) ** 2) / np.var(targets)
    np.testing.assert_allclose(of(targets, wrong), expected)


@pytest.mark.parametrize(
    ("lags", "expected"), [(1, 0.346), (2, 0.167), (9, 0.113), (12, 0.116)]
)
def test_autoregression_is_least_squares(sunspots, lags, expected):
    draw = sunspots.Draw(sunspots.TASK, seed=0)
    model = sunspots.Autoregression()
    model.train(draw.train, lags)
    error = sunspots.relative_variance(draw.test[1], model.predict(draw.test[0]))
    np.testing.assert_allclose(error, expected, atol=5e-4)


class Recorder:
    """Predicts a setting, and knows how it was trained."""

    def __init__(self):
        self.calls = []

    def train(self, data, setting, seed, validation=None, rounds=None):
        self.calls.append((len(data[1]), setting, validation is not None, rounds))
        self.setting = setting
        return 7

    def predict(self, inputs):
        return np.full((len(inputs), 1), self.setting)


def test_only_the_setting_chosen_is_trained_again(sunspots):
    draw, model = sunspots.Draw(sunspots.TASK, seed=0), Recorder()
    mean = draw.validation[1].mean()
    (fit,) = sunspots.Tried("", model, (0.0, mean, 1.0)).fits(draw)
    assert fit["setting"] == mean
    np.testing.assert_allclose(fit["validation"], 1, rtol=1e-5)
    early = [(169, setting, False, None) for setting in (0.0, mean, 1.0)]
    assert model.calls == [*early, (209, mean, False, None)]


def test_early_stopping_is_trained_again_for_as_long(sunspots):
    draw, model = sunspots.Draw(sunspots.TASK, seed=0), Recorder()
    sunspots.Tried("", model, (0.0,), stop=True).fits(draw)
    assert model.calls == [(169, 0.0, True, None), (209, 0.0, False, 7)]


# Tables.


def test_tables_have_what_was_published_beside_what_was_found(shifts, sunspots):
    def found(names, **numbers):
        seeds = [[{"setting": 0, "validation": 0, **numbers}]] * 2
        return {"task": dict.fromkeys(names, seeds)}

    names = [shifts.LOCAL, shifts.SOFT]
    text = shifts.render(found(names, error=2.0, training=0.0))["shift detection"]
    local, soft = (line.split(" | ") for line in text.splitlines()[2:])
    assert local[1:3] == ["100.0 ± 0.0", "98.0 ± 0.0"]
    assert "89.8 ± 3.0" in local[-1]
    assert soft[4] == "0.0 ± 0.0"
    names = [sunspots.DECAYED, sunspots.SOFT]
    numbers = {"error": 0.1, "training": 0.2, "later": 0.3}
    text = sunspots.render(found(names, **numbers))["sunspots"]
    decayed, _ = (line.split(" | ") for line in text.splitlines()[2:])
    assert decayed[1:4] == ["0.200 ± 0.000", "0.100 ± 0.000", "0.300 ± 0.000"]
    assert "0.086" in decayed[-1]
