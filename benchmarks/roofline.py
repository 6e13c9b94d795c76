"""How near a training step comes to what the machine could do at best.

    python benchmarks/roofline.py [--quick]

The bound is the longer of two times: that of the bytes which must move, at the bandwidth
measured in the same run, and that of the floating-point operations which must happen, at
the rate of a large matrix product in the same run.
"""

from dataclasses import dataclass
from statistics import median

from cases import CONV, DENSE, DENSE_L2, HALOS, SOFT, Case, Entry, Setting
from laboratory import QUICK, Contest, Effort, Laboratory, entries_of, hold_contest
from reports import print_section, problem_notes, short, table
from steps import AGAINST_CONV, AGAINST_DENSE

FLOAT = 4
# How often a step moves an array of the weights' size: the forward product reads them
# and the backward product writes their gradient; Adam reads weights, gradient and two
# moments, and writes all but the gradient.
PASSES = 1 + 1 + 4 + 3
# A penalty reads the weights for its value and once more for its gradient, which the
# writing of the product's gradient could take in.
PENALTY_PASSES = 2
# Inputs are read forward and backward; outputs are written, compared with targets, and
# their gradient is written and read.
INPUT_PASSES = 2
OUTPUT_PASSES = 5

SETTINGS = (Setting(), Setting(jit_compile=True))
CASES = [
    (AGAINST_DENSE, [DENSE, DENSE_L2, SOFT]),
    (Case(16, 16, 16, batch=256), [DENSE, DENSE_L2, SOFT]),
    (AGAINST_CONV, [CONV, HALOS[0], HALOS[2]]),
]
QUICK_CASES = [(Case(6, 2, 3, batch=8), [DENSE, SOFT])]


@dataclass(frozen=True)
class Machine:
    """What was measured of it: bytes and floating-point operations per second."""

    bandwidth: float
    matmul: float


def bytes_to_move(entry: Entry) -> int:
    """The least that a step with Adam moves, if no array stays in a cache."""
    case = entry.case
    is_soft = entry.contender in (SOFT, *HALOS.values())
    has_penalty = is_soft or entry.contender == DENSE_L2
    passes = PASSES + PENALTY_PASSES * has_penalty
    images = INPUT_PASSES * case.n_in + OUTPUT_PASSES * case.n_out
    return FLOAT * (passes * entry.weights + case.batch * images)


def operations(entry: Entry) -> int:
    """Multiplications and additions of the products, forward and for the gradient.

    The first layer needs no gradient of its inputs. A dense SoftConv2D has a convolution
    besides the product with its deviations; with a halo the shared kernel is added to
    them. Taps on the padding are counted.
    """
    case = entry.case
    taps = case.n_out * case.kernel_size**2 * case.in_channels
    products = taps if entry.contender == CONV else entry.weights
    if entry.contender == SOFT:
        products += taps
    return 2 * 2 * case.batch * products


def bound(entry: Entry, machine: Machine) -> float:
    """Seconds that a step takes at least."""
    moving = bytes_to_move(entry) / machine.bandwidth
    return max(moving, operations(entry) / machine.matmul)


def measure(
    laboratory: Laboratory, quick: bool = False
) -> list[tuple[Machine, list[Contest]]]:
    """The machine and the steps, in each setting."""
    settings = SETTINGS[:1] if quick else SETTINGS
    return [
        (
            _machine(laboratory, setting, quick),
            _contests(laboratory, setting, quick),
        )
        for setting in filter(laboratory.has_setting, settings)
    ]


def _machine(laboratory: Laboratory, setting: Setting, quick: bool) -> Machine:
    worker = laboratory.worker(setting, DENSE)
    return Machine(
        worker.ask("bandwidth", megabytes=8 if quick else 256),
        worker.ask("matmul", size=256 if quick else 2048),
    )


def _contests(laboratory: Laboratory, setting: Setting, quick: bool) -> list[Contest]:
    return [
        hold_contest(
            laboratory,
            setting,
            entries_of(laboratory, setting, names, case),
            QUICK if quick else Effort(rounds=5),
        )
        for case, names in (QUICK_CASES if quick else CASES)
    ]


def render(found: list[tuple[Machine, list[Contest]]]) -> str:
    header = ["layer", "setting", "contender", "must move, MB", "must compute, Gflop"]
    header += ["GB/s", "Gflop/s", "bound, ms", "step, ms", "bound / step"]
    rows = [
        _row(machine, contest, entry)
        for machine, contests in found
        for contest in contests
        for entry in contest.steps
    ]
    notes = problem_notes(contest for _, contests in found for contest in contests)
    return "\n\n".join(filter(None, [table(header, rows), notes]))


def _row(machine: Machine, contest: Contest, entry: Entry) -> list[str]:
    least, step = bound(entry, machine), median(contest.steps[entry])
    numbers = [
        bytes_to_move(entry) / 1e6,
        operations(entry) / 1e9,
        machine.bandwidth / 1e9,
        machine.matmul / 1e9,
        1e3 * least,
        1e3 * step,
    ]
    names = [str(entry.case), str(contest.setting), entry.contender]
    return [*names, *map(short, numbers), f"{least / step:.0%}"]


if __name__ == "__main__":
    print_section(__doc__, measure, render)
