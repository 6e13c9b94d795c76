"""The three-dimensional soft convolution."""

from keras_softconv.compat import keras
from keras_softconv.layers.base_soft_conv import BaseSoftConv, with_steps_along


@keras.saving.register_keras_serializable(package="keras_softconv")
class SoftConv3D(BaseSoftConv):
    """3D convolution whose weight sharing and locality are penalties, not rules.

    `SoftConv2D`, which documents the mathematics and every argument, along three axes,
    for volumes and short films. A dense kernel grows with the sixth power of the side, so
    `halo=0` or `halo=1` will mostly be wanted.

    Input shape:
        5D tensor `(batch, planes, rows, cols, channels)`, or
        `(batch, channels, planes, rows, cols)` with `data_format="channels_first"`. All
        sizes but the batch must be known.

    Output shape:
        5D tensor `(batch, new_planes, new_rows, new_cols, filters)`, or
        `(batch, filters, new_planes, new_rows, new_cols)`.

    Raises:
        ValueError: as `SoftConv2D`.

    Examples:
        >>> layer = keras_softconv.SoftConv3D(filters=2, kernel_size=3, halo=0)
        >>> tuple(layer(np.ones((5, 4, 4, 4, 1))).shape)
        (5, 2, 2, 2, 2)
        >>> tuple(layer.deviations.shape)  # new_planes, new_rows, new_cols, window, filters
        (2, 2, 2, 27, 2)
    """

    rank = 3
    __init__ = with_steps_along(rank, BaseSoftConv.__init__)
