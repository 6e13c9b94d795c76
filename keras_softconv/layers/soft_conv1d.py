"""The one-dimensional soft convolution."""

from keras_softconv.compat import keras
from keras_softconv.layers.base_soft_conv import BaseSoftConv


@keras.saving.register_keras_serializable(package="keras_softconv")
class SoftConv1D(BaseSoftConv):
    """1D convolution whose weight sharing and locality are penalties, not rules.

    `SoftConv2D`, which documents the mathematics and every argument, along one axis, for
    signals and sequences of a fixed length. The arguments before `tie_regularizer` are
    `Conv1D`'s, in its order and with its defaults.

    Args:
        padding: as in `SoftConv2D`, or `"causal"`, as in Conv1D: the template of an
            output reaches back only. Weights to later inputs count as off-template: they
            are penalised, not forbidden.

    Input shape:
        3D tensor `(batch, steps, channels)`, or `(batch, channels, steps)` with
        `data_format="channels_first"`. All sizes but the batch must be known.

    Output shape:
        3D tensor `(batch, new_steps, filters)`, or `(batch, filters, new_steps)`.

    Raises:
        ValueError: as `SoftConv2D`.

    Examples:
        >>> layer = keras_softconv.SoftConv1D(filters=2, kernel_size=3, padding="causal")
        >>> tuple(layer(np.ones((5, 8, 1))).shape)
        (5, 8, 2)
        >>> tuple(layer.kernel.shape)  # steps, channels, new_steps, filters
        (8, 1, 8, 2)
    """

    rank = 1
