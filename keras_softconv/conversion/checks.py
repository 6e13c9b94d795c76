"""What can be converted, or a clear error."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_softconv.arguments import is_integer
from keras_softconv.compat import keras
from keras_softconv.conversion.locally_connected import (
    BASE_ARGUMENTS,
    OLD_ARGUMENTS,
    SHAPE_ARGUMENTS,
)
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


def check_old_config(config: Any) -> None:
    """Raise `ValueError` unless this is the config of a locally connected layer."""
    needed = {"filters", "kernel_size"}
    found = set(config) if isinstance(config, dict) else set()
    known = {*OLD_ARGUMENTS, *BASE_ARGUMENTS, *SHAPE_ARGUMENTS}
    size = config["kernel_size"] if "kernel_size" in found else None
    has_rank = isinstance(size, (tuple, list)) and len(size) in (1, 2)
    if not needed <= found <= known or not has_rank:
        raise ValueError(
            "`config` must be what `layer.get_config()` gives for a LocallyConnected1D or "
            "LocallyConnected2D layer: a dict with `filters`, a `kernel_size` "
            f"of one or two integers, and no keys but {sorted(known)}. Received: config="
            f"{config!r}. Of a serialized layer take `['config']`. Convert a convolution "
            "by `from_conv`."
        )


def check_old_weights_are_arrays(weights: Any) -> list[np.ndarray]:
    """The weights of an old layer as arrays; raise `ValueError` if they are none."""
    is_list = isinstance(weights, Sequence) and not isinstance(weights, (str, bytes))
    arrays = [np.asarray(weight) for weight in weights] if is_list else []
    if not arrays or not all(np.issubdtype(array.dtype, np.number) for array in arrays):
        raise ValueError(
            "`weights` must be what `layer.get_weights()` gives, a list of the kernel and, "
            f"if there is one, the bias. Received: weights={weights!r}."
        )
    return arrays


def check_old_weights(
    weights: list[np.ndarray], shapes: list[tuple[int, ...]], title: str
) -> None:
    """Raise `ValueError` unless these are the weights of such a locally connected layer."""
    found = [tuple(weight.shape) for weight in weights]
    if found != shapes:
        raise ValueError(
            f"The weights of {title} do not fit its config and its input. Expected "
            f"{len(shapes)}, kernel before bias, of the shapes {shapes}. Received: "
            f"{len(found)}, of the shapes {found}. Compare `implementation`, "
            "`data_format`, `use_bias` and the input shape with those of the layer that "
            "the weights are from."
        )
