"""Updates of strengths against whole matrices in float64, which the package never makes."""

import numpy as np
import pytest

from keras_softconv.evidence import Measurement, Prior, updates_of
from keras_softconv.evidence.outputs_shared import products_between
from keras_softconv.evidence.priors import Strengths

TERMS, DISPERSION = 100, 1.0
BOUNDS = (1e-9, 1e9)


class FixedPart:
    """Weights that stay as they are."""

    def __init__(self, weights):
        self._weights = weights

    def values(self):
        return self._weights


def prior_of(weights, strengths, factors=(1.0,), eigenvalues=None):
    strengths = np.array(strengths, "float64")
    if eigenvalues is None:
        eigenvalues = np.ones((len(factors), 1, 1))
    return Prior(
        Strengths("strength", strengths.shape, lambda: strengths, lambda new: None),
        np.array(factors),
        eigenvalues,
        [FixedPart(weights)],
        "effective_weights",
    )


def measured(curvature, rng, sizes, draws=400):
    """What draws of the gradient say about a curvature, `(weights, weights)`.

    Args:
        sizes: of the priors, one after the other.
    """
    root = np.linalg.cholesky(curvature + 1e-9 * np.eye(len(curvature)))
    gradients = np.sign(rng.normal(size=(draws, len(root)))) @ root.T
    pairs = np.full((draws, draws), 1 / (draws * (draws - 1)))
    np.fill_diagonal(pairs, 0.0)
    ends = np.cumsum(sizes)[:-1]
    return Measurement(
        1.0,
        TERMS,
        np.split(np.diag(curvature), ends),
        np.split(gradients.astype("float32"), ends, axis=1),
        pairs,
        draws,
    )


def random_curvature(inputs, examples, rng):
    """Of a linear model with random inputs of different sizes."""
    design = rng.normal(size=(examples, inputs)) * np.exp(0.5 * rng.normal(size=inputs))
    return design.T @ design


@pytest.mark.parametrize(("inputs", "examples"), [(60, 200), (200, 60)])
@pytest.mark.parametrize("strength", [0.03, 1.0, 30.0])
def test_weights_that_explain_the_same_share_what_the_data_say(
    inputs, examples, strength, rng
):
    curvature = random_curvature(inputs, examples, rng)
    weights = rng.normal(size=inputs)
    prior = prior_of(weights, strength, [0.5])
    (update,) = updates_of([prior], measured(curvature, rng, [inputs]))
    precision = 2 * TERMS * strength * 0.5
    whole = curvature + precision * np.eye(inputs)
    gamma = np.trace(np.linalg.solve(whole, curvature))
    np.testing.assert_allclose(update.effective_weights, gamma, rtol=0.04)
    assert update.effective_weights <= min(inputs, examples)
    found = update.strengths(DISPERSION, BOUNDS)
    expected = gamma / (TERMS * (weights**2).sum())
    expected = np.clip(expected, strength / 10, strength * 10)
    np.testing.assert_allclose(found, expected, rtol=0.04)
    determinant = np.linalg.slogdet(whole / precision)[1]
    evidence = -(determinant + precision * (weights**2).sum()) / 2
    np.testing.assert_allclose(update.log_evidence(DISPERSION), evidence, rtol=0.03)


@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
def test_a_direction_of_many_weights_counts_once(strength, rng):
    """As of hidden units that are all positive: one eigenvalue is far above the others."""
    inputs, examples = 40, 300
    design = np.abs(rng.normal(size=(examples, inputs))) + 2
    curvature = design.T @ design
    weights = rng.normal(size=inputs)
    prior = prior_of(weights, strength)
    (update,) = updates_of([prior], measured(curvature, rng, [inputs], draws=48))
    whole = curvature + 2 * TERMS * strength * np.eye(inputs)
    gamma = np.trace(np.linalg.solve(whole, curvature))
    np.testing.assert_allclose(update.effective_weights, gamma, rtol=0.1)
    determinant = np.linalg.slogdet(whole / (2 * TERMS * strength))[1]
    evidence = -(determinant + 2 * TERMS * strength * (weights**2).sum()) / 2
    np.testing.assert_allclose(update.log_evidence(DISPERSION), evidence, rtol=0.1)


def test_products_are_unbiased_without_some_directions(rng):
    """The draws' own squares, 1000, are far larger than their products, about 30."""
    inputs, draws = 1000, 48
    curvature = rng.uniform(0.5, 1.5, size=inputs)
    pairs = np.full((draws, draws), 1 / (draws * (draws - 1)))
    np.fill_diagonal(pairs, 0.0)
    found = []
    for _ in range(20):
        gradients = rng.normal(size=(draws, inputs)) * np.sqrt(curvature)
        directions = np.linalg.qr(rng.normal(size=(draws, 2)))[0]
        grams = (gradients @ gradients.T)[None]
        found.append(products_between(grams, directions, pairs)[0, 0])
    np.testing.assert_allclose(np.mean(found), (curvature**2).sum(), rtol=0.05)


