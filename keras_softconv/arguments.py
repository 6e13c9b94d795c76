"""Normal forms of the arguments that describe a convolution, or a clear error.

Where Keras has words for an error, these are Keras's words.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

NAMED_PADDINGS = ("valid", "same", "circular")
PENALTY_REGISTRATIONS = ("add_loss", "regularizer")

Shape = tuple[int | None, ...]
Pads = tuple[tuple[int, int], ...]


def is_integer(value: Any) -> bool:
    """Whether a value can count something, as True and False cannot."""
    try:
        operator.index(value)  # as sizes are that torch traces, which are tensors
    except TypeError:
        return False
    return not isinstance(value, bool)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def standardize_tuple(value: Any, rank: int, name: str) -> tuple[int, ...]:
    """One positive integer per axis: `3 -> (3, 3)`, `[3, 2] -> (3, 2)`.

    Raises:
        ValueError: for anything but a positive integer or `rank` of them.
    """
    expected = f"The `{name}` argument must be a tuple of {rank} integers. "
    values = (value,) * rank if is_integer(value) else value
    if not _is_sequence(values) or len(values) != rank or not all(map(is_integer, values)):
        raise ValueError(
            f"{expected}Received: {name}={value!r}. Give one positive integer, "
            f"or {rank} of them."
        )
    values = tuple(map(int, values))
    unlawful = {entry for entry in values if entry <= 0}
    if unlawful:
        raise ValueError(
            f"{expected}Received {name}={values}, including values {unlawful} "
            "that do not satisfy `value > 0`. Make every entry at least 1."
        )
    return values


def standardize_padding(padding: Any, rank: int) -> str | Pads:
    """A named padding in lower case, or one `(before, after)` pair per axis.

    `"SAME" -> "same"`, `1 -> ((1, 1), (1, 1))`, `(1, (0, 2)) -> ((1, 1), (0, 2))`. 'causal'
    is for one axis, as in Conv1D.

    Raises:
        ValueError: for any other name, a negative number, or a wrong count.
    """
    named = NAMED_PADDINGS if rank > 1 else (*NAMED_PADDINGS, "causal")
    if isinstance(padding, str) and padding.lower() in named:
        return padding.lower()
    entries = (padding,) * rank if is_integer(padding) else padding
    if _is_sequence(entries):
        pads = tuple(_pair(entry) for entry in entries)
        if len(pads) == rank and None not in pads:
            return pads
    raise ValueError(
        f"The `padding` argument must be one of {', '.join(map(repr, named))}, a "
        "non-negative integer, or one non-negative integer or (before, after) "
        f"pair per axis ({rank} here). Received: padding={padding!r}. For "
        f"example, one step on every side is `padding=1`, or "
        f"`padding={((1, 1),) * rank}`."
    )


def _pair(entry: Any) -> tuple[int, int] | None:
    pair = (entry, entry) if is_integer(entry) else entry
    if not _is_sequence(pair) or len(pair) != 2:
        return None
    if not all(is_integer(side) and side >= 0 for side in pair):
        return None
    return int(pair[0]), int(pair[1])


def standardize_filters(filters: Any, groups: Any) -> tuple[int, int]:
    """`filters` and `groups` as plain integers.

    Raises:
        ValueError: unless both are positive integers and `groups` divides `filters`.
    """
    if not is_integer(filters) or filters <= 0:
        raise ValueError(
            "Invalid value for argument `filters`. Expected a strictly positive "
            f"value. Received filters={filters!r}. Give an integer of at least 1."
        )
    if not is_integer(groups) or groups <= 0:
        raise ValueError(
            "The number of groups must be a positive integer. "
            f"Received: groups={groups!r}. Use `groups=1` for no grouping."
        )
    if filters % groups:
        raise ValueError(
            "The number of filters must be evenly divisible by the number of "
            f"groups. Received: groups={groups}, filters={filters}. "
            "Change one of the two."
        )
    return int(filters), int(groups)


def check_channels(in_channels: int, groups: int, input_shape: tuple) -> None:
    """Raise `ValueError` unless the groups divide the input channels."""
    if in_channels % groups:
        raise ValueError(
            "The number of input channels must be evenly divisible by the number "
            f"of groups. Received groups={groups}, but the input has "
            f"{in_channels} channels (full input shape is {input_shape}). "
            "Choose `groups` among the divisors of the channels."
        )


def check_strides_and_dilation(
    strides: tuple[int, ...], dilation_rate: tuple[int, ...]
) -> None:
    """Raise `ValueError` where Conv2D refuses, so that a Conv2D always exists."""
    if max(strides) > 1 and max(dilation_rate) > 1:
        raise ValueError(
            "`strides > 1` not supported in conjunction with `dilation_rate > 1`. "
            f"Received: strides={strides} and dilation_rate={dilation_rate}. "
            "Keras has no such convolution to soften: set one of the two to 1."
        )


def standardize_halo(halo: Any) -> int | None:
    """`halo` as a plain integer, or None for the dense kernel.

    Raises:
        ValueError: for anything but None and a non-negative integer.
    """
    if halo is None:
        return None
    if not is_integer(halo) or halo < 0:
        raise ValueError(
            "The `halo` argument must be None or an integer of at least 0, how many "
            "input steps around each receptive field, along every axis alike, have a "
            "weight. Received: "
            f"halo={halo!r}. Use `halo=0` for none outside it, or leave `halo` out to "
            "keep them all."
        )
    return int(halo)


def check_penalty_registration(penalty_registration: Any) -> None:
    """Raise `ValueError` for an unknown way to register the penalties."""
    is_name = isinstance(penalty_registration, str)
    if not is_name or penalty_registration not in PENALTY_REGISTRATIONS:
        raise ValueError(
            f"`penalty_registration` must be one of {PENALTY_REGISTRATIONS}. "
            f"Received: penalty_registration={penalty_registration!r}. Keep "
            "'add_loss' unless the model uses synchronized batch normalization."
        )


def check_input_shape(layer: Any, shape: Any, expected: Shape) -> None:
    """Raise `ValueError` unless `shape` fits `expected`, where None fits all."""
    is_shape = _is_sequence(shape) and all(
        size is None or (is_integer(size) and size > 0) for size in shape[1:]
    )
    if is_shape and len(shape) == len(expected):
        pairs = zip(shape, expected, strict=True)
        if all(None in (size, wanted) or size == wanted for size, wanted in pairs):
            return
    remedy = (
        "Give one batch of inputs with these axes, none of them empty; a missing "
        "channel axis is added by `inputs[..., None]`."
        if None in expected[1:]
        else "It holds weights for every position, so it takes inputs of the one size "
        "that it was built for: change their size or channels, or make a new layer."
    )
    found = tuple(shape) if _is_sequence(shape) else shape
    raise _size_error(
        f"The input of {type(layer).__name__} layer '{layer.name}' is incompatible with "
        f"the layer: expected shape={expected} ({layer.data_format}), found "
        f"shape={found}. {remedy}",
        WrongSize(layer, expected, found),
    )


def check_defined(layer: Any, input_shape: Shape) -> None:
    """Raise `ValueError` if a size other than the batch's is None."""
    if None in input_shape[1:]:
        raise _size_error(
            "The spatial dimensions and channels of the inputs to a "
            f"{type(layer).__name__} layer should be fully-defined, because it holds "
            "weights for every position, but layer received the inputs "
            f"shape {input_shape}. Give the sizes, as in `keras.Input((28, 28, 1))`. A "
            "model for inputs of any size gets one by `keras.models.clone_model(model, "
            "keras.Input((28, 28, 1)))`, and then its weights by `set_weights`.",
            WrongSize(layer, None, input_shape),
        )


@dataclass(frozen=True)
class WrongSize:
    """What an error says of an input of a size that its layer cannot take.

    Args:
        layer: the layer that was called.
        expected: the shape that it was built for, or None if `found` is not fully defined.
        found: the shape of the input.
    """

    layer: Any
    expected: Shape | None
    found: Any


def _size_error(message: str, wrong_size: WrongSize) -> ValueError:
    """A plain `ValueError`, since TensorFlow makes another error of any other class."""
    error = ValueError(message)
    error.wrong_size = wrong_size
    return error


def wrong_size_behind(error: BaseException | None) -> tuple[WrongSize, str] | None:
    """The wrong size that led to an error, with its message, or None for other errors.

    Keras and TensorFlow put the message into errors of their own.
    """
    while error is not None:
        if hasattr(error, "wrong_size"):
            return error.wrong_size, str(error)
        error = error.__context__
    return None
