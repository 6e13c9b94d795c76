"""What is compared: layers of one shape, by contenders with a name, in a setting.

Nothing here needs Keras, so that the coordinator and both Keras versions can share it.
"""

import os
from dataclasses import dataclass

DENSE = "Dense"
DENSE_L2 = "Dense + L2"
CONV = "Conv2D"
SOFT = "SoftConv2D"
NAIVE = "naive"
HALOS = {halo: f"SoftConv2D, halo {halo}" for halo in (0, 1, 2, 4, 8)}
CONV_KERAS2 = "Conv2D of Keras 2"
LOCAL = {number: f"LocallyConnected2D {number}" for number in (1, 2, 3)}

OF_KERAS2 = (CONV_KERAS2, *LOCAL.values())
LARGEST = 40_000_000

# Two cores, fewer where there are fewer, all where a process cannot be confined.
CAN_CONFINE = hasattr(os, "sched_getaffinity")
CORES = min(2, len(os.sched_getaffinity(0))) if CAN_CONFINE else os.cpu_count()


@dataclass(frozen=True)
class Case:
    """A layer from square images to square images, and the batch that trains it."""

    side: int
    in_channels: int
    filters: int
    kernel_size: int = 3
    padding: str = "same"
    batch: int = 32

    def __post_init__(self) -> None:
        if self.padding not in ("same", "valid"):
            raise ValueError(
                "A case has padding 'same' or 'valid', which all contenders know. "
                f"Received: padding={self.padding!r}."
            )

    @property
    def output_side(self) -> int:
        return self.side if self.padding == "same" else self.side - self.kernel_size + 1

    @property
    def n_in(self) -> int:
        return self.side**2 * self.in_channels

    @property
    def n_out(self) -> int:
        return self.output_side**2 * self.filters

    def is_covered_by(self, halo: int) -> bool:
        """Whether every output sees every input, so that the storage is dense."""
        before = (self.kernel_size - 1) // 2 if self.padding == "same" else 0
        to_last_input = self.side - self.kernel_size + before
        to_first_input = self.output_side - 1 - before
        return halo >= max(to_last_input, to_first_input)

    def __str__(self) -> str:
        return (
            f"{self.side}x{self.side}x{self.in_channels} to {self.filters}, "
            f"{self.padding}, batch {self.batch}"
        )


@dataclass(frozen=True)
class Setting:
    """Where a contest takes place."""

    backend: str = "tensorflow"
    jit_compile: bool = False
    cores: int = CORES
    onednn: bool = True  # TensorFlow's own default depends on the processor

    def __str__(self) -> str:
        names = {"tensorflow": " with XLA", "torch": " compiled"}
        compiler = names.get(self.backend, "") if self.jit_compile else ""
        library = "" if self.onednn else " without oneDNN"
        cores = f"{self.cores} core{'s' * (self.cores > 1)}"
        return f"{self.backend}{compiler}{library}, {cores}"


@dataclass(frozen=True)
class Entry:
    """One contender with one case."""

    contender: str
    case: Case

    @property
    def weights(self) -> int:
        """Trainable weights of the kernel, void ones of a halo at the border included."""
        case = self.case
        if self.contender in (CONV, CONV_KERAS2):
            return case.kernel_size**2 * case.in_channels * case.filters
        if self.contender in (LOCAL[1], LOCAL[3]):
            return case.kernel_size**2 * case.in_channels * case.n_out
        for halo, name in HALOS.items():
            if self.contender == name and not case.is_covered_by(halo):
                window = min(case.kernel_size + 2 * halo, case.side + case.output_side - 1)
                return window**2 * case.in_channels * case.n_out
        return case.n_in * case.n_out

    def is_left_out(self, setting: Setting) -> bool:
        """Whether the tables show "-" instead of a measurement.

        So they do for what needs minutes or gigabytes, and where Keras 2 has no layer:
        it knows TensorFlow only, and LocallyConnected2D's first implementation knows
        padding "valid" only, on which all three are compared. The second is measured
        however large, since the best of the three is asked for; but where two cores
        have shown that the first is, the others are left out with one. The third
        multiplies sparse matrices, which XLA does not compile.
        """
        if self.contender in (LOCAL[2], LOCAL[3]) and setting.cores == 1:
            return True
        if self.contender == LOCAL[3] and setting.jit_compile:
            return True
        if self.contender in OF_KERAS2:
            return setting.backend != "tensorflow" or self.case.padding != "valid"
        return self.weights > LARGEST
