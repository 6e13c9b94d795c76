"""Dense layers that would rather be convolutions, as far as the data agree."""

from keras_softconv import callbacks, diagnostics, optimizers, regularizers
from keras_softconv.conversion import from_conv, harden, soften, to_conv
from keras_softconv.layers import SoftConv1D, SoftConv2D, SoftConv3D

__all__ = [
    "SoftConv1D",
    "SoftConv2D",
    "SoftConv3D",
    "callbacks",
    "diagnostics",
    "from_conv",
    "harden",
    "optimizers",
    "regularizers",
    "soften",
    "to_conv",
]
__version__ = "0.1.0"
