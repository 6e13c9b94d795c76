"""Convolutions to test with: each with the reason why it is there.

A case is `(input_grid, in_channels, filters, arguments)`, the arguments as a layer takes
them.
"""

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

CASES_2D = {
    # The question that this package answers.
    "origin": ((3, 3), 1, 1, {"kernel_size": 2}),
    "one_by_one": ((4, 3), 2, 3, {"kernel_size": 1}),
    # Sums are taken in another way where rows are short.
    "many_filters": ((3, 4), 1, 6, {"kernel_size": 2}),
    "kernel_as_large_as_input": ((4, 3), 2, 2, {"kernel_size": (4, 3)}),
    "not_square": ((7, 4), 2, 3, {"kernel_size": (2, 3), "strides": (3, 1)}),
    # Where predecessors go wrong: 'same' with even kernels and with strides.
    "same": ((5, 5), 1, 2, {"kernel_size": 3, "padding": "same"}),
    "same_even": ((6, 6), 2, 2, {"kernel_size": (2, 4), "padding": "same"}),
    "same_strided": ((6, 7), 1, 2, {"kernel_size": 3, "strides": 2, "padding": "same"}),
    "same_stride_past_kernel": (
        (7, 7), 1, 1, {"kernel_size": 2, "strides": 3, "padding": "same"}
    ),
    # Taps that see nothing but padding: families without members.
    "same_kernel_past_input": ((2, 1), 1, 2, {"kernel_size": 5, "padding": "same"}),
    "dilated": ((7, 8), 1, 2, {"kernel_size": 3, "dilation_rate": (2, 3)}),
    "dilated_same": (
        (5, 6), 2, 2, {"kernel_size": 2, "dilation_rate": 3, "padding": "same"}
    ),
    "groups": ((4, 4), 4, 6, {"kernel_size": 2, "groups": 2}),
    "depthwise": ((4, 5), 3, 3, {"kernel_size": 3, "groups": 3, "padding": "same"}),
    "circular": ((5, 4), 2, 2, {"kernel_size": (3, 2), "padding": "circular"}),
    "circular_strided": (
        (7, 5), 1, 2, {"kernel_size": 4, "strides": 2, "padding": "circular"}
    ),
    "circular_full": ((3, 5), 1, 1, {"kernel_size": 3, "dilation_rate": (1, 2),
                                     "padding": "circular"}),
    "explicit": ((4, 5), 2, 2, {"kernel_size": 3, "padding": ((2, 0), 1)}),
    # Windows that lie wholly in the padding: outputs without a template.
    "no_member_at_all": ((1, 3), 1, 2, {"kernel_size": 1, "strides": 2,
                                        "padding": ((1, 0), 0)}),
    "explicit_past_kernel": ((3, 3), 1, 2, {"kernel_size": 2, "padding": (5, (0, 4)),
                                            "strides": 2}),
}  # fmt: skip


# The same code along one axis and along three, and the padding that Conv1D has besides.
CASES = CASES_2D | {
    "signal": ((9,), 2, 3, {"kernel_size": 4, "strides": 2, "padding": "same"}),
    "causal": ((7,), 2, 2, {"kernel_size": 3, "dilation_rate": 2, "padding": "causal"}),
    "volume": (
        (3, 2, 4), 2, 2, {"kernel_size": (2, 3, 2), "padding": "same", "groups": 2}
    ),
    # Where strides leave inputs over, torch's own Conv3D may read beyond its memory.
    "volume_strided": (
        (2, 3, 3), 1, 1, {"kernel_size": (1, 1, 2), "strides": (1, 1, 2)}
    ),
    "volume_circular": (
        (2, 4, 3), 1, 2, {"kernel_size": 2, "strides": (1, 2, 1), "padding": "circular"}
    ),
}  # fmt: skip


def as_tuple(value, rank: int) -> tuple:
    return (value,) * rank if isinstance(value, int) else tuple(value)


PADDINGS = ("valid", "same", "circular", "explicit")


@st.composite
def random_cases(draw, ranks=(1, 2, 3), paddings=PADDINGS):
    """Lawful cases of any rank, small enough for a dense kernel."""
    rank = draw(st.sampled_from(ranks))
    sides = st.integers(1, {1: 9, 2: 6, 3: 4}[rank])

    def axes(values):
        return tuple(draw(values) for _ in range(rank))

    grid, kernel_size = axes(sides), axes(st.integers(1, 4))
    strides, dilation_rate = axes(st.integers(1, 3)), axes(st.integers(1, 3))
    if draw(st.booleans()):
        strides = (1,) * rank
    else:
        dilation_rate = (1,) * rank
    pads = st.tuples(st.integers(0, 4), st.integers(0, 4))
    padding = draw(st.sampled_from([*paddings, "causal"] if rank == 1 else paddings))
    padding = axes(pads) if padding == "explicit" else padding
    # Few, because Keras compiles each call of a grouped convolution on TensorFlow.
    groups = draw(st.sampled_from([1] * 7 + [2]))
    spans = [d * (k - 1) + 1 for k, d in zip(kernel_size, dilation_rate, strict=True)]
    extra = [sum(p) for p in padding] if isinstance(padding, tuple) else [0] * rank
    if padding not in ("same", "causal"):
        assume(all(s <= n + e for s, n, e in zip(spans, grid, extra, strict=True)))
    channels = groups * draw(st.integers(1, 2))
    arguments = {
        "kernel_size": kernel_size,
        "strides": strides,
        "dilation_rate": dilation_rate,
        "padding": padding,
        "groups": groups,
    }
    return grid, channels, groups * draw(st.integers(1, 2)), arguments


def pad_as_told(images: np.ndarray, padding, grid, kernel_size, strides, dilation_rate):
    """Images padded by NumPy as a 'valid' convolution needs them, and the padding that
    is left for the convolution to do."""
    if isinstance(padding, str) and padding != "circular":
        return images, padding  # 'causal' is Conv1D's own
    if padding == "circular":
        pads = []
        for n, k, s, d in zip(grid, kernel_size, strides, dilation_rate, strict=True):
            total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
            pads.append((total // 2, total - total // 2))
        mode = "wrap"
    else:
        pads, mode = padding, "constant"
    return np.pad(images, ((0, 0), *pads, (0, 0)), mode=mode), "valid"
