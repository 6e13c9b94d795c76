"""Layers between Dense and Conv."""

from keras_softconv.layers.base_soft_conv import (
    CONV_ARGUMENTS,
    SOFT_ARGUMENTS,
    BaseSoftConv,
)
from keras_softconv.layers.soft_conv1d import SoftConv1D
from keras_softconv.layers.soft_conv2d import SoftConv2D
from keras_softconv.layers.soft_conv3d import SoftConv3D

__all__ = [
    "CONV_ARGUMENTS",
    "SOFT_ARGUMENTS",
    "BaseSoftConv",
    "SoftConv1D",
    "SoftConv2D",
    "SoftConv3D",
]
