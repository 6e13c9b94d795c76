"""The regularization path: order, warm starts, choice and errors."""

import json
import sys

import keras
import numpy as np
import pytest
from backends import KERAS_2
from cheap_training import ignore_compiled_data, rewinding, uncompiled
from soft_models import numpy_weights

from keras_softconv import RegularizationPath, SoftConv1D, regularization_path
from keras_softconv.diagnostics import structure_numbers

pytestmark = pytest.mark.filterwarnings(ignore_compiled_data)

L2 = keras.regularizers.L2
STRENGTHS = [0.01, 1.0, 100.0]


def new_model(optimizer=None, loss="mse"):
    layer = SoftConv1D(
        1, 3, tie_regularizer=L2(0.1), off_template_regularizer=L2(0.1), name="soft"
    )
    model = keras.Sequential([keras.Input((6, 1)), layer], name="model")
    model.compile(optimizer or keras.optimizers.Adam(0.05), loss)
    return model


@pytest.fixture(scope="module")
def make_model():
    """A function that always returns the same model, as if it were new."""
    keras.utils.set_random_seed(0)
    return rewinding(new_model())


@pytest.fixture(scope="module")
def data():
    """Noisy convolutions with a problem child, to train and to validate on."""
    rng = np.random.default_rng(0)
    kernel = sum(np.eye(6, 4, -tap) * (1 + tap) for tap in range(3))
    kernel[:, 1] *= -1
    x = rng.normal(size=(60, 6, 1)).astype("float32")
    y = x[..., 0] @ kernel + rng.normal(size=(60, 4))
    y = y.astype("float32")[..., None]
    return (x[:40], y[:40]), (x[40:], y[40:])


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


def test_each_point_begins_where_the_last_one_ended_with_a_fresh_optimizer(
    data, make_model, path
):
    model = make_model()
    model.set_weights(path.weights[0])
    for strength in ("tie_strength", "off_template_strength"):
        getattr(model.layers[0], strength).assign(STRENGTHS[1])
    model.fit(*data[0], epochs=15, batch_size=40, verbose=0)
    trained = numpy_weights(model.layers[0])
    path.restore(model, 1)
    for name, weight in trained.items():
        expected = numpy_weights(model.layers[0])[name]
        np.testing.assert_allclose(weight, expected, rtol=1e-4, atol=1e-5)


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


@pytest.mark.parametrize(
    ("strengths", "message"),
    [
        ([], "must be a sequence of finite numbers"),
        ([1.0, -1.0], r"0 or more.*Received: strengths=\[1.0, -1.0\]"),
        ([float("nan")], "finite"),
        ([(1, 2, 3)], "pairs"),
        (3.0, "Received: strengths=3.0"),
    ],
)
def test_bad_strengths(strengths, message, trained_path):
    with pytest.raises(ValueError, match=message):
        trained_path(strengths=strengths)


def test_a_point_that_diverges_does_not_spoil_the_next(data):
    def make_steep():
        return new_model(keras.optimizers.SGD(0.1))

    options = {"epochs": 10, "batch_size": 10, "verbose": False}
    path = regularization_path(make_steep, data[0], [1e4, 1.0, 0.1], data[1], **options)
    assert not np.isfinite(path.points[0]["validation_loss"])
    assert np.isfinite(path.points[1]["validation_loss"])
    assert path.best > 0
    assert path.one_standard_error > 0
    hopeless = RegularizationPath(path.points[:1])
    with pytest.raises(ValueError, match="diverged at every point"):
        _ = hopeless.best


