"""Whether a layer fits into the machine, asked before anything is allocated."""

import os
import warnings
from dataclasses import replace
from math import prod
from pathlib import Path

import keras

from keras_softconv.geometry import Geometry

# Weights, gradient and the two slots of Adam.
TRAINING_COPIES = 4

# Kernel entries are numbered by 32-bit integers.
MAX_KERNEL_SIZE = 2**31 - 1

CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def machine_memory() -> int | None:
    """Bytes of memory that this process may use, None where that is not to be learnt.

    The physical memory, or the limit of the container if that is less.
    """
    try:
        sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, OSError, ValueError):
        return None
    for path in CGROUP_LIMITS:
        try:
            sizes.append(int(path.read_text()))
        except (OSError, ValueError):  # no such file, or 'max'
            continue
    return min(sizes)


def check_training_fits(name: str, geometry: Geometry, dtype: str) -> None:
    """Raise or warn, with numbers, if training the layer takes too much memory.

    Args:
        name: what to call the layer in the message.
        geometry: its geometry.
        dtype: of its weights.

    Raises:
        ValueError: if weights, gradient and the slots of Adam exceed the machine's
            memory, or a dense kernel `MAX_KERNEL_SIZE`.

    Warns:
        UserWarning: if they exceed a quarter of it, or if they exceed it but are to be
            spread over devices by `keras.distribution.ModelParallel`.
    """
    memory = machine_memory()
    weights = prod(geometry.deviations_shape)
    if geometry.windows is None and weights > MAX_KERNEL_SIZE:
        limit = min(memory or MAX_KERNEL_SIZE * 16, MAX_KERNEL_SIZE * 16)
        raise ValueError(
            f"{_what_it_takes(name, geometry, dtype, memory)} A dense kernel may have at "
            f"most {MAX_KERNEL_SIZE:,} weights. {_remedy(geometry, dtype, limit)}"
        )
    if memory is None or (taken := _training_bytes(geometry, dtype)) <= memory / 4:
        return
    message = _what_it_takes(name, geometry, dtype, memory)
    if taken > memory and not _is_spread_over_devices():
        raise ValueError(f"{message} {_remedy(geometry, dtype, memory)}")
    warnings.warn(f"{message} {_remedy(geometry, dtype, memory // 4)}", stacklevel=2)


def check_dense_form_fits(name: str, geometry: Geometry) -> None:
    """Raise `ValueError` if an array of the dense kernel's shape cannot be held."""
    size, memory = prod(geometry.kernel_shape), machine_memory()
    if size > MAX_KERNEL_SIZE or (memory is not None and 4 * size > memory):
        raise ValueError(
            f"The dense form of the kernel of {name} cannot be held: its shape "
            f"{geometry.kernel_shape} has {size:,} entries, {_gigabytes(4 * size)} in "
            f"float32{_of_machine(memory)}. Expected at most {MAX_KERNEL_SIZE:,} entries "
            "that fit. Look at `layer.deviations`, which holds only the weights within "
            f"halo={geometry.halo} of each receptive field, and `layer.shared_kernel`."
        )


def _training_bytes(geometry: Geometry, dtype: str) -> int:
    size = {"float16": 2, "bfloat16": 2, "float64": 8}.get(dtype, 4)
    return TRAINING_COPIES * size * prod(geometry.deviations_shape)


def _what_it_takes(name: str, geometry: Geometry, dtype: str, memory: int | None) -> str:
    kernel = "dense kernel" if geometry.windows is None else f"halo={geometry.halo} kernel"
    shape = geometry.deviations_shape
    taken = _gigabytes(_training_bytes(geometry, dtype))
    return (
        f"The {kernel} of {name} has {prod(shape):,} weights of shape {shape}: with "
        f"gradient and Adam's two slots {taken} in {dtype}{_of_machine(memory)}."
    )


def _remedy(geometry: Geometry, dtype: str, limit: int) -> str:
    halo, taken = fitting_halo(geometry, dtype, limit)
    if halo is not None:
        return (
            "To keep only the weights near each receptive field, use `halo=`: the largest "
            f"within {_gigabytes(limit)} is halo={halo}, with {_gigabytes(taken)}."
        )
    return (
        f"Even `halo=0` would take {_gigabytes(taken)}, more than {_gigabytes(limit)}: "
        "shrink the input first (pooling or strides), use fewer filters or larger "
        "`strides`."
    )


def fitting_halo(geometry: Geometry, dtype: str, limit: int) -> tuple[int | None, int]:
    """The largest halo whose training takes at most `limit` bytes, and its bytes.

    Returns:
        `(None, bytes)` of `halo=0` if even that takes more.
    """
    fitting, taken = None, 0
    for halo in range(max(geometry.input_grid) + 1):
        this = _training_bytes(replace(geometry, halo=halo), dtype)
        if this > limit:
            return fitting, taken if fitting is not None else this
        fitting, taken = halo, this
    return fitting, taken


def _is_spread_over_devices() -> bool:
    active = keras.distribution.distribution()
    return isinstance(active, keras.distribution.ModelParallel)


def _of_machine(memory: int | None) -> str:
    return "" if memory is None else f", of the {_gigabytes(memory)} of this machine"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.2g} GB" if size < 1e10 else f"{size / 1e9:,.0f} GB"
