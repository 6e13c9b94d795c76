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
