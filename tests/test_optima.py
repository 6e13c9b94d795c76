"""Proximal optimizers end at the optimum of a penalty with kinks, and exactly at zero.

The problem is convex; its optimum is found in float64, with a proof from its dual.
"""

import keras
import numpy as np
import oracle
import pytest
from backends import BACKEND
from keras.regularizers import L1
from linear_models import (
    Absolute,
    Euclidean,
    LinearModel,
    Pairwise,
    deviations_of,
    flat_weights,
)
from soft_models import compile_and_build

from keras_softconv import SoftConv2D
from keras_softconv.optimizers import ProximalAdam, ProximalSGD
from keras_softconv.regularizers import GroupLasso, PairwiseL1

# Families of five: whichever way they are split, the median is one of them.
CASE = ((7, 3), 1, 2, {"kernel_size": 3})
SAMPLES, STEPS = 30, 200
# At once, where Keras can.
STEPS_PER_EXECUTION = 1 if BACKEND == "torch" else 50
OFF = 0.02  # strength of the lasso off the template

# The layer's regularizer, the strength and its norm, of all ties or of each family.
PENALTIES = {
    "lasso": (L1(0.03), 0.03, Absolute()),
    "group": (GroupLasso(0.06), 0.06, Euclidean()),
    "shades": (PairwiseL1(0.015), 0.015, Pairwise()),
}
decay = keras.optimizers.schedules.CosineDecay
OPTIMIZERS = {
    "adam": lambda: ProximalAdam(decay(0.1, STEPS)),
    "amsgrad": lambda: ProximalAdam(decay(0.1, STEPS), amsgrad=True),
    "sgd": lambda: ProximalSGD(0.8),
    "momentum": lambda: ProximalSGD(0.2, momentum=0.9),
    "nesterov": lambda: ProximalSGD(0.2, momentum=0.9, nesterov=True),
}


@pytest.fixture(scope="module")
def task():
    """A convolution with two shades, here and there broken, and with noise."""
    rng = np.random.default_rng(1)
    ids = oracle.family_ids(CASE)
    kernel = np.where(ids < 0, 0.0, rng.normal(size=ids.max() + 1)[ids])
    kernel[..., :2, :, 0] += 0.5 * (ids >= 0)[..., :2, :, 0]
    kernel += (rng.random(ids.shape) < 0.05) * rng.normal(size=ids.shape)
    inputs = rng.normal(size=(SAMPLES, 7, 3, 1)).astype("float32")
    outputs = inputs.reshape(SAMPLES, -1) @ kernel.reshape(21, -1)
    outputs += 0.1 * rng.normal(size=outputs.shape)
    outputs[:, 2] += 1  # a bias that is not shared
    return inputs, outputs.reshape(SAMPLES, 5, 1, 2).astype("float32")


@pytest.fixture(scope="module")
def model(task):
    return LinearModel(CASE, *task)


@pytest.fixture(scope="module")
def optima(model):
    """Blocks of each penalty, the smallest objective and its deviations."""
    found = {}
    for name, (_, strength, norm) in PENALTIES.items():
        ties = [model.block_of_ties(norm, strength)]
        if name != "lasso":
            ties = model.blocks_by_family(norm, strength)
        blocks = [*ties, model.block_off_template(Absolute(), OFF)]
        found[name] = (blocks, *model.optimum(blocks))
    return found


def trained_layer(task, penalty, optimizer, rng, **arguments):
    layer = SoftConv2D(
        2, 3, tie_regularizer=PENALTIES[penalty][0], off_template_regularizer=L1(OFF),
        kernel_initializer="zeros", **arguments,
    )  # fmt: skip
    network = keras.Sequential([keras.Input((7, 3, 1), dtype="float32"), layer])
    for weight in (layer.deviations, layer.bias_deviations):
        weight.assign(0.3 * rng.normal(size=weight.shape))
    compile_and_build(network, optimizer, steps_per_execution=STEPS_PER_EXECUTION)
    repeated = (np.concatenate([part] * 100) for part in task)
    epochs = STEPS // 100
    network.fit(*repeated, batch_size=SAMPLES, shuffle=False, epochs=epochs, verbose=0)
    return layer


