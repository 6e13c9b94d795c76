"""Layers between Dense and Conv."""

from keras_softconv.layers.base_soft_conv import BaseSoftConv
from keras_softconv.layers.soft_conv2d import SoftConv2D

__all__ = ["BaseSoftConv", "SoftConv2D"]
