"""First values of the deviations."""

import keras
import numpy as np
import pytest
from keras.ops import convert_to_numpy as to_numpy
from soft_models import dense_deviations

from keras_softconv import SoftConv2D


def initial(initializer, halo, **arguments):
    layer = SoftConv2D(8, 3, deviation_initializer=initializer, halo=halo, **arguments)
    layer.build((None, 20, 20, 4))
    return layer, to_numpy(layer.deviations)


@pytest.mark.parametrize("halo", [None, 0, 2])
@pytest.mark.parametrize(
    ("mode", "fan"),
    [
        ("fan_in", lambda mask: mask.sum() / (20 * 20 * 8)),
        ("fan_out", lambda mask: mask.sum() / (20 * 20 * 4)),
        ("fan_avg", lambda mask: mask.sum() / (20 * 20) * (1 / 8 + 1 / 4) / 2),
    ],
)
def test_variance_is_that_of_the_weights_that_there_are(mode, fan, halo):
    initializer = keras.initializers.VarianceScaling(2.0, mode, "untruncated_normal")
    layer, _ = initial(initializer, halo, padding="same")
    kernel = dense_deviations(layer)
    mask = dense_deviations(initial("ones", halo, padding="same")[0]) != 0
    assert not kernel[~mask].any()
    assert mask.sum() == layer.weight_sharing.geometry.size
    np.testing.assert_allclose(kernel[mask].var(), 2.0 / fan(mask), rtol=0.02)


def test_void_weights_start_at_zero():
    layer, deviations = initial("ones", 1, padding="same")
    assert deviations.sum() == layer.weight_sharing.geometry.size < deviations.size
    assert set(np.unique(deviations)) == {0, 1}


def test_positions_are_drawn_apart():
    _, deviations = initial(keras.initializers.GlorotUniform(seed=1), 0)
    assert len(np.unique(deviations)) > 0.99 * deviations.size
