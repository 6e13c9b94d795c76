"""Which Keras will do."""

LAST_OF_KERAS_2 = (2, 15)
# Before, the factor of `L2` is a tensor: importing the package would start TensorFlow, and
# its devices could no longer be configured.
OLDEST_OF_KERAS_3 = (3, 15)


def check_version(version: str) -> None:
    """Raise `ImportError` for a Keras that the package has not been tested with."""
    number = tuple(map(int, version.split(".")[:2]))
    if number < LAST_OF_KERAS_2 or (3, 0) <= number < OLDEST_OF_KERAS_3:
        raise ImportError(
            "keras_softconv needs Keras 3.15 or later, or Keras 2.15 for TensorFlow "
            f"Addons. Received: Keras {version}. `pip install --upgrade keras tensorflow`."
        )
