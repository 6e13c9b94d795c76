"""Losses as likelihoods: their curvature is the Fisher information, in float64 NumPy."""

from itertools import product

import keras
import numpy as np
import pytest
from keras.ops import convert_to_numpy as to_numpy

from keras_softconv.evidence import likelihood_of

losses = keras.losses
STEP = 1e-4


def softmax(z):
    return np.exp(z) / np.exp(z).sum()


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


# For all labels of one example the negative logarithms of their probabilities, and these.


def of_categories(outputs, from_logits):
    shares = softmax(outputs) if from_logits else outputs / outputs.sum()
    return -np.log(shares), shares


def of_bits(outputs, from_logits):
    shares = sigmoid(outputs) if from_logits else outputs
    bits = np.array(list(product([0, 1], repeat=len(outputs))))
    of_each = np.where(bits, shares, 1 - shares)
    return -np.log(of_each).sum(axis=1), of_each.prod(axis=1)


def information(negative_logs, outputs):
    """The mean over labels of the squared gradient of the logarithm, by differences."""
    _, probabilities = negative_logs(outputs)
    gradients = []
    for place in range(len(outputs)):
        step = np.zeros(len(outputs))
        step[place] = STEP
        above, below = (negative_logs(outputs + sign * step)[0] for sign in (1, -1))
        gradients.append((above - below) / (2 * STEP))
    gradients = np.array(gradients)
    return np.einsum("il,jl,l->ij", gradients, gradients, probabilities)


CASES = {
    "categorical, logits": (
        losses.CategoricalCrossentropy(from_logits=True),
        np.array([0.3, -1.2, 0.5]),
        lambda z: of_categories(z, True),
    ),
    "categorical, shares": (
        losses.CategoricalCrossentropy(),
        np.array([0.2, 0.1, 0.5]),  # Keras divides by their sum
        lambda z: of_categories(z, False),
    ),
    "sparse, logits": (
        losses.SparseCategoricalCrossentropy(from_logits=True),
        np.array([2.0, -3.0, 0.5]),
        lambda z: of_categories(z, True),
    ),
    "binary, logits": (
        losses.BinaryCrossentropy(from_logits=True),
        np.array([0.3, -2.0]),
        lambda z: of_bits(z, True),
    ),
    "binary, shares": (
        losses.BinaryCrossentropy(),
        np.array([0.3, 0.9]),
        lambda z: of_bits(z, False),
    ),
}


def covariance(likelihood, outputs):
    """Of `curvature_root` for all signs."""
    roots = []
    for signs in product([-1.0, 1.0], repeat=len(outputs)):
        batch = (keras.ops.convert_to_tensor(np.float32([one])) for one in (outputs, signs))
        roots.append(to_numpy(likelihood.curvature_root(*batch))[0].astype("float64"))
    return np.einsum("si,sj->ij", roots, roots) / len(roots)


@pytest.mark.parametrize("case", CASES)
def test_the_covariance_of_the_roots_is_the_fisher_information(case):
    loss, outputs, negative_logs = CASES[case]
    found = covariance(likelihood_of(loss), outputs)
    expected = information(negative_logs, outputs)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_that_of_counts_and_of_squares():
    means = np.array([0.5, 3.0])
    np.testing.assert_allclose(
        covariance(likelihood_of("poisson"), means), np.diag(1 / means), rtol=1e-5
    )
    # A squared error has the second derivative 2.
    np.testing.assert_allclose(
        covariance(likelihood_of("mse"), means), 2 * np.eye(2), rtol=1e-5
    )


@pytest.mark.parametrize(
    "loss",
    [
        "mse",
        "mean_squared_error",
        "MeanSquaredError",
        losses.mean_squared_error,
        losses.MeanSquaredError(),
    ],
)
def test_a_loss_is_known_by_name_function_and_class(loss):
    assert likelihood_of(loss).has_noise


@pytest.mark.parametrize(
    "name", ["categorical_crossentropy", "sparse_categorical_crossentropy", "poisson"]
)
def test_other_losses_are_known_by_name(name):
    likelihood = likelihood_of(name)
    assert not likelihood.has_noise
    assert likelihood.loss.name == name


def test_the_terms_are_those_that_the_loss_is_the_mean_of():
    labels = np.zeros((5, 4, 3))
    assert likelihood_of("mse").terms(labels) == 60
    assert likelihood_of("poisson").terms(labels) == 60
    assert likelihood_of("binary_crossentropy").terms(labels) == 60
    assert likelihood_of("categorical_crossentropy").terms(labels) == 20
    assert likelihood_of("sparse_categorical_crossentropy").terms(labels[..., 0]) == 20


def test_the_log_likelihood_of_noise_is_that_of_the_normal_distribution(rng):
    residuals, variance = rng.normal(size=30), 0.7
    found = likelihood_of("mse").log_likelihood((residuals**2).sum(), 30, 2 * variance)
    density = np.exp(-(residuals**2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    np.testing.assert_allclose(found, np.log(density).sum())
    assert likelihood_of("poisson").log_likelihood(3.0, 30, 1.0) == -3.0


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("mae", "likelihood of its labels. Expected one of BinaryC.*Received: loss='mae'"),
        (lambda y, p: p, "regularization_path"),
        (["mse", "mse"], "of one output"),
        ({"a": "mse"}, "of one output"),
        (losses.MeanSquaredError(reduction="sum"), "needs the mean.*reduction='sum'"),
        (
            losses.SparseCategoricalCrossentropy(ignore_class=0),
            "Received: SparseCategoricalCrossentropy with.*ignore_class=0",
        ),
        (losses.CategoricalCrossentropy(axis=1), "axis=1. Leave these arguments out"),
    ],
)
def test_other_losses_are_refused(loss, message):
    with pytest.raises(ValueError, match=message):
        likelihood_of(loss)


@pytest.mark.parametrize(
    ("loss", "labels", "fault"),
    [
        ("mse", [np.nan, 1.0], "not all finite"),
        ("poisson", [1.0, -1.0], "not all 0 or more"),
        ("binary_crossentropy", [0.0, 2.0], "not all between 0 and 1"),
        ("categorical_crossentropy", [[0.5, 0.6]], "add up to 1"),
        ("sparse_categorical_crossentropy", [0, 2], "numbers from 0 to 1"),
        ("sparse_categorical_crossentropy", [0.5, 1], "numbers from 0 to 1"),
    ],
)
def test_values_without_a_meaning_are_found(loss, labels, fault):
    assert fault in likelihood_of(loss).find_faults(np.array(labels), classes=2)
    assert likelihood_of(loss).find_faults(np.array([[0.0, 1.0]]), classes=2) is None