def test_priors_share_among_each_other(rng):
    inputs, examples, sizes = 90, 80, [30, 60]
    curvature = random_curvature(inputs, examples, rng)
    strengths = [0.02, 0.3]
    priors = [
        prior_of(rng.normal(size=size), strength)
        for size, strength in zip(sizes, strengths, strict=True)
    ]
    updates = updates_of(priors, measured(curvature, rng, sizes))
    precision = 2 * TERMS * np.repeat(strengths, sizes)
    shares = np.diag(np.linalg.solve(curvature + np.diag(precision), curvature))
    gammas = [part.sum() for part in np.split(shares, [30])]
    found = [update.effective_weights for update in updates]
    np.testing.assert_allclose(found, gammas, rtol=0.06)
    # Without sharing both together would seem to determine far more.
    alone = np.diag(curvature) / (np.diag(curvature) + precision)
    assert alone.sum() > 1.15 * sum(gammas)


@pytest.mark.parametrize("kind", ["one", "families", "terms"])
def test_the_evidence_is_stationary_where_strengths_stay(kind, rng):
    """Its derivative with respect to the logarithm of a strength is what moves it."""
    # Of a size that no strength moves by the greatest factor that is allowed.
    weights = 0.1 * rng.normal(size=(12, 3))
    curvature = rng.uniform(1, 100, size=(12, 3))
    strengths, factors, eigenvalues = np.array([0.3]), [0.5], np.ones((1, 1, 1))
    if kind == "families":
        strengths = np.array([0.1, 0.3, 0.6])
    if kind == "terms":
        strengths, factors = np.array([0.1, 0.3]), [0.5, 0.7]
        eigenvalues = np.stack([np.ones(36), rng.uniform(0, 3, size=36)])[..., None]

    def update(strengths):
        prior = prior_of(weights, strengths, factors, eigenvalues)
        no_draws = [np.zeros((1, 12, 3), "float32")]
        found = Measurement(1.0, TERMS, [curvature], no_draws, np.zeros((1, 1)), 1)
        return updates_of([prior], found)[0]

    new = update(strengths).strengths(DISPERSION, BOUNDS)
    for place in range(len(strengths)):
        step = np.zeros(len(strengths))
        step[place] = 1e-4
        above, below = (
            update(strengths * np.exp(sign * step)).log_evidence(DISPERSION)
            for sign in (1, -1)
        )
        slope = (above - below) / 2e-4
        squares = (weights**2).reshape(-1, 3 if kind == "families" else 1)
        of_place = place if kind == "families" else 0
        term = place if kind == "terms" else 0
        penalty = (eigenvalues[term] * squares)[:, of_place].sum()
        moved = TERMS * factors[term] * (new - strengths)[place] * penalty
        np.testing.assert_allclose(slope, moved, rtol=1e-4)


def test_what_the_data_do_not_reach_keeps_its_strength(rng):
    prior = prior_of(np.zeros(5), 0.7)
    found = measured(np.eye(5), rng, [5])
    (update,) = updates_of([prior], found)
    assert update.strengths(DISPERSION, BOUNDS) == 0.7  # all weights are zero
    (update,) = updates_of([prior], measured(np.zeros((5, 5)), rng, [5]))
    assert update.first_strengths(BOUNDS) == 0.7  # no curvature, as of dead units


def test_first_strengths_leave_a_part_of_each_weight_to_the_data(rng):
    curvature = np.diag(rng.uniform(1, 3, size=40))
    for strength in (1e5, 1e-6):
        prior = prior_of(rng.normal(size=40), strength)
        (update,) = updates_of([prior], measured(curvature, rng, [40]))
        first = update.first_strengths(BOUNDS)
        equal = 1000 * np.diag(curvature).mean() / (2 * TERMS)
        np.testing.assert_allclose(first, min(strength, equal))


def test_half_a_step_is_made_back(rng):
    prior = prior_of(0.1 * np.ones(5), 1.0)
    (update,) = updates_of([prior], measured(np.eye(5), rng, [5]))
    whole = update.strengths(DISPERSION, BOUNDS)
    assert whole < 1
    for last_step in (0.0, -2.0):
        assert update.strengths(DISPERSION, BOUNDS, last_step=last_step) == whole
    half = update.strengths(DISPERSION, BOUNDS, last_step=2.0)
    np.testing.assert_allclose(half, np.sqrt(whole))


def test_a_strength_moves_by_a_factor_of_ten_at_most(rng):
    for size, factor in ((1e-6, 10), (1e6, 0.1)):
        prior = prior_of(size * np.ones(5), 1.0)
        (update,) = updates_of([prior], measured(np.eye(5), rng, [5]))
        np.testing.assert_allclose(update.strengths(DISPERSION, BOUNDS), factor)
