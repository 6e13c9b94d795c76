"""What a convolution does to a dense kernel, told by Keras's own convolutions.

Fed with one-hot images, a convolution without bias answers with its dense matrix.
"""

from collections.abc import Callable
from functools import wraps

import keras
import numpy as np
from conv_cases import as_tuple, pad_as_told

from keras_softconv.arguments import standardize_padding
from keras_softconv.geometry import Geometry

CONVS = {1: keras.layers.Conv1D, 2: keras.layers.Conv2D, 3: keras.layers.Conv3D}


def found_once(function: Callable) -> Callable:
    """Keeps each array, since many tests ask for the same; nobody may write to it."""
    found = {}

    @wraps(function)
    def look_up(*arguments) -> np.ndarray:
        key = repr(arguments)  # a case holds a dict
        if key not in found:
            found[key] = function(*arguments)
            found[key].flags.writeable = False
        return found[key]

    return look_up


def geometry_of(case, halo=None) -> Geometry:
    grid, in_channels, filters, arguments = case
    rank = len(grid)
    return Geometry(
        grid,
        as_tuple(arguments["kernel_size"], rank),
        as_tuple(arguments.get("strides", 1), rank),
        as_tuple(arguments.get("dilation_rate", 1), rank),
        standardize_padding(arguments.get("padding", "valid"), rank),
        in_channels,
        filters,
        arguments.get("groups", 1),
        halo,
    )


def convolve(case, images: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Keras's convolution of `images` with `kernel`, NumPy doing unusual paddings."""
    geometry = geometry_of(case)
    padded, padding = pad_as_told(
        images,
        geometry.padding,
        geometry.input_grid,
        geometry.kernel_size,
        geometry.strides,
        geometry.dilation_rate,
    )
    if len(geometry.input_grid) == 3:
        padded = _up_to_the_last_window(geometry, padded)
    conv = CONVS[len(geometry.input_grid)](
        geometry.filters,
        geometry.kernel_size,
        geometry.strides,
        padding=padding,
        dilation_rate=geometry.dilation_rate,
        groups=geometry.groups,
        data_format="channels_last",
        use_bias=False,
        kernel_initializer="zeros",
    )
    conv.build(padded.shape)
    conv.set_weights([kernel])
    return keras.ops.convert_to_numpy(conv(padded.astype("float32")))


def _up_to_the_last_window(geometry: Geometry, images: np.ndarray) -> np.ndarray:
    """Images without the inputs that strides leave over behind the last window.

    Where 'same' leaves some over, TensorFlow's Conv3D without oneDNN, its default on
    processors without AVX-512, begins too late: it takes half of them for padding, of a
    negative size. Torch's Conv3D with oneDNN, its default with AVX-512, reads beyond its
    memory wherever some are left over and channels are last. Conv1D and Conv2D do neither.
    """
    ends = [
        (outputs - 1) * stride + dilation * (taps - 1) + 1
        for outputs, stride, dilation, taps in zip(
            geometry.output_grid,
            geometry.strides,
            geometry.dilation_rate,
            geometry.kernel_size,
            strict=True,
        )
    ]
    return images[:, *(slice(end) for end in ends)]


def dense_kernel(case, kernel: np.ndarray) -> np.ndarray:
    """Dense kernel of the convolution with `kernel`, of `Geometry.kernel_shape`."""
    grid, in_channels, *_ = case
    size = int(np.prod(grid)) * in_channels
    images = np.eye(size, dtype="float32").reshape(-1, *grid, in_channels)
    outputs = convolve(case, images, kernel)  # [size, *output_grid, filters]
    return outputs.reshape(*grid, in_channels, *outputs.shape[1:])


@found_once
def family_ids(case) -> np.ndarray:
    """The kernel that holds 1, 2, 3, ... puts each family's number into its place."""
    shape = geometry_of(case).shared_kernel_shape
    numbers = np.arange(1, np.prod(shape) + 1, dtype="float32").reshape(shape)
    return np.rint(dense_kernel(case, numbers)).astype(int) - 1


@found_once
def within_halo(case, halo) -> np.ndarray:
    """Entries of the dense kernel within `halo` steps of a receptive field, by looking
    at every pair of an input and a tap, in padding or not."""
    geometry = geometry_of(case)
    kept = np.ones((), bool)
    for size, outputs, taps, stride, dilation, (before, _) in zip(
        geometry.input_grid,
        geometry.output_grid,
        geometry.kernel_size,
        geometry.strides,
        geometry.dilation_rate,
        geometry.pads,
        strict=True,
    ):
        pairs = np.zeros((size, outputs), bool)
        for i, p, t in np.ndindex(size, outputs, taps):
            distance = abs(i - (p * stride + t * dilation - before))
            if geometry.padding == "circular":
                distance = min(distance % size, -distance % size)
            pairs[i, p] |= distance <= halo
        kept = np.multiply.outer(kept, pairs)
    rank = len(geometry.input_grid)
    kept = kept.transpose(*range(0, 2 * rank, 2), *range(1, 2 * rank, 2))
    kept = kept.reshape(*geometry.input_grid, 1, *geometry.output_grid, 1)
    return np.broadcast_to(kept, geometry.kernel_shape)
