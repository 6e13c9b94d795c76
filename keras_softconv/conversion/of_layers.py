"""One convolution to a SoftConv layer, and a SoftConv layer to the nearest convolution."""

from collections.abc import Callable
from typing import Any

from keras_softconv.compat import keras, ops
from keras_softconv.conversion.checks import (
    check_convertible,
    check_input_shape,
    check_kernel,
    check_soft_arguments,
)
from keras_softconv.conversion.copies import carry_weight, copy_of
from keras_softconv.diagnostics import energies, share
from keras_softconv.layers import (
    CONV_ARGUMENTS,
    BaseSoftConv,
    SoftConv1D,
    SoftConv2D,
    SoftConv3D,
)
from keras_softconv.weight_sharing import SQUARE, in_full_precision

Tensor = Any
Shape = tuple[int, ...]
Copy = Callable[[keras.Layer], keras.Layer]

SOFT_OF = {
    keras.layers.Conv1D: SoftConv1D,
    keras.layers.Conv2D: SoftConv2D,
    keras.layers.Conv3D: SoftConv3D,
}
CONV_OF = {soft: conv for conv, soft in SOFT_OF.items()}
ZERO_PADDINGS = {
    SoftConv1D: keras.layers.ZeroPadding1D,
    SoftConv2D: keras.layers.ZeroPadding2D,
    SoftConv3D: keras.layers.ZeroPadding3D,
}


def from_conv(conv: keras.Layer, input_shape: Shape, **soft_arguments: Any) -> BaseSoftConv:
    """A SoftConv layer that computes what a convolution computes.

    Its shared kernel and shared bias are the convolution's, its deviations are zero unless
    a `deviation_initializer` is given. Name, data type and all arguments are carried over.

    Args:
        conv: a built `Conv1D`, `Conv2D` or `Conv3D`. It is not changed.
        input_shape: shape of one input, without the batch axis.
        **soft_arguments: `tie_regularizer`, `off_template_regularizer`,
            `deviation_initializer`, `halo` and `penalty_registration`, as of SoftConv2D.

    Returns:
        A built `SoftConv1D`, `SoftConv2D` or `SoftConv3D`.

    Raises:
        ValueError: for any other layer, a subclass included, an unbuilt one or one with
            LoRA weights; an `input_shape` that does not fit; other arguments.

    Examples:
        >>> conv = keras.layers.Conv2D(4, 3, padding="same")
        >>> conv.build((None, 8, 8, 1))
        >>> soft = keras_softconv.from_conv(conv, (8, 8, 1), halo=1)
        >>> x = np.random.normal(size=(2, 8, 8, 1))
        >>> bool(np.allclose(soft(x), conv(x), atol=1e-5))
        True
    """
    check_convertible(conv, SOFT_OF)
    check_soft_arguments(soft_arguments)
    soft = soft_like(conv, soft_arguments, copy_of)
    check_input_shape(conv, input_shape)
    soft.build((None, *input_shape))
    carry_to_soft(conv, soft)
    return soft


def to_conv(soft: BaseSoftConv, kernel: str = "family_means") -> keras.Layer:
    """The convolution nearest to a SoftConv layer.

    A tap that sees nothing but padding has no family; it keeps the shared kernel's value,
    so that `to_conv(from_conv(conv, ...))` is `conv` again, to the last bit.

    What the convolution lacks is told by its attribute `dropped_energy`, with W and b the
    effective kernel and biases of the layer and V and c those of the convolution:

        {"kernel": ||W - V||^2 / ||W||^2, "bias": ||b - c||^2 / ||b||^2}

    (0 where there is nothing; without biases only the first). With the family means the
    first is `1 - convolution_share`.

    Args:
        soft: a built `SoftConv1D`, `SoftConv2D` or `SoftConv3D`. It is not changed.
        kernel: `"family_means"`, with which least energy is dropped, or
            `"shared_kernel"`, the better one with lasso-like ties, in which a few problem
            children would pull the mean.

    Returns:
        A built `Conv1D`, `Conv2D` or `Conv3D`. Keras's have neither explicit nor circular
        padding: with these it is a model of the layer's name that pads and convolves.

    Raises:
        ValueError: for any other layer, a subclass included, an unbuilt one, or another
            `kernel`.

    Examples:
        >>> soft = keras_softconv.SoftConv2D(4, 3, deviation_initializer="glorot_uniform")
        >>> soft.build((None, 8, 8, 1))
        >>> conv = keras_softconv.to_conv(soft)
        >>> conv.dropped_energy["kernel"] > 0.5, conv.dropped_energy["bias"]
        (True, 0.0)
    """
    check_convertible(soft, CONV_OF)
    check_kernel(kernel)
    conv = conv_like(soft, copy_of)
    if not conv.built:
        conv.build((None, *_input_shape(soft)))
    carry_to_conv(soft, conv, kernel)
    return conv


# The layer of the other kind, without weights.


