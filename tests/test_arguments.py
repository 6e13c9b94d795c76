"""Bad input: each message says what came, what was expected and how to mend it."""

import keras
import numpy as np
import pytest
from backends import KERAS_2

from keras_softconv import SoftConv2D

VALID = {"filters": 2, "kernel_size": 3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filters": 0}, r"argument `filters`.*positive value. Received filters=0"),
        ({"filters": 2.0}, r"`filters`.*Received filters=2.0.*integer of at least 1"),
        ({"filters": True}, r"`filters`.*Received filters=True"),
        ({"kernel_size": (1, 0)}, r"`kernel_size` argument must be a tuple of 2 integers."
         r" Received kernel_size=\(1, 0\), including values \{0\} that do not satisfy "
         r"`value > 0`. Make every entry at least 1"),
        ({"kernel_size": (1, 2, 3)}, r"`kernel_size`.*Received: kernel_size=\(1, 2, 3\)"
         r". Give one positive integer, or 2 of them"),
        ({"kernel_size": 1.5}, r"`kernel_size`.*Received: kernel_size=1.5"),
        ({"kernel_size": b"33"}, r"`kernel_size`.*Received: kernel_size=b'33'"),
        ({"kernel_size": np.array([3, 3])}, r"`kernel_size`.*Received: kernel_size=arr"),
        ({"kernel_size": "3"}, r"`kernel_size`.*Received: kernel_size='3'"),
        ({"strides": (1, 0)}, r"`strides`.*Received strides=\(1, 0\), including"),
        ({"strides": None}, r"`strides`.*Received: strides=None"),
        ({"dilation_rate": -1}, r"`dilation_rate`.*Received dilation_rate=\(-1, -1\)"),
        ({"strides": 2, "dilation_rate": (2, 1)}, r"`strides > 1` not supported in "
         r"conjunction with `dilation_rate > 1`. Received: strides=\(2, 2\) and "
         r"dilation_rate=\(2, 1\). .* set one of the two to 1"),
        ({"groups": 0}, r"number of groups must be a positive integer. Received: "
         r"groups=0. Use `groups=1`"),
        ({"groups": "a"}, r"number of groups.*Received: groups='a'"),
        ({"filters": 5, "groups": 2}, r"filters must be evenly divisible by the number "
         r"of groups. Received: groups=2, filters=5. Change one"),
        ({"padding": "causal"}, r"`padding` argument.*'circular'.*Received: "
         r"padding='causal'. For example"),
        ({"padding": -1}, r"`padding` argument.*Received: padding=-1"),
        ({"padding": (1, 2, 3)}, r"pair per axis \(2 here\). Received: padding=\(1, 2, "),
        ({"padding": ((1, 2), (3, -4))}, r"`padding`.*Received: padding=\(\(1, 2\), \(3"),
        ({"padding": None}, r"`padding` argument.*Received: padding=None"),
        ({"padding": 1.5}, r"`padding` argument.*Received: padding=1.5"),
        ({"data_format": "x"}, r"`data_format` argument.*Received: data_format='x'. "
         r"Leave it out"),
        ({"halo": -1}, r"`halo`.* must be None or an integer of at least 0.* Received: "
         r"halo=-1. Use `halo=0`"),
        ({"halo": 1.5}, r"`halo`.*Received: halo=1.5"),
        ({"halo": (1, 1)}, r"`halo`.*Received: halo=\(1, 1\)"),
        ({"halo": True}, r"`halo`.*Received: halo=True"),
        ({"penalty_registration": "both"}, r"`penalty_registration` must be one of.*"
         r"Received: penalty_registration='both'. Keep 'add_loss'"),
        ({"penalty_registration": np.ones(2)}, r"`penalty_registration` must be one of"),
        ({"tie_regularizer": "nonsense"}, r"regularizer identifier: nonsense"),
    ],
)  # fmt: skip
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SoftConv2D(**VALID | arguments)


def test_unknown_arguments_are_refused_by_keras():
    message = r"Unrecognized keyword arguments passed to SoftConv2D: \{'foo': 1\}|'foo'"
    with pytest.raises(TypeError if KERAS_2 else ValueError, match=message):
        SoftConv2D(**VALID, foo=1)


@pytest.mark.parametrize(
    ("arguments", "input_shape", "message"),
    [
        ({}, (None, None, 8, 1), r"should be fully-defined.*received the inputs shape "
         r"\(None, None, 8, 1\). Give the sizes"),
        ({}, (None, 8, 8, None), r"channels.*should be fully-defined.*\(None, 8, 8, None"),
        ({}, (None, 8, 8), r"incompatible with the layer: expected shape=\(None, None, "
         r"None, None\) \(channels_last\), found shape=\(None, 8, 8\). Give one .* "
         r"`inputs\[..., None\]`"),
        ({}, None, r"found shape=None. Give one batch"),
        ({}, 3, r"found shape=3. Give one batch"),
        ({}, "abcd", r"found shape=abcd. Give one batch"),
        ({}, (None, 8.0, 8, 1), r"found shape=\(None, 8.0, 8, 1\). Give one batch"),
        ({}, (None, 0, 8, 1), r"found shape=\(None, 0, 8, 1\).*none of them empty"),
        ({}, (None, 8, 8, 0), r"found shape=\(None, 8, 8, 0\).*none of them empty"),
        ({"groups": 2}, (None, 8, 8, 3), r"input channels must be evenly divisible by "
         r"the number of groups. Received groups=2, but the input has 3 channels \(full "
         r"input shape is \(None, 8, 8, 3\)\). Choose"),
        ({"kernel_size": 9}, (None, 8, 8, 1), r"output size would be zero or negative. "
         r"Received `inputs shape=\(None, 8, 8, 1\)`, `kernel shape=\(9, 9, 1, 2\)`.*Use"),
        ({"padding": "circular", "kernel_size": 9}, (None, 8, 8, 1),
         r"`padding='circular'`.*spans \(9, 9\) steps on an input of \(8, 8\).*smaller"),
    ],
)  # fmt: skip
def test_bad_input_shapes(arguments, input_shape, message):
    layer = SoftConv2D(**VALID | arguments)
    with pytest.raises(ValueError, match=message):
        layer.build(input_shape)
    assert not layer.weights


def test_the_wrong_size_after_building():
    layer = SoftConv2D(**VALID, name="soft")
    layer.build((None, 8, 8, 1))
    message = (
        r"'soft' is incompatible with the layer: expected shape=\(None, 8, 8, 1\) "
        r"\(channels_last\), found shape=\(4, 9, 8, 1\).*or make a new layer"
    )
    with pytest.raises(ValueError, match=message):
        layer(np.zeros((4, 9, 8, 1)))
    with pytest.raises(ValueError, match=r"found shape=\(None, 8, 8, 2\)"):
        layer(keras.Input((8, 8, 2)))
    with pytest.raises(ValueError, match=r"found shape=\(\)"):
        layer({"image": np.zeros((4, 8, 8, 1))})


@pytest.mark.parametrize(
    "access",
    [
        lambda layer: layer.kernel,
        lambda layer: layer.bias,
        SoftConv2D.family_ids,
        SoftConv2D.template_mask,
        SoftConv2D.family_means,
        SoftConv2D.penalties,
    ],
)
def test_what_an_unbuilt_layer_cannot_tell(access):
    message = r"must build the layer before.*Received: an unbuilt SoftConv2D.*build\("
    with pytest.raises(ValueError, match=message):
        access(SoftConv2D(1, 2))
