"""Today's Keras under its name, as the tests are written for it: with Keras 2 they find it
behind the same door as the package does."""

import sys

from keras_softconv import compat

sys.modules |= {"keras": compat.keras, "keras.ops": compat.ops}
