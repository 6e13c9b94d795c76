"""The data that strengths are learned from, and which are refused."""

import copy

import keras
import numpy as np
import pytest
from backends import BACKEND
from cheap_training import ignore_compiled_data
from likelihood_models import CLASSES, LOGITS, Batches, classifier, draw, fitted

from keras_softconv import SoftConv1D
from keras_softconv.callbacks import AdaptiveStrengths
from keras_softconv.evidence import TrainingData

pytestmark = pytest.mark.filterwarnings(
    ignore_compiled_data, "ignore:Model '.*' has .* trainable weights without a ridge"
)


def backend_dataset(x, y):
    if BACKEND == "torch":
        import torch

        pairs = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
        return torch.utils.data.DataLoader(pairs, batch_size=8)
    tensorflow = pytest.importorskip("tensorflow")
    return tensorflow.data.Dataset.from_tensor_slices((x, y)).batch(8)


def test_datasets_give_what_arrays_give(rng):
    x, y = draw(rng)
    found, model = [], classifier()
    for data in ((x, y), (Batches(x, y),), (backend_dataset(x, y),)):
        for strength in ("tie_strength", "off_template_strength"):
            getattr(model.layers[0], strength).assign(1.0)
        adaptive = AdaptiveStrengths(*data, update_freq=1, batch_size=8)
        fitted(model, adaptive, x, y, epochs=1, rate=0.0)
        found.append(adaptive.history[0])
        assert copy.deepcopy(adaptive).history == adaptive.history
    for other in found[1:]:
        for name, value in found[0].items():
            np.testing.assert_allclose(other[name], value, rtol=1e-4, atol=1e-6)


def generator():
    yield np.zeros((4, 6, 1)), np.zeros(4)


class Endless(Batches):
    num_batches = None


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (generator(), "again at each update. Received: a generator, an iterator"),
        (iter([]), "again at each update. Received: a list_iterator"),
        (np.zeros((4, 6, 1)), "or a dataset of pairs.*Received: x of type ndarray"),
        ({"x": 1}, "Received: x of type dict, and no y"),
        (3, "Received: x of type int"),
        (Endless(np.zeros(1), np.zeros(1)), "Received: a Endless that never ends"),
    ],
)
def test_data_that_cannot_be_read_again_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        AdaptiveStrengths(x)


def test_endless_datasets_are_refused(rng):
    tensorflow = pytest.importorskip("tensorflow")
    dataset = tensorflow.data.Dataset.from_tensors(draw(rng)).repeat()
    with pytest.raises(ValueError, match=r"never ends\. Leave out `repeat"):
        AdaptiveStrengths(dataset)


class Weighted(Batches):
    def __getitem__(self, index):
        return (*super().__getitem__(index), np.ones(8))


class Empty(Batches):
    def __len__(self):
        return 0


def last_replaced(data, value):
    return np.concatenate([data[:-1], np.full_like(data[-1:], value)])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda x, y: (Weighted(x, y),), "without sample weights. Received: a tuple of 3"),
        (lambda x, y: (Empty(x, y),), "Received: a Empty without a batch, or without one"),
        (
            lambda x, y: (Batches(x, last_replaced(y, 3)),),
            "numbers from 0 to 2.*1 to 3|0 to 3",
        ),
        (
            lambda x, y: (last_replaced(x, np.nan), y),
            "a finite loss.*Received: a loss of nan",
        ),
        (lambda x, y: (x, y + 1), "labels are not all numbers from 0 to 2.*from 1 to 3"),
        (lambda x, y: (x, np.eye(2)[y % 2]), r"outputs of shape \(None, 3\) expects lab"),
    ],
)
def test_labels_that_do_not_fit_are_refused_before_training(data, message, rng):
    x, y = draw(rng)
    model = classifier()
    adaptive = AdaptiveStrengths(*data(x, y), update_freq=1)
    with pytest.raises(ValueError, match=message):
        fitted(model, adaptive, x, y)
    assert model.optimizer.iterations == 0


def test_batches_without_examples_are_skipped(rng):
    x, y = draw(rng, number=20)
    sizes = [len(labels) for _, labels in TrainingData(Batches(x, y), None, 8).batches()]
    assert sizes == [8, 8, 4]


@pytest.mark.parametrize("probes", [9, 16])
def test_any_number_of_draws(probes, rng):
    x, y = draw(rng)
    adaptive = AdaptiveStrengths(x, y, update_freq=1, probes=probes, batch_size=20)
    fitted(classifier(), adaptive, x, y, epochs=1)
    assert adaptive.history[0]["model/soft/tie_effective_weights"] > 0


def test_several_outputs_are_refused(rng):
    x, y = draw(rng)
    inputs = keras.Input((6, 1))
    hidden = keras.layers.Flatten()(SoftConv1D(2, 3)(inputs))
    outputs = [keras.layers.Dense(CLASSES)(hidden) for _ in range(2)]
    model = keras.Model(inputs, outputs)
    model.compile("sgd", [LOGITS, LOGITS])
    with pytest.raises(ValueError, match="the loss of one output"):
        model.fit(x, [y, y], verbose=0, callbacks=[AdaptiveStrengths(x, y)])
    model.compile("sgd", "mse")
    labels = np.eye(CLASSES)[y]
    with pytest.raises(ValueError, match="with one output of known size"):
        model.fit(x, [labels] * 2, verbose=0, callbacks=[AdaptiveStrengths(x, y)])
