"""The index arithmetic against real convolutions of one-hot images."""

import numpy as np
import pytest
from backends import at_once
from conv_cases import CASES_2D, random_cases
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from keras.ops import convert_to_numpy as to_numpy
from oracle import family_ids, geometry_of, within_halo
from soft_models import placed

from keras_softconv.geometry import VOID, Geometry, axis_inputs, axis_pads, axis_window
from keras_softconv.weight_sharing import DenseWeightSharing, weight_sharing_of


def check_against_oracle(case) -> None:
    geometry = geometry_of(case)
    expected = family_ids(case)
    assert geometry.kernel_shape == expected.shape
    ids = DenseWeightSharing(geometry).family_ids()
    np.testing.assert_array_equal(ids, expected)
    if geometry.padding == "circular":
        # Where nothing wraps, it is Keras's own 'same'.
        same = family_ids((*case[:3], case[3] | {"padding": "same"}))
        np.testing.assert_array_equal(ids[same >= 0], same[same >= 0])
    assert geometry.template_size == (expected >= 0).sum()
    sizes = np.bincount(expected[expected >= 0], minlength=ids.max() + 1)
    counts = np.broadcast_to(
        geometry.member_counts[..., None, None], geometry.shared_kernel_shape
    ).ravel()
    np.testing.assert_array_equal(counts[: len(sizes)], sizes)
    assert not counts[len(sizes) :].any()


@pytest.mark.parametrize("case", CASES_2D.values(), ids=CASES_2D.keys())
def test_family_ids_are_those_of_a_real_convolution(case):
    check_against_oracle(case)


@pytest.mark.random
@given(random_cases())
def test_family_ids_of_random_convolutions_in_one_to_three_dimensions(case):
    check_against_oracle(case)


@pytest.mark.random
@given(random_cases(), st.integers(0, 3))
def test_random_halos_in_one_to_three_dimensions(case, halo):
    geometry = geometry_of(case, halo)
    sharing = weight_sharing_of(geometry)
    kept = within_halo(case, halo)
    assert (geometry.windows is None) == kept.all()
    numbers = np.arange(1, np.prod(geometry.deviations_shape) + 1, dtype="float32")
    numbers = numbers.reshape(geometry.deviations_shape)
    kernel = placed(sharing, numbers)
    np.testing.assert_array_equal(kernel != 0, kept)
    assert len(np.unique(kernel[kept])) == kept.sum() == geometry.size
    # One-hot images fetch the kernel row by row, the other way round.
    size = int(np.prod(geometry.input_grid)) * geometry.in_channels
    images = np.eye(size, dtype="float32")
    images = images.reshape(size, *geometry.input_grid, geometry.in_channels)
    shape = geometry.shared_kernel_shape
    outputs = at_once(sharing.product)(images, np.zeros(shape, "float32"), numbers)
    outputs = to_numpy(outputs).reshape(kernel.shape)
    np.testing.assert_allclose(outputs, kernel, rtol=1e-6)
    family_numbers = 1 + np.arange(np.prod(shape), dtype="float32").reshape(shape)
    convolution = at_once(sharing.kernel)(family_numbers, ops.zeros_like(numbers))
    np.testing.assert_array_equal(np.rint(to_numpy(convolution)) - 1, family_ids(case))


def test_window_of_one_axis_by_hand():
    window = axis_window(3, 2, 1, 1, "same", halo=1)
    assert slots_of(window).tolist() == [
        [VOID, 0, 1, 2], [0, 1, 2, VOID], [1, 2, VOID, VOID]
    ]  # fmt: skip
    assert window.tap_slots.tolist() == [1, 2]
    assert (window.pairs, window.has_void, window.reaches_all) == (8, True, False)
    # What lies between the taps of a dilated kernel is within the halo, or not.
    window = axis_window(7, 2, 1, 4, "valid", halo=0)
    assert slots_of(window).tolist() == [[0, 4], [1, 5], [2, 6]]
    assert (window.pairs, window.has_void, window.reaches_all) == (6, False, False)
    assert slots_of(axis_window(7, 2, 1, 4, "valid", halo=1)).tolist() == [
        [VOID, 0, 1, 3, 4, 5], [0, 1, 2, 4, 5, 6], [1, 2, 3, 5, 6, VOID]
    ]  # fmt: skip
    # A ring has each input once, however far the halo reaches.
    window = axis_window(5, 3, 1, 1, "circular", halo=9)
    inputs = slots_of(window)
    assert np.sort(inputs).tolist() == [[0, 1, 2, 3, 4]] * 5
    seen = inputs[:, window.tap_slots].tolist()
    assert seen == axis_inputs(5, 3, 1, 1, "circular").tolist()
    assert (window.pairs, window.has_void, window.reaches_all) == (25, False, True)


def slots_of(window) -> np.ndarray:
    """The input in each slot (column) of each output (row)."""
    inputs = np.add.outer(window.first_taps, window.steps)
    if window.wraps:
        return inputs % window.size
    return np.where((inputs >= 0) & (inputs < window.size), inputs, VOID)


def test_halo_of_any_size_costs_no_more_slots_than_there_are_steps():
    window = axis_window(9, 3, 1, 1, "same", halo=10**9)
    assert slots_of(window).shape == (9, 17)
    assert (window.pairs, window.has_void, window.reaches_all) == (81, True, True)


def test_strides_and_dilation_together_skip_outputs_of_the_dilated_convolution():
    # Keras refuses the pair, but the arithmetic has no reason to.
    for rows in range(5, 9):
        every = axis_inputs(rows, taps=3, stride=1, dilation=2, padding=(2, 1))
        third = axis_inputs(rows, taps=3, stride=3, dilation=2, padding=(2, 1))
        np.testing.assert_array_equal(third, every[::3])


def test_same_padding_on_one_axis_by_hand():
    assert axis_inputs(3, 2, 1, 1, "same").tolist() == [[0, 1], [1, 2], [2, VOID]]
    assert axis_pads(6, 3, 2, 1, "same") == (0, 1)
    assert axis_pads(5, 3, 2, 1, "same") == (1, 1)


def test_circular_padding_wraps_and_has_no_void():
    assert axis_inputs(4, 3, 1, 1, "circular").tolist() == [
        [3, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 0]
    ]  # fmt: skip


def test_a_window_wholly_in_the_padding_has_no_members():
    inputs = axis_inputs(2, 2, 1, 1, (3, 0))
    assert inputs.tolist() == [[VOID, VOID], [VOID, VOID], [VOID, 0], [0, 1]]


@pytest.mark.parametrize("padding", ["valid", ((1, 0), (0, 1))])
def test_no_output_is_an_error(padding):
    message = (
        r"Computed output size would be zero or negative. Received `inputs shape="
        r"\(None, 3, 3, 1\)`, `kernel shape=\(5, 5, 1, 2\)`.*Use a smaller kernel"
    )
    with pytest.raises(ValueError, match=message):
        Geometry((3, 3), (5, 5), (1, 1), (1, 1), padding, 1, 2)


def test_a_circular_kernel_may_not_meet_itself():
    message = r"may not be larger than the input.*spans \(3, 5\) steps.*Use a smaller"
    with pytest.raises(ValueError, match=message):
        Geometry((4, 4), (3, 3), (1, 1), (1, 2), "circular", 1, 1)
