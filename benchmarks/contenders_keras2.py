"""The contenders that only Keras 2 has, and its Conv2D to compare the two versions by."""

from collections.abc import Callable

from cases import CONV_KERAS2, LOCAL, Case
from tensorflow import keras


def conv(case: Case) -> keras.Model:
    """The convolution, as a bridge to Keras 3."""
    return _model(case, keras.layers.Conv2D(case.filters, case.kernel_size))


def locally_connected(case: Case, implementation: int) -> keras.Model:
    """A convolution without weight sharing."""
    layer = keras.layers.LocallyConnected2D(
        case.filters, case.kernel_size, implementation=implementation
    )
    return _model(case, layer)


def _model(case: Case, layer: keras.layers.Layer) -> keras.Model:
    if case.padding != "valid":
        raise ValueError(
            "LocallyConnected2D is compared with padding='valid', the only one that all "
            f"its implementations have. Received: padding={case.padding!r}."
        )
    shape = (case.side, case.side, case.in_channels)
    return keras.Sequential([keras.Input(shape), layer])


CONTENDERS: dict[str, Callable[[Case], keras.Model]] = {
    CONV_KERAS2: conv,
    **{
        name: lambda case, number=number: locally_connected(case, number)
        for number, name in LOCAL.items()
    },
}
