"""Layers that torch compiles: the same numbers, and not compiled again at every step."""

import copy
import pickle
import shutil

import keras
import numpy as np
import pytest
from backends import BACKEND, slow
from conv_cases import CASES
from keras import regularizers
from keras.ops import convert_to_numpy as to_numpy
from soft_models import FEW, random_layer

from keras_softconv.regularizers import (
    DistanceWeighted,
    FusedTies,
    GaussianMixture,
    GroupLasso,
    Huber,
    PairwiseL1,
)
from keras_softconv.weight_sharing import dense

pytestmark = [
    pytest.mark.skipif(BACKEND != "torch", reason="is about what only torch has"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
]
STRONG = {
    "tie_regularizer": regularizers.L2(0.5),
    "off_template_regularizer": regularizers.L2(0.25),
}
# As many rows as columns and channels, so that `channels_first` has the same shape.
SQUARE = ((3, 3), 3, 2, {"kernel_size": 2})
storages = pytest.mark.parametrize("halo", [None, 1], ids=["dense", "halo"])


def in_turn(names) -> pytest.MarkDecorator:
    """Each name with one storage, the next one with the other: a case takes seconds."""
    return pytest.mark.parametrize(
        ("name", "halo"), [(name, (None, 1)[n % 2]) for n, name in enumerate(names)]
    )


@pytest.fixture
def counters():
    """What torch's compiler has counted since the test began."""
    import torch

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield torch._dynamo.utils.counters
    torch._dynamo.reset()


def model_of(layer) -> keras.Model:
    geometry = layer.weight_sharing.geometry
    shape = layer._join_shape(None, geometry.input_grid, geometry.in_channels)
    return keras.Sequential([keras.Input(shape[1:]), layer])


def batch_for(model, size, rng):
    import torch

    shape = (size, *model.input_shape[1:])
    return torch.tensor(rng.normal(size=shape).astype("float32"))


def outputs_loss_and_gradients(call, model, inputs) -> list[np.ndarray]:
    """Of one step with the penalties, by `call` or what was compiled of it."""
    import torch

    outputs = call(inputs)
    loss = outputs.square().mean() + sum(model.losses)
    weights = [variable.value for variable in model.trainable_variables]
    gradients = torch.autograd.grad(loss, weights)
    return [to_numpy(tensor) for tensor in (outputs, loss, *gradients)]


def in_all(losses) -> float:
    return float(sum(map(to_numpy, losses)))


def check_compiled(layer, rng, counters, sizes=(5, 3)) -> None:
    """Numbers of some batches, without graph breaks or more than two compilations."""
    import torch

    model = model_of(layer)
    compiled = torch.compile(model, backend="eager")
    batches = [batch_for(model, size, rng) for size in sizes]
    found = [outputs_loss_and_gradients(compiled, model, x) for x in batches]
    assert not counters["graph_break"]
    # One for the first size and one for all others.
    assert counters["stats"]["unique_graphs"] == min(len(set(sizes)), 2)
    for numbers, x in zip(found, batches, strict=True):
        expected = outputs_loss_and_gradients(model, model, x)
        for one, other in zip(numbers, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@storages
def test_a_compiled_layer_has_the_same_numbers(halo, rng, counters):
    layer = random_layer(CASES["same_strided"], rng, halo=halo, **STRONG)
    check_compiled(layer, rng, counters, sizes=(5,))


@slow
@in_turn(FEW)
def test_every_kind_of_convolution(name, halo, rng, counters):
    layer = random_layer(CASES[name], rng, halo=halo, **STRONG)
    check_compiled(layer, rng, counters, sizes=(5,))


@pytest.mark.parametrize(
    "name",
    [
        "same_strided",
        *[
            pytest.param(name, marks=slow)
            for name in (
                "circular_strided",
                "causal",
                "explicit",
                "volume_strided",
                "groups",
            )
        ],
    ],
)
def test_dense_layers_too_large_for_one_product(name, rng, counters, monkeypatch):
    monkeypatch.setattr(dense, "SMALL_KERNEL", 0)
    layer = random_layer(CASES[name], rng, **STRONG)
    check_compiled(layer, rng, counters, sizes=(5,))


@slow
@storages
def test_batches_of_many_sizes_are_compiled_twice(halo, rng, counters):
    layer = random_layer(CASES["circular_strided"], rng, halo=halo, **STRONG)
    check_compiled(layer, rng, counters, sizes=(7, 2, 5, 3, 7, 4))


REGULARIZERS = {
    "lasso": ("l1", DistanceWeighted("l1")),
    "huber": (Huber(), DistanceWeighted(Huber())),
    "fused": (FusedTies("l1"), GroupLasso(per="position")),
    "pairs": (PairwiseL1(), None),
    "mixture": (GaussianMixture(), regularizers.L1L2(0.1, 0.2)),
}


@slow
@in_turn(REGULARIZERS)
def test_every_kind_of_regularizer(name, halo, rng, counters):
    ties, off_template = REGULARIZERS[name]
    layer = random_layer(
        CASES["same"],
        rng,
        halo=halo,
        tie_regularizer=ties,
        off_template_regularizer=off_template,
    )
    check_compiled(layer, rng, counters, sizes=(5,))


@slow
@pytest.mark.parametrize(
    "arguments",
    [
        {"penalty_registration": "regularizer"},
        {"data_format": "channels_first"},
        {"dtype": "mixed_bfloat16"},
        {"use_bias": False, "activation": "relu"},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_other_arguments(arguments, rng, counters):
    import torch

    layer = random_layer(SQUARE, rng, halo=1, **STRONG, **arguments)
    model = model_of(layer)
    x = batch_for(model, 4, rng)
    compiled = torch.compile(model, backend="eager")
    found = outputs_loss_and_gradients(compiled, model, x)
    expected = outputs_loss_and_gradients(model, model, x)
    assert not counters["graph_break"]
    for one, other in zip(found, expected, strict=True):
        one, other = one.astype("float32"), other.astype("float32")
        np.testing.assert_allclose(one, other, rtol=2e-2, atol=2e-2)


@slow
@storages
def test_a_frozen_structure(halo, rng, counters):
    layer = random_layer(CASES["same"], rng, halo=halo, **STRONG)
    zeros = rng.integers(2, size=layer.deviations.shape)
    layer.deviations.assign(to_numpy(layer.deviations) * zeros)
    layer.freeze_structure()
    check_compiled(layer, rng, counters)


# Torch says so of the losses of the uncompiled call, when it compiles again after it.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@slow
def test_compiled_and_uncompiled_calls_in_turn_count_once(rng, counters):
    import torch

    layer = random_layer(CASES["same"], rng, halo=1, **STRONG)
    model = model_of(layer)
    compiled = torch.compile(model, backend="eager")
    expected = in_all(layer.penalties().values())
    for call in (model, compiled, compiled, model, compiled):
        call(batch_for(model, 3, rng))
        np.testing.assert_allclose(in_all(model.losses), expected, rtol=1e-5)
    frozen = random_layer(CASES["same"], rng, **STRONG)
    frozen.trainable = False
    model = model_of(frozen)
    torch.compile(model, backend="eager")(batch_for(model, 3, rng))
    assert in_all(model.losses) == 0


@slow
@pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++"))), reason="needs a C++ compiler"
)
@storages
def test_fit_compiled_by_torch_itself(halo, rng):
    x = rng.normal(size=(10, 5, 5, 1)).astype("float32")
    y = rng.normal(size=(10, 5, 5, 2)).astype("float32")
    trained = []
    for jit_compile in (True, False):
        layer = random_layer(CASES["same"], np.random.default_rng(1), halo=halo, **STRONG)
        model = model_of(layer)
        model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=jit_compile)
        # The last batch is smaller.
        losses = model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
        trained.append([*losses.history["loss"], model.evaluate(x, y, verbose=0)])
        trained[-1] += map(to_numpy, layer.trainable_weights)
    for compiled, expected in zip(*trained, strict=True):
        np.testing.assert_allclose(compiled, expected, rtol=1e-4, atol=1e-5)


@storages
def test_a_storage_can_be_copied_and_pickled(halo, rng):
    layer = random_layer(CASES["circular"], rng, halo=halo)
    sharing = layer.weight_sharing
    shared, deviations = to_numpy(layer.shared_kernel), to_numpy(layer.deviations)
    expected = to_numpy(sharing.kernel(shared, deviations))
    for again in (copy.deepcopy(sharing), pickle.loads(pickle.dumps(sharing))):
        np.testing.assert_array_equal(to_numpy(again.kernel(shared, deviations)), expected)
