"""Dense layers that would rather be convolutions, as far as the data agree."""

from keras_softconv import callbacks, diagnostics, regularizers
from keras_softconv.layers import SoftConv2D

__all__ = ["SoftConv2D", "callbacks", "diagnostics", "regularizers"]
__version__ = "0.1.0"
