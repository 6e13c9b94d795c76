"""The two rules of a convolution as linear maps between its kernel and a dense one.

E copies each entry of the shared kernel S to every member of its family; its adjoint
E' sums a family, and E'E counts the members. `E (E'E)^-1 E'` projects a dense kernel
onto the convolutions. The dense kernel is E(S) + D; the deviations D are stored whole
or, with a halo, as one window of weights for each output position.
"""

from keras_softconv.geometry import Geometry
from keras_softconv.weight_sharing.base import WeightSharing
from keras_softconv.weight_sharing.dense import DenseWeightSharing
from keras_softconv.weight_sharing.halo import HaloWeightSharing
from keras_softconv.weight_sharing.sums import (
    ABSOLUTE,
    SQUARE,
    Power,
    in_full_precision,
    total,
    totals,
)

__all__ = [
    "ABSOLUTE",
    "SQUARE",
    "DenseWeightSharing",
    "HaloWeightSharing",
    "Power",
    "WeightSharing",
    "in_full_precision",
    "total",
    "totals",
    "weight_sharing_of",
]


def weight_sharing_of(geometry: Geometry) -> WeightSharing:
    """The maps of a geometry, in the storage that it asks for."""
    storage = DenseWeightSharing if geometry.windows is None else HaloWeightSharing
    return storage(geometry)
