"""Laws of the maps between shared and dense kernels, each over all cases, in both
storages."""

from functools import partial

import numpy as np
import oracle
import pytest
from backends import at_once
from covering import each_case
from keras import ops
from keras.ops import convert_to_numpy as to_numpy
from soft_models import dense_form, placed

from keras_softconv.weight_sharing import (
    ABSOLUTE,
    SQUARE,
    DenseWeightSharing,
    HaloWeightSharing,
    weight_sharing_of,
)

pytestmark = each_case(None, 0, 1)


@pytest.fixture
def sharing(case, halo):
    return weight_sharing_of(oracle.geometry_of(case, halo))


@pytest.fixture
def deviations(sharing, rng):
    # Noise in void entries too, which must make no difference.
    return rng.normal(size=sharing.geometry.deviations_shape).astype("float32")


@pytest.fixture
def shared(sharing, rng):
    shape = sharing.geometry.shared_kernel_shape
    return rng.normal(size=shape).astype("float32")


def expand(sharing, shared):
    no_deviations = ops.zeros(sharing.geometry.deviations_shape)
    shared = ops.convert_to_tensor(shared)
    return to_numpy(at_once(sharing.kernel)(shared, no_deviations))


def test_expansion_is_the_dense_kernel_of_the_convolution(case, sharing, shared):
    np.testing.assert_array_equal(
        expand(sharing, shared), oracle.dense_kernel(case, shared)
    )


def test_each_weight_has_a_place_of_its_own_and_is_within_the_halo(case, halo, sharing):
    geometry = sharing.geometry
    numbers = np.arange(1, np.prod(geometry.deviations_shape) + 1, dtype="float32")
    found = placed(sharing, numbers.reshape(geometry.deviations_shape))
    kept = np.ones(found.shape, bool) if halo is None else oracle.within_halo(case, halo)
    np.testing.assert_array_equal(found != 0, kept)
    assert len(np.unique(found[kept])) == kept.sum() == geometry.size
    assert isinstance(sharing, DenseWeightSharing if kept.all() else HaloWeightSharing)


def test_a_kernel_without_a_shared_one_is_the_dense_form(sharing, deviations):
    np.testing.assert_array_equal(
        placed(sharing, deviations), dense_form(sharing, deviations)
    )


def test_without_void_keeps_exactly_the_weights(sharing, deviations):
    weights = to_numpy(at_once(sharing.without_void)(deviations))
    assert weights.shape == deviations.shape
    assert (weights != 0).sum() == sharing.geometry.size
    np.testing.assert_array_equal(weights[weights != 0], deviations[weights != 0])
    np.testing.assert_array_equal(
        dense_form(sharing, weights), dense_form(sharing, deviations)
    )


def test_projection_gives_family_means(case, sharing, deviations):
    ids, kernel = oracle.family_ids(case), dense_form(sharing, deviations)
    projected = to_numpy(
        at_once(lambda x: sharing.means(sharing.template(x)))(deviations)
    ).ravel()
    for family in range(projected.size):
        members = kernel[ids == family].astype("float64")
        mean = members.mean() if members.size else 0.0
        np.testing.assert_allclose(projected[family], mean, rtol=1e-5, atol=1e-6)


def test_members_and_copies_belong_together(sharing, shared, deviations):
    # A member is what its family's entry of the shared kernel would be copied to.
    copies = to_numpy(at_once(sharing.copies)(shared))
    members = to_numpy(at_once(sharing.members)(deviations))
    assert copies.shape == members.shape
    np.testing.assert_allclose(
        np.sum(copies.astype("float64") * members),
        np.sum(expand(sharing, shared) * dense_form(sharing, deviations), dtype="float64"),
        rtol=1e-4,
        atol=1e-4,
    )
    template_size = sharing.geometry.template_size
    assert (copies != 0).sum() == (members != 0).sum() == template_size


def test_template_holds_the_members_of_each_family_and_zeros(case, sharing, deviations):
    ids, kernel = oracle.family_ids(case), dense_form(sharing, deviations)
    template = to_numpy(at_once(sharing.template)(deviations))
    grid = sharing.geometry.output_grid
    assert template.shape == (*grid, np.prod(sharing.geometry.shared_kernel_shape))
    # By position and family: an output channel's weights lie where its filter is.
    expected = np.zeros_like(template)
    rank = len(grid)
    for index in np.argwhere(ids >= 0):
        position = tuple(index[rank + 1 : 2 * rank + 1])
        expected[(*position, ids[tuple(index)])] = kernel[tuple(index)]
    np.testing.assert_array_equal(template, expected)


def test_off_template_is_the_kernel_without_its_template(case, sharing, deviations):
    expected = np.where(oracle.family_ids(case) < 0, dense_form(sharing, deviations), 0)
    off_template = to_numpy(at_once(sharing.off_template)(deviations))
    np.testing.assert_array_equal(dense_form(sharing, off_template), expected)
    assert (off_template != 0).sum() == (expected != 0).sum()


def test_partition_sums_divide_the_whole(case, sharing, deviations):
    on_template = oracle.family_ids(case) >= 0
    weights = dense_form(sharing, deviations).astype("float64")
    for power, elementwise in ((SQUARE, np.square), (ABSOLUTE, np.abs)):
        terms = elementwise(weights)
        sums = at_once(partial(sharing.partition_sums, power))(deviations)
        for total, part in zip(sums, (on_template, ~on_template), strict=True):
            np.testing.assert_allclose(to_numpy(total), terms[part].sum(), rtol=1e-5)
        total = at_once(partial(sharing.template_sum, power))(deviations)
        np.testing.assert_allclose(to_numpy(total), terms[on_template].sum(), rtol=1e-5)


def test_product_is_that_of_the_dense_kernel(case, sharing, shared, deviations, rng):
    geometry = sharing.geometry
    x = rng.normal(size=(3, *geometry.input_grid, geometry.in_channels))
    dense = oracle.dense_kernel(case, shared).astype("float64")
    dense = dense + dense_form(sharing, deviations)
    outputs = at_once(sharing.product)(x.astype("float32"), shared, deviations)
    np.testing.assert_allclose(
        to_numpy(outputs).reshape(3, -1),
        x.reshape(3, -1) @ dense.reshape(x[0].size, -1),
        rtol=1e-4,
        atol=2e-5,
    )
