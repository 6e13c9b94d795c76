"""The regularization path: order, equal strengths, warm starts and choice."""

import json
import random
import re
import sys
import warnings

import keras
import numpy as np
import pytest
from backends import KERAS_2
from cheap_training import ignore_compiled_data, rewinding
from path_models import L2, new_model, noisy_convolutions
from soft_models import numpy_weights

from keras_softconv import RegularizationPath, SoftConv1D, regularization_path
from keras_softconv.diagnostics import structure_numbers

pytestmark = pytest.mark.filterwarnings(ignore_compiled_data)

STRENGTHS = [0.01, 1.0, 100.0]


@pytest.fixture(scope="module")
def make_model():
    """A function that always returns the same model, as if it were new."""
    keras.utils.set_random_seed(0)
    return rewinding(new_model())


@pytest.fixture(scope="module")
def data():
    return noisy_convolutions()


@pytest.fixture(scope="module")
def trained_path(data, make_model):
    """A function that trains along strengths."""

    def trained(strengths=STRENGTHS, **arguments):
        arguments = {"epochs": 15, "batch_size": 40, "verbose": False, **arguments}
        return regularization_path(make_model, data[0], strengths, data[1], **arguments)

    return trained


@pytest.fixture(scope="module")
def path(trained_path):
    return trained_path(keep_weights=True)


def test_points_are_plain_true_and_in_order_from_strong_to_weak(data, make_model, path):
    assert json.loads(json.dumps(path.points)) == path.points
    assert [point["tie_strength"] for point in path.points] == STRENGTHS[::-1]
    assert [point["off_template_strength"] for point in path.points] == STRENGTHS[::-1]
    model, (x, y) = make_model(), data[1]
    for index, point in enumerate(path.points):
        assert 1 <= point["epoch"] <= point["epochs"] == 15
        path.restore(model, index)
        errors = (model.predict(x, verbose=0) - y).astype("float64") ** 2
        errors = errors.mean(axis=(1, 2))
        np.testing.assert_allclose(point["validation_loss"], errors.mean(), rtol=1e-5)
        error = errors.std(ddof=1) / np.sqrt(len(errors))
        np.testing.assert_allclose(point["standard_error"], error, rtol=1e-5)
        assert float(model.layers[0].tie_strength) == np.float32(point["tie_strength"])
        for name, number in structure_numbers(model.layers[0]).items():
            found = point["structure"]["model/soft"][name]
            np.testing.assert_allclose(found, keras.ops.convert_to_numpy(number), rtol=1e-5)
    shares = [
        point["structure"]["model/soft"]["convolution_share"] for point in path.points
    ]
    assert shares == sorted(shares, reverse=True)


def weights_of_a_fit(make_model, data, strength, weights=None, epochs=15):
    """Those of the layer after a training by `fit` alone."""
    model = make_model()
    if weights is not None:
        model.set_weights(weights)
    for name in ("tie_strength", "off_template_strength"):
        getattr(model.layers[0], name).assign(strength)
    model.fit(*data[0], epochs=epochs, batch_size=40, verbose=0)
    return numpy_weights(model.layers[0])


def assert_weights_of_a_point(path, index, model, expected):
    path.restore(model, index)
    for name, weight in numpy_weights(model.layers[0]).items():
        np.testing.assert_allclose(weight, expected[name], rtol=1e-4, atol=1e-5)


def test_each_point_begins_with_the_weights_of_the_model(data, make_model, path):
    for index, point in enumerate(path.points):
        trained = weights_of_a_fit(
            make_model, data, point["tie_strength"], epochs=point["epoch"]
        )
        assert_weights_of_a_point(path, index, make_model(), trained)


def test_points_do_not_depend_on_other_strengths(trained_path, path):
    (alone,) = trained_path(strengths=STRENGTHS[:1]).points
    np.testing.assert_allclose(
        alone["validation_loss"], path.points[-1]["validation_loss"], rtol=1e-5
    )


# Equal strengths.


def assert_equal_losses(path):
    losses = np.array([point["validation_loss"] for point in path.points])
    assert len(losses) == 4
    assert np.isfinite(losses).all()
    assert np.ptp(losses) < 0.01 * losses.min()


