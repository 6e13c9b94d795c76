"""What a layer takes is told before it is taken."""

import re

import keras
import numpy as np
import pytest
from backends import not_on_keras_2

from keras_softconv import SoftConv2D, memory
from keras_softconv.geometry import Geometry

GB = 10**9


def machine_of(monkeypatch, gigabytes):
    monkeypatch.setattr(memory, "machine_memory", lambda: gigabytes * GB)


def geometry_of(side, channels, filters, halo=None) -> Geometry:
    return Geometry(
        (side, side), (3, 3), (1, 1), (1, 1), "same", channels, filters, 1, halo
    )


def test_memory_of_this_machine(tmp_path, monkeypatch):
    known = memory.machine_memory()
    assert known is None or known > 2**27
    # A container with less.
    limit = tmp_path / "memory.max"
    limit.write_text("1234567\n")
    monkeypatch.setattr(memory, "CGROUP_LIMITS", (tmp_path / "missing", limit))
    assert memory.machine_memory() in (None, 1234567)
    limit.write_text("max\n")
    assert memory.machine_memory() in (None, known) or known < memory.machine_memory()
    monkeypatch.delattr(memory.os, "sysconf", raising=False)
    assert memory.machine_memory() is None


def test_too_large_for_the_machine_is_refused_before_allocating(monkeypatch):
    machine_of(monkeypatch, 16)
    # 64 * 64 * 16 inputs, 64 * 64 * 7 outputs, 16 bytes for each weight.
    message = (
        r"The dense kernel of SoftConv2D 'soft' has 1,879,048,192 weights of shape "
        r"\(64, 64, 16, 64, 64, 7\): with gradient and Adam's two slots 30.1 GB in "
        r"float32, of the 16 GB of this machine, before any batch. A smaller `halo` "
        r"stores less: `halo=(\d+)`, with (.*) GB, leaves room for all else; "
        r"`halo=(\d+)`, with (.*) GB, is the largest that fits."
    )
    layer = SoftConv2D(7, 3, padding="same", name="soft")
    with pytest.raises(ValueError, match=message) as raised:
        layer.build((None, 64, 64, 16))
    assert not layer.weights
    numbers = re.search(message, str(raised.value)).groups()
    for halo, gigabytes, limit in zip(numbers[::2], numbers[1::2], (4, 16), strict=True):
        for steps, fits in ((int(halo), True), (int(halo) + 1, False)):
            taken = 16 * np.prod(geometry_of(64, 16, 7, steps).deviations_shape)
            assert (taken <= limit * GB) == fits
            assert not fits or float(gigabytes) == pytest.approx(taken / GB, rel=5e-3)


def test_the_halo_that_leaves_room_is_built_without_a_warning(monkeypatch):
    machine_of(monkeypatch, 0.01)
    with pytest.raises(ValueError, match=r"`halo=3`, with 0.00233 GB, leaves room"):
        SoftConv2D(2, 3, padding="same").build((None, 30, 30, 1))
    SoftConv2D(2, 3, padding="same", halo=3).build((None, 30, 30, 1))


def test_where_not_even_a_halo_of_zero_fits(monkeypatch):
    machine_of(monkeypatch, 0.5)
    layer = SoftConv2D(64, 3, padding="same", halo=1, name="soft")
    # Windows of 5 * 5 * 8 at 112 * 112 positions of 64 filters; of 3 * 3 * 8 without halo.
    message = (
        r"The halo=1 kernel of SoftConv2D 'soft' has 160,563,200 weights of shape "
        r"\(112, 112, 200, 64\).* 2.57 GB in float32, of the 0.5 GB of this machine.*"
        r"Even `halo=0`, with 0.925 GB, would not fit. To make it smaller, shrink the"
    )
    with pytest.raises(ValueError, match=message):
        layer.build((None, 112, 112, 8))
    with pytest.raises(ValueError, match=r"before any batch. To make it smaller, shrink"):
        SoftConv2D(64, 3, padding="same", halo=0).build((None, 112, 112, 8))


def test_more_than_a_quarter_is_built_with_a_warning(monkeypatch):
    machine_of(monkeypatch, 0.001)
    layer = SoftConv2D(2, 3, padding="same", name="soft")
    message = (
        r"dense kernel of SoftConv2D 'soft' has 20,000 weights.* 0.00032 GB in float32.*"
        r"`halo=2`, with 0.000157 GB, leaves"
    )
    with pytest.warns(UserWarning, match=message):
        layer.build((None, 10, 10, 1))
    assert layer.built
    # Half the bytes, and just below a quarter: no warning.
    SoftConv2D(2, 3, padding="same", dtype="float16").build((None, 10, 10, 1))
    # Where the largest below the dense kernel leaves room, and where none does.
    machine_of(monkeypatch, 0.0012)
    with pytest.warns(UserWarning, match=r"less: `halo=3`, [^;]* leaves room for all else"):
        SoftConv2D(2, 3, padding="same").build((None, 10, 10, 1))
    machine_of(monkeypatch, 0.0001)
    with pytest.raises(ValueError, match=r"`halo=1`, .* fits, but to leave room, shrink"):
        SoftConv2D(2, 3, padding="same").build((None, 10, 10, 1))


