"""The two-dimensional soft convolution."""

from keras_softconv.compat import keras
from keras_softconv.layers.base_soft_conv import BaseSoftConv, with_steps_along


@keras.saving.register_keras_serializable(package="keras_softconv")
class SoftConv2D(BaseSoftConv):
    """2D convolution whose weight sharing and locality are penalties, not rules.

    outputs = activation(inputs @ kernel + bias), with inputs and outputs raveled and

        kernel = expand(shared_kernel) + deviations
        loss  += tie_strength * tie_regularizer(deviations on the template)
               + off_template_strength * off_template_regularizer(the other deviations)

    The *template* is the set of kernel entries that a `Conv2D` with the same arguments
    would use; it falls into *families*, the entries that this Conv2D would make equal,
    one family for every entry of its kernel. `expand` copies each entry of the shared
    kernel to its family. Where all deviations are zero the layer is that `Conv2D`;
    where nothing is penalised it is a `Dense` layer on the raveled input. Biases, one
    for every output unit, are tied in the same way, a family for every filter.

    Strengths can be changed at any time, in any callback and without retracing, through
    the scalar weights `layer.tie_strength` and `layer.off_template_strength` (both start
    at 1): for example `layer.tie_strength.assign(0.1)`. For ridge penalties and a mean
    squared error a good first choice of `strength * l2` is `5 / (N * n_out)` for the ties
    and `20 / (N * n_out)` off the template, with N training examples and n_out outputs.

    Args:
        filters: int, number of output channels.
        kernel_size: int or tuple of 2 ints, size of the receptive field.
        strides: int or tuple of 2 ints. Not with `dilation_rate > 1`, as in Conv2D.
        padding: `"valid"`, `"same"` (Keras's rule), `"circular"` (wraps around; output
            as for "same"), or explicit zero padding: an int, or an int or
            `(before, after)` pair for each axis.
        data_format: `"channels_last"`, `"channels_first"` or None, the Keras default.
        dilation_rate: int or tuple of 2 ints.
        groups: int, number of channel groups of the template; weights across groups
            count as off-template.
        activation: activation function, or None.
        use_bias: bool, whether to add biases.
        kernel_initializer: initializer of the shared kernel.
        bias_initializer: initializer of the shared bias.
        kernel_regularizer: regularizer of the shared kernel.
        bias_regularizer: regularizer of the shared bias.
        activity_regularizer: regularizer of the output.
        kernel_constraint: constraint on the shared kernel.
        bias_constraint: constraint on the shared bias.
        tie_regularizer: regularizer of the deviations on the template, or None; by
            default `L2(3.0)`, which is strong: it is chosen to do no harm. It is given
            float32 tensors whose leading axes are the members and whose last axis is the
            families: `(*output_grid, families)` for the kernel, 0 where a member would
            see only padding, and `(*output_grid, filters)` for the biases.
        off_template_regularizer: regularizer of all other deviations, or None; by default
            `L2(3.0)`. It is given the float32 deviations with 0 on the template.
        deviation_initializer: initializer of the deviations, with the mean number of
            weights into an output and out of an input as fans. Bias deviations start
            at zero.
        halo: None keeps the dense kernel. An int keeps only the weights of inputs within
            so many steps, along every axis, of a position that a tap of the output's
            kernel covers, input or padding, in all channels: 0 is a softly tied locally
            connected layer. Memory and time then grow with the number of pixels, not
            with its square. `layer.deviations` has the shape
            `(new_rows, new_cols, window, filters)`, a window running over its rows,
            columns and channels; entries that would lie outside the image stay 0. All
            else is as with the dense kernel, but `layer.kernel`, `layer.family_ids()`
            and `layer.template_mask()` are dense and refused where they cannot fit. A
            halo of more than about half the image stores more than the dense kernel.
        penalty_registration: `"add_loss"` adds the penalties in `call`, once in a
            forward pass however often the layer is called. Within loops, branches,
            recurrent cells and `keras.RematScope`, where an added loss would be lost,
            the layer makes them weight regularizers for this forward pass by itself.
            `"regularizer"` makes them weight regularizers always, with the same loss.
            It is the choice for models with synchronized batch normalization, in which
            Keras corrupts losses added in `call`. It is also the choice for fast
            inference without a compiled graph, since the penalties are then computed
            only when the losses are read.

    Input shape:
        4D tensor `(batch, rows, cols, channels)`, or `(batch, channels, rows, cols)`
        with `data_format="channels_first"`. All sizes but the batch must be known.

    Output shape:
        4D tensor `(batch, new_rows, new_cols, filters)`, or
        `(batch, filters, new_rows, new_cols)`.

    Raises:
        ValueError: for arguments that Conv2D refuses, unknown input sizes, an input
            that does not fit, weights that with gradient and Adam's slots exceed the
            machine's memory (beyond a quarter of it, a warning), or a dense kernel of
            more than 2**31 - 1 of them.

    Examples:
        >>> layer = keras_softconv.SoftConv2D(filters=1, kernel_size=2)
        >>> tuple(layer(np.ones((5, 3, 3, 1))).shape)
        (5, 2, 2, 1)
        >>> tuple(layer.kernel.shape)  # rows, cols, channels, new_rows, new_cols, filters
        (3, 3, 1, 2, 2, 1)
        >>> int(layer.template_mask().sum())  # four families of four
        16

    Reference:
        Cross Validated question 559113, "Milder than a convolutional neural network".
    """

    rank = 2
    __init__ = with_steps_along(rank, BaseSoftConv.__init__)
