"""What can be converted, or a clear error."""

from typing import Any

from keras_softconv.arguments import is_integer
from keras_softconv.compat import keras
from keras_softconv.layers import SOFT_ARGUMENTS

KERNELS = ("family_means", "shared_kernel")


def check_convertible(layer: Any, kinds: dict[type, type]) -> None:
    """Raise `ValueError` unless a layer is exactly of one of these kinds, and built."""
    names = ", ".join(kind.__name__ for kind in kinds)
    title = f"{type(layer).__name__} '{getattr(layer, 'name', layer)}'"
    if type(layer) not in kinds:
        raise ValueError(
            f"Expected a layer of exactly one of the classes {names}: what another one "
            f"computes, a subclass included, cannot be known. Received: {title}. Convert "
            "the layers of these classes, for example those of a whole model by `soften` "
            "and `harden`, whose `predicate` can leave others out."
        )
    if not layer.built:
        raise ValueError(
            f"You must build the layer before converting it, because it has no weights "
            f"yet. Received: an unbuilt {title}. Call it on an input, or call "
            "`layer.build(input_shape)`."
        )
    check_no_lora(layer)


def check_no_lora(layer: keras.Layer) -> None:
    """Raise `ValueError` for a layer with LoRA weights, which Keras merges on saving."""
    if getattr(layer, "lora_enabled", False):
        raise ValueError(
            f"Expected layers without LoRA weights. Received: {type(layer).__name__} "
            f"'{layer.name}' with lora_rank={layer.lora_rank}. Merge them first: make the "
            "same layer without `lora_rank` and set its weights to "
            "`[layer.kernel, layer.bias]`."
        )


def check_soft_arguments(soft_arguments: dict[str, Any]) -> None:
    """Raise `ValueError` for arguments that are taken over from a convolution."""
    unknown = sorted(set(soft_arguments) - set(SOFT_ARGUMENTS))
    if unknown:
        raise ValueError(
            "Expected only arguments that a SoftConv layer has and a convolution has not, "
            f"{SOFT_ARGUMENTS}. Received: {unknown}. All others are taken over from the "
            "convolution: change them there."
        )


def check_kernel(kernel: Any) -> None:
    """Raise `ValueError` for an unknown choice of a convolution's kernel."""
    if not isinstance(kernel, str) or kernel not in KERNELS:
        raise ValueError(
            f"`kernel` must be one of {KERNELS}. Received: kernel={kernel!r}. Keep "
            "'family_means' unless the ties are lasso-like."
        )


def check_input_shape(conv: keras.Layer, input_shape: Any) -> None:
    """Raise `ValueError` unless this is the shape of one input of a convolution."""
    rank, channels = conv.rank, conv.kernel.shape[-2] * conv.groups
    is_shape = isinstance(input_shape, (tuple, list)) and len(input_shape) == rank + 1
    is_shape = is_shape and all(
        size is None or (is_integer(size) and size > 0) for size in input_shape
    )
    channel_axis = -1 if conv.data_format == "channels_last" else 0
    if not is_shape or input_shape[channel_axis] != channels:
        raise ValueError(
            f"`input_shape` must be the shape of one input of the convolution, without "
            f"the batch axis: {rank + 1} sizes in the format {conv.data_format!r}, of "
            f"which {channels} channels. Received: input_shape={input_shape!r}. A batch "
            "`x` of inputs has the `input_shape` `x.shape[1:]`."
        )


def check_predicate(predicate: Any) -> None:
    """Raise `ValueError` unless this is None or can be asked for a layer."""
    if predicate is not None and not callable(predicate):
        raise ValueError(
            "`predicate` must be a function of a layer that tells whether to convert it, "
            f"or None for all. Received: predicate={predicate!r}. For example "
            "`lambda layer: layer.name.startswith('block1')`."
        )
