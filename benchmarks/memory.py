"""How much memory training takes, at its peak.

    python benchmarks/memory.py [--quick]

Each contender has a process of its own. What it takes is the peak after a few steps
less the peak before, when the framework was loaded and had trained a tiny model. In which
order TensorFlow runs independent operations, and with it the peak, changes from process
to process: of Dense and the layer compared with it this is the median of several.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cases import CONV, DENSE, DENSE_L2, HALOS, NAIVE, SOFT, Case, Entry, Setting
from laboratory import Laboratory, WorkerError, entries_of, request_to_make
from reports import LEFT_OUT, print_section, short, table
from steps import AGAINST_CONV, AGAINST_DENSE

STEPS = 2
PROCESSES = 3  # of each of the two
LARGE_IMAGES = Case(128, 16, 16)
GRID = [
    (Setting(), AGAINST_DENSE, [DENSE, DENSE_L2, SOFT, NAIVE]),
    (Setting(jit_compile=True), AGAINST_DENSE, [DENSE, DENSE_L2, SOFT]),
    (Setting("jax"), AGAINST_DENSE, [DENSE, SOFT]),
    (Setting("torch"), AGAINST_DENSE, [DENSE, SOFT]),
    (Setting(), AGAINST_CONV, [CONV, HALOS[0], HALOS[2]]),
    (Setting(), LARGE_IMAGES, [HALOS[1]]),
    (Setting(jit_compile=True), LARGE_IMAGES, [HALOS[1]]),
]
QUICK_GRID = [(Setting(), Case(6, 2, 3, batch=8), [DENSE, SOFT])]


@dataclass(frozen=True)
class Peak:
    """Megabytes: of the whole process at its peak, and what training added to it."""

    setting: Setting
    entry: Entry
    total: float | None = None
    added: float | None = None
    problem: str = ""


def measure(laboratory: Laboratory, quick: bool = False) -> list[Peak]:
    """A peak for each contender with each layer in each setting."""
    entries = [
        (setting, entry)
        for setting, case, contenders in (QUICK_GRID if quick else GRID)
        for entry in entries_of(laboratory, setting, contenders, case, however_large=True)
    ]
    return [_median_peak(laboratory, *pair) for pair in entries]


def _median_peak(laboratory: Laboratory, setting: Setting, entry: Entry) -> Peak:
    is_compared = entry.case == AGAINST_DENSE and entry.contender in (DENSE, SOFT)
    count = PROCESSES if is_compared else 1
    # At once: unlike seconds, megabytes do not mind the company.
    with ThreadPoolExecutor(count) as pool:
        peaks = list(pool.map(lambda _: _peak(laboratory, setting, entry), range(count)))
    measured = [peak for peak in peaks if peak.added is not None]
    if len(measured) < count:
        return next(peak for peak in peaks if peak.added is None)
    return sorted(measured, key=lambda peak: peak.added)[count // 2]


def _peak(laboratory: Laboratory, setting: Setting, entry: Entry) -> Peak:
    worker = laboratory.worker(setting, entry.contender, fresh=True)
    try:
        before = worker.ask("peak")
        worker.ask("make", **request_to_make(setting, entry))
        worker.ask("run", name=str(entry), steps=STEPS)
        after = worker.ask("peak")
    except WorkerError as error:
        return Peak(setting, entry, problem=str(error))
    finally:
        worker.close()
    return Peak(setting, entry, after, after - before)


def added_ratio(
    peaks: list[Peak], setting: Setting, entry: Entry, base: str
) -> float | None:
    """How many times the memory of the contender `base` training takes, if measured."""
    added = {(peak.setting, peak.entry): peak.added for peak in peaks}
    own, other = added.get((setting, entry)), added.get((setting, Entry(base, entry.case)))
    return own / other if own and other else None


def render(peaks: list[Peak]) -> str:
    header = ["layer", "setting", "contender", "added, MB", "added / Dense"]
    return table([*header, "whole process, MB"], [_row(peak, peaks) for peak in peaks])


def _row(peak: Peak, peaks: list[Peak]) -> list[str]:
    names = [str(peak.entry.case), str(peak.setting), peak.entry.contender]
    if peak.total is None:
        return [*names, f"failed: {peak.problem[:80]}", *["failed"] * 2]
    ratio = added_ratio(peaks, peak.setting, peak.entry, DENSE)
    ratio_cell = LEFT_OUT if ratio is None else short(ratio)
    return [*names, f"{peak.added:.0f}", ratio_cell, f"{peak.total:.0f}"]


if __name__ == "__main__":
    print_section(__doc__, measure, render)
