"""What a regularization path refuses: models, data, numbers and callbacks."""

import warnings

import keras
import numpy as np
import pytest
from backends import KERAS_2
from cheap_training import ignore_compiled_data, rewinding
from path_models import new_model, noisy_convolutions

from keras_softconv import SoftConv1D, regularization_path
from keras_softconv.callbacks import AdaptiveStrengths, StrengthSchedule

pytestmark = pytest.mark.filterwarnings(ignore_compiled_data)


@pytest.fixture(scope="module")
def make_model():
    """A function that always returns the same model, as if it were new."""
    return rewinding(new_model())


@pytest.fixture(scope="module")
def data():
    return noisy_convolutions()


@pytest.fixture(scope="module")
def trained_path(data, make_model):
    """A function that trains along strengths."""

    def trained(strengths=(1.0,), **arguments):
        arguments = {"epochs": 1, "verbose": False, **arguments}
        return regularization_path(make_model, data[0], strengths, data[1], **arguments)

    return trained


@pytest.mark.parametrize(
    ("strengths", "message"),
    [
        ([], "must be a sequence of finite numbers"),
        ([1.0, -1.0], r"0 or more.*Received: strengths=\[1.0, -1.0\]"),
        ([float("nan")], "finite"),
        ([(1, 2, 3)], "pairs"),
        (3.0, "Received: strengths=3.0"),
        ("12", "Received: strengths='12'"),
    ],
)
def test_bad_strengths(strengths, message, trained_path):
    with pytest.raises(ValueError, match=message):
        trained_path(strengths=strengths)


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
    model = make_model()
    for not_a_function in (model, "model", None):
        with pytest.raises(ValueError, match=r"`make_model` must be a function.*lambda: m"):
            regularization_path(not_a_function, data[0], [1.0], data[1])
    with pytest.raises(ValueError, match=r"a tuple of 3\. For sample weights"):
        regularization_path(make_model, (*data[0], None), [1.0], data[1])
    message = "`validation_data` must be a pair of arrays.*Received: ndarray"
    with pytest.raises(ValueError, match=message):
        regularization_path(make_model, data[0], [1.0], data[1][0])
    x, y = data[1]
    for wrong in ((x, y[:1]), (x[:0], y[:0]), (x, 1.0), ({"x": x, "z": x[1:]}, y)):
        with pytest.raises(ValueError, match=r"a target for each of its examples.*Rec"):
            regularization_path(make_model, data[0], [1.0], wrong)
        with pytest.raises(ValueError, match=r"`data` must have a target for each of its"):
            regularization_path(make_model, wrong, [1.0], data[1])
    for wrong, received in (
        (lambda: iter([data[0]]), "a function"),
        (None, "None"),
        ("x", "a str"),
        (dict(zip("xy", data[0], strict=True)), "a dict"),
        (data[0][0], "a ndarray"),
    ):
        with pytest.raises(ValueError, match=f"a dataset. Received: {received}. Give arr"):
            regularization_path(make_model, wrong, [1.0], data[1])


@pytest.mark.parametrize("part", [0, 1])
def test_validation_data_that_are_not_numbers_are_refused(part, data, make_model):
    wrong = [array.copy() for array in data[1]]
    wrong[part][:2] = np.nan
    with pytest.raises(ValueError, match="Received: 2 of 20 examples whose loss is NaN"):
        regularization_path(make_model, data[0], [1.0], wrong)


def test_targets_that_do_not_fit_the_loss_are_refused_before_the_training():
    def make_classifier():
        layers = [SoftConv1D(1, 3), keras.layers.Flatten(), keras.layers.Dense(3)]
        model = keras.Sequential([keras.Input((6, 1)), *layers])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss)
        return model

    x, classes = np.ones((4, 6, 1), "float32"), np.arange(4) % 3
    right, wrong = (x, classes), (x, np.eye(3)[classes])
    message = r"cannot be computed for `{}`.*shape \({}, 3\) for outputs of shape \({}, 3\)"
    for data, validation, expected in (
        (right, wrong, message.format("validation_data", 4, 4)),
        (wrong, right, message.format("data", 1, 1)),
    ):
        with pytest.raises(ValueError, match=expected):
            regularization_path(make_classifier, data, [1.0], validation)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "`epochs` must be a positive integer.*Received: epochs=0"),
        ({"epochs": None}, "`epochs` must be .*Received: epochs=None"),
        ({"epochs": 3, "initial_epoch": 3}, "more than `initial_epoch`.*initial_epoch=3"),
        ({"patience": 0}, "`patience` must be None or.*Received: patience=0"),
        ({"patience": 1.5}, "`patience` must be None or.*Received: patience=1.5"),
        ({"tolerance": 0.0}, "`tolerance` must be .*between 0 and 1.*tolerance=0.0"),
        ({"tolerance": "much"}, "`tolerance` must be .*Received: tolerance='much'"),
        ({"seed": -1}, "`seed` must be an integer from 0.*Received: seed=-1"),
        ({"seed": None}, "`seed` must be an integer from 0.*Received: seed=None"),
    ],
)
def test_bad_numbers(arguments, message, trained_path):
    with pytest.raises(ValueError, match=message):
        trained_path(**arguments)


def test_callbacks_that_move_the_strengths_are_refused(data, trained_path):
    message = "must not be moved.*Received: callbacks with"
    for callback in (StrengthSchedule(lambda epoch: 1.0), AdaptiveStrengths(*data[0])):
        for callbacks in (callback, [callback], keras.callbacks.CallbackList([callback])):
            with pytest.raises(ValueError, match=f"{message} {type(callback).__name__}"):
                trained_path(callbacks=callbacks)


def test_a_callback_of_ones_own_that_moves_the_strengths_is_found(trained_path):
    class Mover(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.layers[0].tie_strength.assign(3.0)

    with pytest.raises(ValueError, match=r"moved them from \[\(1.0, 1.0\)\] to \[\(3.0"):
        trained_path(strengths=[1.0], epochs=1, callbacks=[Mover()])


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


def test_a_dataset_whose_generator_ends(data, make_model):
    batches = iter([data[0]])
    if keras.backend.backend() == "torch":
        from torch.utils.data import DataLoader, IterableDataset

        class Once(IterableDataset):
            def __iter__(self):
                return batches

        dataset, empty = DataLoader(Once(), batch_size=None), DataLoader([])
    else:
        tensorflow = pytest.importorskip("tensorflow")
        specs = tuple(
            tensorflow.TensorSpec((None, *part.shape[1:]), part.dtype) for part in data[0]
        )
        dataset = tensorflow.data.Dataset.from_generator(
            lambda: batches, output_signature=specs
        )
        empty = tensorflow.data.Dataset.from_tensor_slices(data[0]).take(0)
    message = r"`data` must have batches.* a .* without any batch left. Give arrays, or a"
    if KERAS_2:  # It has an error of its own if the data are not empty from the beginning.
        message += "|resulted in an empty dataset"
    for one in (dataset, empty):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Your input ran out of data")
            with pytest.raises(ValueError, match=message):
                regularization_path(
                    make_model, one, [1, 2], data[1], verbose=False, shuffle=False
                )


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
