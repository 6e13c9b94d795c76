"""Whether a layer fits into the machine, asked before anything is allocated."""

import os
import warnings
from bisect import bisect_right
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from keras_softconv.compat import keras
from keras_softconv.geometry import Geometry

# Weights, gradient and the two slots of Adam.
TRAINING_COPIES = 4

SIZES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}

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


@dataclass(frozen=True)
class Demand:
    """What the deviations of a layer take.

    Args:
        name: what to call the layer in messages.
        geometry: its geometry.
        dtype: of its weights.
        trainable: whether there are a gradient and the slots of Adam besides.
    """

    name: str
    geometry: Geometry
    dtype: str
    trainable: bool = True

    @property
    def bytes(self) -> int:
        copies = TRAINING_COPIES if self.trainable else 1
        return copies * SIZES.get(self.dtype, 4) * prod(self.geometry.deviations_shape)

    @property
    def has_numbered_entries(self) -> bool:
        """Whether 32-bit integers number the entries, as dense storage asks for."""
        return prod(self.geometry.kernel_shape) <= MAX_KERNEL_SIZE

    def with_halo(self, halo: int | None) -> "Demand":
        return replace(self, geometry=replace(self.geometry, halo=halo))

    def __str__(self) -> str:
        geometry = self.geometry
        shape = geometry.deviations_shape
        kind = "dense" if geometry.windows is None else f"halo={geometry.halo}"
        besides = "with gradient and Adam's two slots " if self.trainable else ""
        return (
            f"The {kind} kernel of {self.name} has {prod(shape):,} weights of shape "
            f"{shape}: {besides}{_gigabytes(self.bytes)} in {self.dtype}"
        )


def check_fits(demand: Demand, may_refuse: bool = True) -> None:
    """Raise or warn, with numbers, if a layer is to take too much memory.

    Args:
        demand: what it takes.
        may_refuse: if False, only warn; a saved model may be loaded to predict only.

    Raises:
        ValueError: if it takes more than the machine's memory, or has a dense kernel of
            more than `MAX_KERNEL_SIZE`.

    Warns:
        UserWarning: if it takes more than a quarter of it, or if it takes more than all
            of it but may not be refused or is to be spread over devices by
            `keras.distribution.ModelParallel`.
    """
    memory = machine_memory()
    message = f"{demand}{_of_machine(memory)}, before any batch."
    if demand.geometry.windows is None and not demand.has_numbered_entries:
        raise ValueError(
            f"{message} A dense kernel may have at most {MAX_KERNEL_SIZE:,} weights. "
            f"{_remedy(demand, memory or TRAINING_COPIES * 4 * MAX_KERNEL_SIZE)}"
        )
    if memory is None or demand.bytes <= memory / 4:
        return
    message = f"{message} {_remedy(demand, memory)}"
    if demand.bytes > memory and may_refuse and not _is_spread_over_devices():
        raise ValueError(message)
    warnings.warn(message, stacklevel=2)


def fitting_halo(demand: Demand, limit: int) -> int | None:
    """The largest halo that takes at most `limit` bytes, and less than the dense kernel.

    None if not even 0 does.
    """
    limit = min(limit, demand.with_halo(None).bytes - 1)
    halos = range(max(demand.geometry.input_grid) + 1)
    fitting = bisect_right(halos, limit, key=lambda halo: demand.with_halo(halo).bytes)
    return fitting - 1 if fitting else None


def _remedy(demand: Demand, memory: int) -> str:
    dense = demand.with_halo(None)
    if demand.bytes > dense.bytes and dense.bytes <= memory and dense.has_numbered_entries:
        return (
            "A halo that large stores more than the dense kernel, which would take "
            f"{_gigabytes(dense.bytes)}: leave `halo` out."
        )
    shrink = "shrink the input first (pooling or strides), or use fewer filters."
    limits = (min(limit, demand.bytes - 1) for limit in (memory, memory // 4))
    largest, roomy = (fitting_halo(demand, limit) for limit in limits)
    if largest is None:
        least = demand.with_halo(0)
        is_less = least.bytes < demand.bytes
        even = f"Even {_takes(least)}, would not fit. " if is_less else ""
        return f"{even}To make it smaller, {shrink}"
    if roomy is None and demand.bytes <= memory:
        return f"To leave room, {shrink}"
    fits = f"{_takes(demand.with_halo(largest))}, is the largest that fits"
    if roomy is None:
        return f"A smaller `halo` stores less: {fits}, but to leave room, {shrink}"
    room = f"{_takes(demand.with_halo(roomy))}, leaves room for all else"
    if roomy == largest or demand.bytes <= memory:
        return f"A smaller `halo` stores less: {room}."
    return f"A smaller `halo` stores less: {room}; {fits}."


def _takes(demand: Demand) -> str:
    return f"`halo={demand.geometry.halo}`, with {_gigabytes(demand.bytes)}"


def check_dense_form_fits(name: str, geometry: Geometry) -> None:
    """Raise `ValueError` if an array of the dense kernel's shape cannot be held."""
    size, memory = prod(geometry.kernel_shape), machine_memory()
    if size > MAX_KERNEL_SIZE or (memory is not None and 4 * size > memory):
        raise ValueError(
            f"The dense form of the kernel of {name} cannot be held: its shape "
            f"{geometry.kernel_shape} has {size:,} entries, {_gigabytes(4 * size)} in "
            f"float32{_of_machine(memory)}. It may have at most {MAX_KERNEL_SIZE:,} "
            "entries and must fit into memory. Look at `layer.deviations` and "
            "`layer.shared_kernel`, of which it would be made."
        )


def _is_spread_over_devices() -> bool:
    active = keras.distribution.distribution()
    return isinstance(active, keras.distribution.ModelParallel)


def _of_machine(memory: int | None) -> str:
    return "" if memory is None else f", of the {_gigabytes(memory)} of this machine"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.3g} GB" if size < 1e11 else f"{size / 1e9:,.0f} GB"