NEARLY_EQUAL = [1.0, 0.9999, 0.9998, 0.9997]


def test_equal_strengths_have_equal_losses_in_a_linear_model(trained_path):
    # Batches of 8 in an order that is drawn make other steps each time.
    assert_equal_losses(trained_path(strengths=NEARLY_EQUAL, epochs=3, batch_size=8))


@pytest.fixture(scope="module")
def make_network():
    """A network with state of all kinds, with an optimizer that has momentum."""
    keras.utils.set_random_seed(0)
    layers = [
        SoftConv1D(
            4,
            3,
            tie_regularizer=L2(1e-3),
            off_template_regularizer=L2(1e-3),
            name="soft",
        ),
        keras.layers.BatchNormalization(momentum=0.9),
        keras.layers.ReLU(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(1),
    ]
    network = keras.Sequential([keras.Input((6, 1)), *layers])
    network.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    return rewinding(network)


def test_equal_strengths_have_equal_losses_in_a_network_with_state(data, make_network):
    falling_rate = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.5 * rate)
    path = regularization_path(
        make_network,
        data[0],
        NEARLY_EQUAL,
        data[1],
        epochs=4,
        batch_size=8,
        verbose=False,
        callbacks=[falling_rate],
    )
    assert_equal_losses(path)


def test_random_numbers_of_the_caller_go_on(data, trained_path):
    def random_numbers():
        return random.random(), np.random.random()

    random.seed(1), np.random.seed(1)
    random_numbers()
    expected = random_numbers()
    random.seed(1), np.random.seed(1)
    random_numbers()
    trained_path(strengths=[1.0], epochs=1)
    assert random_numbers() == expected


# The best epoch.


class Losses(keras.callbacks.Callback):
    """Keeps what is added to `logs`, and makes weights worse after epoch 3 and the last."""

    def on_train_begin(self, logs=None):
        self.validation_losses, self.weights = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.validation_losses.append(logs["validation_loss"])
        self.weights.append(self.model.get_weights())
        if epoch >= 2:
            self.make_worse()

    def on_train_end(self, logs=None):
        self.make_worse()

    def make_worse(self):
        # The strengths are the last weights.
        *weights, ties, off_template = self.model.get_weights()
        worse = [2 * weight for weight in weights]
        self.model.set_weights([*worse, ties, off_template])


@pytest.mark.parametrize(("patience", "epochs"), [(None, 6), (2, 5), (1, 4)])
def test_the_best_epoch_is_judged_and_its_weights_are_kept(
    patience, epochs, trained_path, make_model
):
    losses = Losses()
    path = trained_path(
        strengths=[1.0], epochs=6, patience=patience, callbacks=losses, keep_weights=True
    )
    (point,) = path.points
    assert len(losses.validation_losses) == point["epochs"] == epochs
    assert point["epoch"] == 1 + np.argmin(losses.validation_losses) == 3
    np.testing.assert_allclose(
        point["validation_loss"], min(losses.validation_losses), rtol=1e-5
    )
    for found, expected in zip(path.weights[0], losses.weights[2], strict=True):
        np.testing.assert_array_equal(found, expected)


# Warm starts.