def soft_like(
    conv: keras.Layer, soft_arguments: dict[str, Any], copy: Copy
) -> BaseSoftConv:
    """An unbuilt SoftConv layer with the arguments of a convolution.

    `copy` is for activations that are layers.
    """
    return SOFT_OF[type(conv)](**_arguments(conv, copy), **soft_arguments)


def conv_like(soft: BaseSoftConv, copy: Copy) -> keras.Layer:
    """An unbuilt convolution with the arguments of a SoftConv layer.

    Or a model whose last layer is a convolution of what the others pad.
    """
    conv, arguments = CONV_OF[type(soft)], _arguments(soft, copy)
    if soft.padding in ("valid", "same", "causal"):
        return conv(**arguments)
    arguments["padding"] = "valid"
    if not any(map(any, soft.weight_sharing.geometry.pads)):
        return conv(**arguments)
    inputs = keras.Input(_input_shape(soft), dtype=soft.compute_dtype)
    outputs = conv(**arguments)(_pad(soft, inputs))
    return keras.Model(inputs, outputs, name=soft.name, trainable=soft.trainable)


def _pad(soft: BaseSoftConv, inputs: Tensor) -> Tensor:
    pads = soft.weight_sharing.geometry.pads
    if soft.padding != "circular":
        return ZERO_PADDINGS[type(soft)](
            pads if len(pads) > 1 else pads[0],
            data_format=soft.data_format,
            dtype=soft.dtype_policy,
            name=f"{soft.name}_padding",
        )(inputs)
    first_axis = 1 if soft.data_format == "channels_last" else 2
    for axis, (before, after) in enumerate(pads, first_axis):
        earlier_axes, size = (slice(None),) * axis, inputs.shape[axis]
        last, first = slice(size - before, None), slice(None, after)
        parts = [inputs[*earlier_axes, last]] if before else []
        parts += [inputs, inputs[*earlier_axes, first]] if after else [inputs]
        inputs = ops.concatenate(parts, axis) if len(parts) > 1 else inputs
    return inputs


def _arguments(layer: keras.Layer, copy: Copy) -> dict[str, Any]:
    """What a convolution and a soft one have in common, as their constructors take it."""
    arguments = {name: getattr(layer, name) for name in CONV_ARGUMENTS}
    if isinstance(layer.activation, keras.Layer):  # it may have weights of its own
        arguments["activation"] = copy(layer.activation)
    base = {"name": layer.name, "trainable": layer.trainable, "dtype": layer.dtype_policy}
    return arguments | base


def _input_shape(soft: BaseSoftConv) -> Shape:
    return tuple(soft.get_build_config()["input_shape"][1:])


# The weights.


def carry_to_soft(conv: keras.Layer, soft: BaseSoftConv) -> None:
    """Make a SoftConv layer compute what a convolution computes."""
    carry_weight(conv.kernel, conv.kernel, soft.shared_kernel, soft.deviations)
    if conv.use_bias:
        carry_weight(conv.bias, conv.bias, soft.shared_bias, soft.bias_deviations)


def carry_to_conv(soft: BaseSoftConv, conv: keras.Layer, kernel: str) -> None:
    """Give a convolution the weights nearest to a SoftConv layer's."""
    conv.dropped_energy = _dropped_energy(soft, kernel)
    if isinstance(conv, keras.Model):
        conv = conv.layers[-1]
    is_mean = kernel == "family_means"
    weights = _kept_means(soft) if is_mean else soft.shared_kernel
    carry_weight(soft.shared_kernel, weights, conv.kernel)
    if soft.use_bias:
        mean = _mean(soft.bias_deviations) if is_mean else 0
        carry_weight(soft.shared_bias, soft.shared_bias + mean, conv.bias)


def _kept_means(soft: BaseSoftConv) -> Tensor:
    """Family means, and the shared kernel's values where there is no member."""
    means = soft.family_means()
    counts = soft.weight_sharing.geometry.member_counts[..., None, None]
    return ops.where(counts > 0, means, ops.cast(soft.shared_kernel, means.dtype))


def _dropped_energy(soft: BaseSoftConv, kernel: str) -> dict[str, float]:
    convolution, family, off_template = energies(soft)
    dropped = family + off_template
    if kernel == "shared_kernel":
        deviations = in_full_precision(soft.deviations)
        dropped = off_template + soft.weight_sharing.template_sum(SQUARE, deviations)
    energy = convolution + family + off_template
    shares = {"kernel": share(dropped, energy, of_nothing=0)}
    if soft.use_bias:
        deviations = in_full_precision(soft.bias_deviations)
        mean = _mean(deviations) if kernel == "family_means" else 0
        biases = deviations + ops.cast(soft.shared_bias, deviations.dtype)
        dropped, energy = (ops.sum(ops.square(b)) for b in (deviations - mean, biases))
        shares["bias"] = share(dropped, energy, of_nothing=0)
    return {name: float(ops.convert_to_numpy(value)) for name, value in shares.items()}


def _mean(bias_deviations: Tensor) -> Tensor:
    """Over the output positions."""
    return ops.mean(bias_deviations, axis=tuple(range(len(bias_deviations.shape) - 1)))
