"""What Keras 3 does in a way of its own; all else is the same in the words of Keras 3."""

import keras


def registration_of(penalty_registration: str) -> str:
    """How Keras learns of the penalties of a layer with this argument."""
    return penalty_registration


def build_like(layer: keras.Layer, other: keras.Layer) -> None:
    """Build a layer as another one of the same class was built."""
    layer.build_from_config(other.get_build_config())


def name_of(variable: keras.Variable) -> str:
    """The name that a layer gave to its weight."""
    return variable.name


def offer_to_keras(classes: dict[str, type]) -> None:
    """Let Keras find layers that it has no longer, in files that say they are Keras's.

    A `.keras` file of Keras 2 says that such a layer is in the module `keras.layers`, and
    has no registered name. Without that name Keras asks no custom objects. It looks into
    the module.
    """
    for name, cls in classes.items():
        if not hasattr(keras.layers, name):
            setattr(keras.layers, name, cls)