def test_a_warm_start_begins_where_the_last_point_ended(data, make_model, trained_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # So few epochs are too few.
        path = trained_path(warm_start=True, keep_weights=True)
    assert [point["epoch"] for point in path.points] == [15, 15, 15]
    trained = weights_of_a_fit(make_model, data, STRENGTHS[1], path.weights[0])
    assert_weights_of_a_point(path, 1, make_model(), trained)


def test_a_warm_start_converges_and_warns_of_nothing_if_the_loss_is_convex(
    data, make_model
):
    steps = [np.tile(part, (50, 1, 1)) for part in data[0]]  # fifty an epoch

    def converged(strengths):
        return regularization_path(
            make_model, steps, strengths, data[1], epochs=20, batch_size=40, shuffle=False,
            warm_start=True, patience=2, verbose=False,
        ).points  # fmt: skip

    warm, (cold,) = converged([1.0, 0.9]), converged([0.9])
    assert warm[1]["epochs"] < cold["epochs"] < 20
    losses = warm[1]["validation_loss"], cold["validation_loss"]
    np.testing.assert_allclose(*losses, rtol=0.01)


def test_a_warm_start_warns_where_it_does_not_converge_and_the_order_matters(
    data, make_network
):
    # With dropout the second one may seem to have.
    late = (
        r"[12] of 2 strengths had not converged.* fell by [0-9.]+% in the last 5 of 7 epoch"
    )
    loss = "([0-9.]+)"
    order = (
        rf"\(1.0, 1.0\) the .* {loss} \(training loss {loss}\) .* is {loss} \({loss}\) .*"
        "Leave out `warm_start=True`"
    )
    with pytest.warns(match=late), pytest.warns(match=order) as caught:
        regularization_path(
            make_network, data[0], [1.0, 0.5], data[1], epochs=7, batch_size=40,
            warm_start=True, verbose=False,
        )  # fmt: skip
    texts = [str(warning.message) for warning in caught]
    (found,) = (match for text in texts if (match := re.search(order, text)))
    validation, training, validation_again, training_again = map(float, found.groups())
    assert min(validation_again / validation, training_again / training) < 0.99


def test_pairs_and_datasets(data, make_model):
    class Batches(keras.utils.Sequence if KERAS_2 else keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return tuple(part[20 * index :][:20] for part in data[0])

    path = regularization_path(
        make_model, Batches(), [(1, 2.0), (3, 2)], data[1], epochs=1, verbose=False
    )
    assert [point["tie_strength"] for point in path.points] == [3, 1]
    assert [point["off_template_strength"] for point in path.points] == [2, 2]


def test_choice_of_the_best_and_of_the_strongest_within_one_standard_error(make_model):
    losses, errors = [5.0, 1.4, 1.1, 1.0, 2.0], [0.1, 0.1, 0.1, 0.15, 0.1]
    points = [
        {"validation_loss": loss, "standard_error": error}
        for loss, error in zip(losses, errors, strict=True)
    ]
    path = RegularizationPath(points)
    assert (path.best, path.one_standard_error) == (3, 2)
    with pytest.raises(ValueError, match="keep_weights=True"):
        path.restore(make_model(), 0)


def test_a_validation_split_only_takes_training_examples(data, make_model):
    (x, y), validation_data = data
    points = [
        regularization_path(
            make_model, of_training, [1.0], validation_data, epochs=2, batch_size=40,
            verbose=False, **split,
        ).points[0]
        for of_training, split in (
            ((x, y), {"validation_split": 0.5}),
            ((x[:20], y[:20]), {}),
        )
    ]  # fmt: skip
    np.testing.assert_allclose(*(p["validation_loss"] for p in points), rtol=1e-5)


def test_progress_is_shown_if_wanted(trained_path, capsys):
    trained_path(strengths=[1.0, 2.0], epochs=1, verbose=True)
    assert "2/2" in capsys.readouterr().out
    trained_path(strengths=[1.0], epochs=1)
    assert capsys.readouterr().out == ""


def test_plot(path, trained_path):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    axes = path.plot()
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "tie strength"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[1:3] == ["best", "within one standard error"]
    assert labels[3:] == [
        "model/soft: convolution share",
        "model/soft: off template mass",
    ]
    pairs = trained_path(strengths=[(1, 0), (1, 2)], epochs=1).plot()
    assert pairs.get_xlabel() == "off-template strength"
    assert pairs.get_xscale() == "symlog"
    matplotlib.pyplot.close("all")


def test_plot_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        RegularizationPath([]).plot()


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.filterwarnings("ignore:.* had not converged", "ignore:.* not comparable")
def test_a_point_that_diverges_does_not_spoil_the_next(data, warm_start):
    def make_steep():
        return new_model(keras.optimizers.SGD(0.1))

    options = {
        "epochs": 10,
        "batch_size": 10,
        "verbose": False,
        "warm_start": warm_start,
    }
    path = regularization_path(make_steep, data[0], [1e4, 1.0, 0.1], data[1], **options)
    assert not np.isfinite(path.points[0]["validation_loss"])
    assert np.isfinite(path.points[1]["validation_loss"])
    assert path.best > 0
    assert path.one_standard_error > 0
    hopeless = RegularizationPath(path.points[:1])
    with pytest.raises(ValueError, match="diverged at every point"):
        _ = hopeless.best