def zeros(deviations) -> np.ndarray:
    return np.flatnonzero(deviations == 0)


def shades(model, deviations) -> int:
    """How many different values the families have."""
    families = model.blocks_by_family(None, 1.0)
    return sum(len(np.unique(deviations[family.places])) for family in families)


WAYS = [*(("lasso", name) for name in OPTIMIZERS), ("group", "adam"), ("group", "momentum"),
        ("shades", "adam"), ("shades", "momentum")]  # fmt: skip


# For every change, each penalty and each optimizer is taken once or more.
QUICK = [("lasso", "momentum"), ("group", "adam"), ("shades", "momentum")]


@pytest.mark.parametrize(
    ("penalty", "optimizer"),
    [
        pytest.param(*way, marks=[] if way in QUICK else [pytest.mark.slow])
        for way in (WAYS if BACKEND == "tensorflow" else WAYS[::2])
    ],
)
def test_ends_at_the_optimum(task, model, optima, penalty, optimizer, rng):
    blocks, smallest, expected = optima[penalty]
    layer = trained_layer(task, penalty, OPTIMIZERS[optimizer](), rng)
    assert abs(model.objective(layer, blocks) / smallest - 1) < 1e-4
    deviations = deviations_of(flat_weights(layer))
    # Exactly where the solver, too, ends exactly.
    np.testing.assert_array_equal(zeros(deviations), zeros(expected))
    assert shades(model, deviations) == shades(model, expected)
    if penalty != "shades":
        assert np.mean(deviations == 0) > 0.6
    assert np.mean(deviations[~model.is_tie] == 0) > 0.6


def test_is_no_worse_than_adam_which_has_no_zeros(task, model, optima, rng):
    blocks, *_ = optima["lasso"]
    objectives, counts = [], []
    for optimizer in (OPTIMIZERS["adam"](), keras.optimizers.Adam(decay(0.1, STEPS))):
        layer = trained_layer(task, "lasso", optimizer, rng)
        objectives.append(model.objective(layer, blocks))
        counts.append(len(zeros(deviations_of(flat_weights(layer)))))
    assert objectives[0] < 1.01 * objectives[1]
    assert counts[0] > 0.6 * 220
    assert counts[1] < 0.1 * 220


@pytest.mark.slow
@pytest.mark.parametrize("halo", [0, 1] if BACKEND == "tensorflow" else [1])
def test_with_a_halo(halo, task, rng):
    model = LinearModel(CASE, *task, halo=halo)
    blocks = [
        model.block_of_ties(Absolute(), 0.03),
        model.block_off_template(Absolute(), OFF),
    ]
    smallest, expected = model.optimum(blocks)
    layer = trained_layer(task, "lasso", OPTIMIZERS["adam"](), rng, halo=halo)
    assert abs(model.objective(layer, blocks) / smallest - 1) < 1e-4
    deviations = deviations_of(flat_weights(layer))
    np.testing.assert_array_equal(zeros(deviations), zeros(expected))


@pytest.mark.slow
@pytest.mark.parametrize(
    "policy",
    ["mixed_float16", "mixed_bfloat16"] if BACKEND == "tensorflow" else ["mixed_float16"],
)
def test_in_mixed_precision(policy, task, model, optima, rng):
    blocks, smallest, expected = optima["lasso"]
    optimizer = OPTIMIZERS["adam"]()
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    layer = trained_layer(task, "lasso", optimizer, rng, dtype=policy)
    # Outputs and gradients are rounded to three or two digits.
    assert abs(model.objective(layer, blocks) / smallest - 1) < 1e-2
    deviations = deviations_of(flat_weights(layer))
    wrong = np.setxor1d(zeros(deviations), zeros(expected))
    assert len(wrong) < 0.05 * len(expected)