def test_losses_of_each_example_are_those_of_fit(rng):
    x = rng.normal(size=(30, 6, 1)).astype("float32")
    classes = rng.integers(2, size=30)

    def make_classifier(loss, units, activation):
        layers = [SoftConv1D(1, 3), keras.layers.Flatten()]
        head = keras.layers.Dense(units, activation=activation)
        model = keras.Sequential([keras.Input((6, 1)), *layers, head])
        model.compile(keras.optimizers.SGD(0.0), loss, metrics=["accuracy"])
        return model

    for loss, units, activation in (
        ("binary_crossentropy", 1, "sigmoid"),
        (keras.losses.SparseCategoricalCrossentropy(), 2, "softmax"),
        (lambda y, p: keras.ops.mean((keras.ops.cast(y, p.dtype) - p) ** 2, -1), 1, None),
    ):
        model = make_classifier(loss, units, activation)
        with uncompiled():
            path = regularization_path(
                lambda model=model: model, (x, classes), [0.0], (x, classes), verbose=False
            )
            expected = model.evaluate(x, classes, verbose=0, return_dict=True)["loss"]
        found = path.points[0]["validation_loss"]
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    scalar = make_classifier(lambda y, p: keras.ops.mean(p), 1, None)
    message = r"a loss for each example.*over the last axis"
    with uncompiled(), pytest.raises(ValueError, match=message):
        regularization_path(lambda: scalar, (x, classes), [0.0], (x, classes), verbose=0)


def test_bad_models_and_data(data, make_model):
    def path_of(model):
        return regularization_path(lambda: model, data[0], [1.0], data[1])

    with pytest.raises(ValueError, match="must return a compiled Keras model"):
        path_of(keras.Sequential([keras.Input((6, 1)), SoftConv1D(1, 3)]))
    dense = keras.Sequential([keras.Input((6, 1)), keras.layers.Dense(1)])
    dense.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"SoftConv layers.*'.*' with none"):
        path_of(dense)
    with pytest.raises(ValueError, match=r"the loss of one output\. Received: loss="):
        path_of(new_model(loss=None))
    with pytest.raises(ValueError, match=r"a tuple of 3\. For sample weights"):
        regularization_path(make_model, (*data[0], None), [1.0], data[1])
    message = "`validation_data` must be a pair of arrays.*Received: ndarray"
    with pytest.raises(ValueError, match=message):
        regularization_path(make_model, data[0], [1.0], data[1][0])


ONE_SHOT = {
    "generator": lambda x, y: ((x, y) for _ in range(2)),
    "list_iterator": lambda x, y: iter([(x, y)]),
    "zip": lambda x, y: zip([x], [y], strict=True),
    "map": lambda x, y: map(tuple, [[x, y]]),
}


@pytest.mark.parametrize("kind", ONE_SHOT)
def test_data_that_can_be_read_only_once(kind, data, make_model):
    iterator = ONE_SHOT[kind](*data[0])
    message = rf"`data` must be.* a {kind}, an iterator .*Give arrays, a `keras.utils.PyD"
    with pytest.raises(ValueError, match=message):
        regularization_path(make_model, iterator, [1.0, 2.0], data[1])
    assert len(list(iterator)) > 0  # nothing was read
    with pytest.raises(ValueError, match=rf"`data` must be.* a {kind}, an iterator"):
        regularization_path(
            make_model, (ONE_SHOT[kind](*data[0]), data[0][1]), [1], data[1]
        )
    pair = data[1][0], ONE_SHOT[kind](*data[1])
    for validation_data in (ONE_SHOT[kind](*data[1]), pair):
        with pytest.raises(ValueError, match=rf"`validation_data` must be.* a {kind}, an"):
            regularization_path(make_model, data[0], [1.0], validation_data)


def test_a_dataset_of_the_backend_is_read_again_and_its_iterator_refused(data, make_model):
    (x, y), validation_data = data
    if keras.backend.backend() == "torch":
        from torch.utils.data import DataLoader

        dataset = DataLoader(list(zip(x, y, strict=True)), batch_size=20)
    else:
        tensorflow = pytest.importorskip("tensorflow")
        dataset = tensorflow.data.Dataset.from_tensor_slices((x, y)).batch(20)
    path = regularization_path(
        make_model, dataset, [1, 2], validation_data, epochs=1, verbose=False, shuffle=False
    )
    assert [point["tie_strength"] for point in path.points] == [2, 1]
    with pytest.raises(ValueError, match=r"`data` must be.*Iter, an|Iterator, an iterator"):
        regularization_path(make_model, iter(dataset), [1, 2], validation_data)
