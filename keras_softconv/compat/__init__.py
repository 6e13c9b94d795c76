"""The one door to Keras, of which this folder alone knows that there have been two.

    from keras_softconv.compat import keras, ops

With Keras 3 these are `keras` and `keras.ops` themselves. With Keras 2.15, the last that
TensorFlow Addons runs with, they are that Keras with what the package needs of today's
put in front of it.
"""

import keras as installed

if installed.__version__.startswith("2."):
    from keras_softconv.compat.keras2 import (
        build_like,
        keras,
        name_of,
        ops,
        registration_of,
    )
else:
    import keras
    from keras import ops

    def registration_of(penalty_registration: str) -> str:
        """How Keras learns of the penalties of a layer with this argument."""
        return penalty_registration

    def build_like(layer: keras.Layer, other: keras.Layer) -> None:
        """Build a layer as another one of the same class was built."""
        layer.build_from_config(other.get_build_config())

    def name_of(variable: keras.Variable) -> str:
        """The name that a layer gives to a weight."""
        return variable.name


__all__ = ["build_like", "keras", "name_of", "ops", "registration_of"]
