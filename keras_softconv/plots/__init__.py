"""Pictures of one layer: families of shades, dropped weights, problem children."""

from keras_softconv.plots.before_and_after import before_and_after
from keras_softconv.plots.catalogue import legible
from keras_softconv.plots.connections import connections
from keras_softconv.plots.maps import off_template, shades
from keras_softconv.plots.matrices import kernel_matrix

__all__ = [
    "before_and_after",
    "connections",
    "kernel_matrix",
    "legible",
    "off_template",
    "shades",
]
