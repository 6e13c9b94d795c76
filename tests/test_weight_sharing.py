"""Laws of the maps between shared and dense kernels, each over all cases."""

import numpy as np
import oracle
import pytest
from keras import ops
from keras.ops import convert_to_numpy as to_numpy
from soft_models import each_case

from keras_softconv.weight_sharing import DenseWeightSharing

pytestmark = pytest.mark.parametrize("case", each_case[0], ids=each_case[1])


@pytest.fixture
def sharing(case):
    return DenseWeightSharing(oracle.geometry_of(case))


@pytest.fixture
def kernel(sharing, rng):
    return rng.normal(size=sharing.geometry.kernel_shape).astype("float32")


@pytest.fixture
def shared(sharing, rng):
    shape = sharing.geometry.shared_kernel_shape
    return rng.normal(size=shape).astype("float32")


def test_expansion_is_the_dense_kernel_of_the_convolution(case, sharing, shared):
    np.testing.assert_array_equal(
        to_numpy(sharing.expand(ops.convert_to_tensor(shared))),
        oracle.dense_kernel(case, shared),
    )


def test_projection_undoes_expansion_on_taps_with_members(case, sharing, shared):
    has_members = np.isin(np.arange(shared.size), oracle.family_ids(case))
    projected = to_numpy(sharing.project(sharing.expand(ops.convert_to_tensor(shared))))
    expected = np.where(has_members.reshape(shared.shape), shared, 0)
    np.testing.assert_allclose(projected, expected, rtol=1e-6)


def test_projection_gives_family_means(case, sharing, kernel):
    ids = oracle.family_ids(case)
    projected = to_numpy(sharing.project(kernel)).ravel()
    for family in range(projected.size):
        members = kernel[ids == family].astype("float64")
        mean = members.mean() if members.size else 0.0
        np.testing.assert_allclose(projected[family], mean, rtol=1e-5, atol=1e-6)


def test_expansion_of_the_projection_is_an_orthogonal_projection(sharing, kernel, rng):
    def project(dense):
        return to_numpy(sharing.expand(sharing.project(dense)))

    other = rng.normal(size=kernel.shape).astype("float32")
    np.testing.assert_allclose(
        project(project(kernel)), project(kernel), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        np.sum(project(kernel) * other), np.sum(kernel * project(other)), atol=2e-4
    )


def test_template_holds_the_members_of_each_family_and_zeros(case, sharing, kernel):
    ids = oracle.family_ids(case)
    template = to_numpy(sharing.template(kernel))
    grid = sharing.geometry.output_grid
    assert template.shape == (*grid, np.prod(sharing.geometry.shared_kernel_shape))
    # By position and family: an output channel's weights lie where its filter is.
    expected = np.zeros_like(template)
    rank = len(grid)
    for index in np.argwhere(ids >= 0):
        position = tuple(index[rank + 1 : 2 * rank + 1])
        expected[(*position, ids[tuple(index)])] = kernel[tuple(index)]
    np.testing.assert_array_equal(template, expected)


def test_off_template_is_the_kernel_without_its_template(case, sharing, kernel):
    expected = np.where(oracle.family_ids(case) < 0, kernel, 0)
    np.testing.assert_array_equal(to_numpy(sharing.off_template(kernel)), expected)


def test_partition_sums_divide_the_whole(case, sharing, kernel):
    on_template = oracle.family_ids(case) >= 0
    sums = sharing.partition_sums(ops.square, kernel)
    for total, part in zip(sums, (on_template, ~on_template), strict=True):
        expected = (kernel[part].astype("float64") ** 2).sum()
        np.testing.assert_allclose(to_numpy(total), expected, rtol=1e-5)


def test_product_is_that_of_the_expanded_kernel(case, sharing, shared, kernel, rng):
    geometry = sharing.geometry
    x = rng.normal(size=(3, *geometry.input_grid, geometry.in_channels))
    dense = oracle.dense_kernel(case, shared).astype("float64") + kernel
    dense = dense.reshape(x[0].size, -1)
    outputs = to_numpy(sharing.product(x.astype("float32"), shared, kernel))
    np.testing.assert_allclose(
        outputs.reshape(3, -1), x.reshape(3, -1) @ dense, rtol=1e-4, atol=1e-5
    )
