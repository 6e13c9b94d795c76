"""From convolutions to soft convolutions and back: layers and whole models."""

from keras_softconv.conversion.of_layers import from_conv, to_conv
from keras_softconv.conversion.of_models import harden, soften

__all__ = ["from_conv", "harden", "soften", "to_conv"]
