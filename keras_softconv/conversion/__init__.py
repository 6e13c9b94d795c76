"""From convolutions to soft convolutions and back: layers and whole models."""

from keras_softconv.conversion.of_layers import from_conv, to_conv
from keras_softconv.conversion.of_models import harden, soften
from keras_softconv.conversion.of_old_models import from_locally_connected, legacy_objects

__all__ = [
    "from_conv",
    "from_locally_connected",
    "harden",
    "legacy_objects",
    "soften",
    "to_conv",
]
