"""The draws, networks and tables of experiments/classification.py and classifiers.py."""

import keras
import numpy as np
import pytest


@pytest.fixture
def networks(scripts):
    """The script with the networks."""
    return scripts("classification")


def test_draws_have_no_digit_twice(networks):
    for examples, validation in ((100, 50), (300, 75), (1000, 200)):
        task = networks.Task(examples)
        draw, other, same = (networks.Draw(task, seed) for seed in (0, 1, 0))
        parts = draw.train, draw.validation, draw.test
        assert [len(images) for images, _ in parts] == [examples, validation, 597]
        images = {image.tobytes() for part, _ in parts for image in part}
        assert len(images) == examples + validation + 597
        np.testing.assert_array_equal(draw.test[0], other.test[0])
        np.testing.assert_array_equal(draw.train[0], same.train[0])
        np.testing.assert_array_equal(draw.batches[1], same.batches[1])
        assert not np.array_equal(draw.train[0], other.train[0])


def test_every_epoch_shows_every_training_image(networks):
    draw = networks.Draw(networks.Task(300), 0)
    epochs = [draw.batches[0][begin : begin + 3] for begin in (0, 3)]
    shown = [epoch.reshape(300, -1) for epoch in epochs]
    for images in shown:
        np.testing.assert_array_equal(
            np.unique(images, axis=0), np.unique(draw.train[0].reshape(300, -1), axis=0)
        )
    assert not np.array_equal(*shown)


def test_all_seeds_have_one_permutation_which_its_inverse_undoes(networks):
    back = np.argsort(networks.permutation())
    for seed in (0, 1):
        intact, permuted = (
            networks.Draw(networks.Task(100, permuted=permuted), seed)
            for permuted in (False, True)
        )
        for name in ("train", "validation", "test"):
            images, classes = getattr(permuted, name)
            expected, expected_classes = getattr(intact, name)
            assert not np.array_equal(images, expected)
            np.testing.assert_array_equal(networks.permute(images, back), expected)
            np.testing.assert_array_equal(classes, expected_classes)


def test_without_sharing_a_soft_convolution_is_dense_with_weight_decay(networks):
    draw = networks.Draw(networks.Task(100), 0)
    soft, dense = (
        networks.Network(hidden, rounds=1)
        for hidden in (networks.without_sharing(halo=None), networks.dense)
    )
    soft.begin(0)
    layer = soft.model.layers[0]
    layer.shared_bias.assign(np.linspace(-0.1, 0.1, 8))
    assert not keras.ops.any(layer.shared_kernel)
    kernel = keras.ops.reshape(layer.kernel, (64, 512))
    bias = keras.ops.reshape(layer.bias, (512,))
    readout = soft.model.layers[-1].get_weights()
    dense.model.set_weights([kernel, bias, *readout])
    for network in (soft, dense):
        network.set_strengths((2.0,), examples=100)
    losses = [network.model.evaluate(*draw.train, verbose=0) for network in (soft, dense)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    entropy = losses[1][1]
    by_keras = keras.regularizers.L2(2.0 / 100)(kernel)
    by_keras += keras.regularizers.L2(networks.READOUT_DECAY / 100)(readout[0])
    np.testing.assert_allclose(losses[1][0] - entropy, by_keras, rtol=1e-4)
    soft.train(draw, (2.0,))
    assert not keras.ops.any(layer.shared_kernel)


@pytest.mark.parametrize("pooled", [False, True])
def test_released_a_convolution_predicts_what_it_did(pooled, networks, scripts, rng):
    images = networks.digits()[0][:10]
    convolution, soft = (
        networks.Network(hidden, pooled, rounds=1)
        for hidden in (networks.convolution, networks.soft())
    )
    weights = convolution.model.get_weights()
    weights = [rng.normal(size=weight.shape) for weight in weights]
    convolution.model.set_weights(weights)
    layer = soft.model.layers[0]
    layer.deviations.assign(rng.normal(size=layer.deviations.shape))
    scripts("training").release(weights, soft.model)
    np.testing.assert_allclose(
        soft.model.predict_on_batch(images),
        convolution.model.predict_on_batch(images),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.slow
def test_every_fit_begins_anew(networks, scripts):
    classifiers = scripts("classifiers")
    draw, other = (networks.Draw(networks.Task(100), seed) for seed in (0, 1))
    grids = classifiers.Grids((0.1,), ((0.1, 1.0),))
    methods = {
        method.name: method
        for method in classifiers.compared(grids, pooled=False, quick=True)
    }
    assert list(methods)[:4] == list(classifiers.BASELINES)
    soft = methods[classifiers.SOFT]
    (first,) = soft.fits(draw)
    assert first["setting"] == (0.1, 1.0)
    assert first["error"] < 40
    weights = soft.best_weights(draw)
    (of_other,) = soft.fits(other)
    assert of_other["validation"] != first["validation"]
    released = methods[classifiers.RELEASED_TIED].fits(draw)
    assert released[0]["validation"] != first["validation"]
    assert soft.fits(draw) == [first]
    for weight, again in zip(weights, soft.best_weights(draw), strict=True):
        np.testing.assert_array_equal(weight, again)
    methods[classifiers.RELEASED].fits(draw)  # of the same network
    methods[classifiers.CONVOLUTION].fits(other)
    assert methods[classifiers.RELEASED_TIED].fits(draw) == released


def test_table(scripts):
    classifiers = scripts("classifiers")

    def seeds(*numbers):
        return [[{"validation": number, "error": number}] for number in numbers]

    found = {"task": {"A": seeds(6.0, 7.0, 8.0), "B": seeds(5.0, 6.1, 6.9)}}
    item = classifiers.minus
    differences = dict([item("B", "A"), item("A", "B"), item("any", "B", ("A", "B"))])
    table = classifiers.table(found, differences, {"any": ("A", "B")}, {"told": ["yes"]})
    assert table.splitlines()[2:] == [
        "| A | 7.00 ± 0.58 |",
        "| B | 6.00 ± 0.55 |",
        "| any | 6.00 ± 0.55 |",
        "| B minus A | **-1.00 ± 0.06** |",
        "| A minus B | **1.00 ± 0.06** |",
        "| any minus B | 0.00 ± 0.00 |",
        "| told | yes |",
    ]
    assert not classifiers.is_beyond_noise(np.array([-1.0, 0.2, -0.6]))
    verdict = scripts("permuted_pixels").is_within_one_error
    assert verdict(np.array([0.5, -0.4, 0.3, 0.0]))
    assert not verdict(np.array([0.5, 0.4, 0.3, 0.0]))
