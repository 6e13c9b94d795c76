"""Dense layers that would rather be convolutions, as far as the data agree."""

from keras_softconv import callbacks, diagnostics, optimizers, plots, regularizers
from keras_softconv.conversion import (
    from_conv,
    from_locally_connected,
    harden,
    legacy_objects,
    soften,
    to_conv,
)
from keras_softconv.diagnostics import structure_report
from keras_softconv.layers import SoftConv1D, SoftConv2D, SoftConv3D
from keras_softconv.optimizers import freeze_structure
from keras_softconv.path import RegularizationPath, regularization_path

__all__ = [
    "RegularizationPath",
    "SoftConv1D",
    "SoftConv2D",
    "SoftConv3D",
    "callbacks",
    "diagnostics",
    "freeze_structure",
    "from_conv",
    "from_locally_connected",
    "harden",
    "legacy_objects",
    "optimizers",
    "plots",
    "regularization_path",
    "regularizers",
    "soften",
    "structure_report",
    "to_conv",
]
__version__ = "1.0.0"