def test_a_layer_with_a_halo_is_told_of_smaller_ones_only(monkeypatch):
    machine_of(monkeypatch, 0.0001)
    for halo in (0, 1):  # 0.000029 and 0.00008 GB: none leaves room
        with pytest.warns(UserWarning, match=rf"halo={halo} kernel .*batch. To [^`]*$"):
            SoftConv2D(2, 3, padding="same", halo=halo).build((None, 10, 10, 1))
    machine_of(monkeypatch, 0.001)
    with pytest.warns(UserWarning, match=r"halo=3 kernel .* less: `halo=1`, .* room .*e.$"):
        SoftConv2D(2, 3, padding="same", halo=3).build((None, 14, 14, 1))


def test_a_long_signal_is_refused_before_anything_is_allocated(monkeypatch):
    machine_of(monkeypatch, 16)
    layer = SoftConv2D(16, (1, 3), padding="same")
    with pytest.raises(ValueError, match=r"`halo=1951`, with 16 GB, is the largest"):
        layer.build((None, 1, 16000, 1))


def test_weights_that_are_not_trained_take_less(monkeypatch):
    machine_of(monkeypatch, 0.0002)
    frozen = {"padding": "same", "trainable": False, "name": "soft"}
    with pytest.warns(UserWarning, match=r"\(10, 10, 1, 10, 10, 2\): 8e-05 GB in float32"):
        SoftConv2D(2, 3, **frozen).build((None, 10, 10, 1))
    with pytest.raises(ValueError, match=r"Adam's two slots 0.00032 GB"):
        SoftConv2D(2, 3, **frozen | {"trainable": True}).build((None, 10, 10, 1))


@pytest.mark.filterwarnings("ignore:.*has 20,000 weights")
def test_a_saved_model_is_loaded_whatever_training_it_would_take(monkeypatch, tmp_path):
    layer = SoftConv2D(2, 3, padding="same", name="soft")
    keras.Sequential([keras.Input((10, 10, 1)), layer]).save(tmp_path / "model.keras")
    machine_of(monkeypatch, 0.0002)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.predict(np.zeros((1, 10, 10, 1)), verbose=0).shape == (1, 10, 10, 2)


def test_a_halo_that_stores_more_than_the_dense_kernel_is_told_so(monkeypatch):
    machine_of(monkeypatch, 0.97)
    layer = SoftConv2D(16, 3, padding="same", halo=20)
    message = r"halo=20 kernel .* stores more than the dense .* 0.805 GB: leave `halo` out"
    with pytest.raises(ValueError, match=message):
        layer.build((None, 32, 32, 3))


@not_on_keras_2("has no way to spread them")
def test_weights_spread_over_devices_are_not_refused(monkeypatch):
    machine_of(monkeypatch, 0.0001)
    over_devices = object.__new__(keras.distribution.ModelParallel)
    monkeypatch.setattr(keras.distribution, "distribution", lambda: over_devices)
    with pytest.warns(UserWarning, match=r"20,000 weights"):
        SoftConv2D(2, 3, padding="same").build((None, 10, 10, 1))


def test_a_dense_kernel_beyond_the_index_range_is_refused_on_any_machine(monkeypatch):
    layer = SoftConv2D(64, 3, padding="same")
    for size, remedy in ((100, "halo=11`, with 96.3 GB"), (None, "halo=5`, with 26 GB")):
        message = (
            r"483,385,147,392 weights.* 7,734 GB.* at most 2,147,483,647 weights.*" + remedy
        )
        monkeypatch.setattr(memory, "machine_memory", lambda size=size: size and size * GB)
        with pytest.raises(ValueError, match=message):
            layer.build((None, 224, 224, 3))


def test_a_dense_form_beyond_the_index_range_is_refused_on_any_machine(monkeypatch):
    machine_of(monkeypatch, 1000)
    layer = SoftConv2D(1, 3, padding="same", halo=0)
    layer.build((None, 300, 300, 1))
    with pytest.raises(ValueError, match=r"8,100,000,000 entries.*at most 2,147,483,647"):
        _ = layer.kernel


def test_a_dense_form_that_does_not_fit_is_refused(monkeypatch):
    layer = SoftConv2D(2, 3, padding="same", halo=0, name="soft")
    layer.build((None, 20, 20, 1))
    assert layer.kernel.shape == (20, 20, 1, 20, 20, 2)
    machine_of(monkeypatch, 0.001)
    message = (
        r"dense form of the kernel of SoftConv2D 'soft'.*\(20, 20, 1, 20, 20, 2\) has "
        r"320,000 entries, 0.00128 GB.*Look at `layer.deviations` and"
    )
    for access in (lambda: layer.kernel, layer.family_ids, layer.template_mask):
        with pytest.raises(ValueError, match=message):
            access()
    assert layer.family_means().shape == (3, 3, 1, 2)
