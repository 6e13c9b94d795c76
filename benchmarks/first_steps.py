"""How long a user waits for the first step, and how large an exported model is.

    python benchmarks/first_steps.py [--quick]

The first step of a fresh model traces and compiles it. The models are made, take their
steps and are dropped in turn, in a process that has compiled others before. It ends
with the group of layers that are compared.
"""

from dataclasses import dataclass, field
from statistics import median

from cases import CONV, DENSE, DENSE_L2, HALOS, LOCAL, NAIVE, SOFT, Case, Entry, Setting
from laboratory import Laboratory, WorkerError, entries_of, make, run
from reports import LEFT_OUT, print_section, short, table
from steps import AGAINST_DENSE, AGAINST_LOCAL

COMPILED = Case(16, 3, 8)
LARGE = Case(64, 1, 2, batch=8)  # 33.5 million weights
ON_DENSE = [DENSE, DENSE_L2, SOFT, NAIVE]
# Without LocallyConnected2D's third implementation: half a minute, and never the best.
ON_LOCAL = [CONV, HALOS[0], HALOS[2], LOCAL[1], LOCAL[2]]
STARTS = 2
LATER_STEPS = 2
GRID = [
    (Setting(), LARGE, [DENSE_L2, SOFT]),
    (Setting(jit_compile=True), LARGE, [DENSE_L2, SOFT]),
    (Setting("jax"), LARGE, [DENSE_L2, SOFT]),
    (Setting("torch"), LARGE, [DENSE_L2, SOFT]),
    (Setting(), AGAINST_DENSE, ON_DENSE),
    (Setting(), AGAINST_LOCAL, ON_LOCAL),
    (Setting(jit_compile=True), AGAINST_LOCAL, [HALOS[0], LOCAL[1]]),
    (Setting("torch", jit_compile=True), COMPILED, [CONV, SOFT, HALOS[1]]),
]
QUICK_GRID = [(Setting(), Case(6, 2, 3, batch=8), [DENSE_L2, SOFT])]


@dataclass
class Start:
    """Seconds of one entry's first step and later ones, megabytes of its graph."""

    setting: Setting
    entry: Entry
    first: list[float] = field(default_factory=list)
    later: list[float] = field(default_factory=list)
    graph: float | None = None
    problem: str | None = None


def measure(laboratory: Laboratory, quick: bool = False) -> list[Start]:
    """Some starts of each entry, those with the same layer and setting in turn."""
    starts = []
    for setting, case, contenders in QUICK_GRID if quick else GRID:
        entries = entries_of(laboratory, setting, contenders, case)
        group = [Start(setting, entry) for entry in entries]
        for _ in range(STARTS):
            for start in group:
                _try_to_start(laboratory, start)
        laboratory.end_workers()
        starts += group
    return starts


def _try_to_start(laboratory: Laboratory, start: Start) -> None:
    if start.problem is not None:
        return
    try:
        _start(laboratory, start)
    except WorkerError as error:
        start.problem = str(error)


def _start(laboratory: Laboratory, start: Start) -> None:
    setting, entry = start.setting, start.entry
    start.first.append(make(laboratory, setting, entry))
    worker = laboratory.worker(setting, entry.contender)
    start.later.append(run(laboratory, setting, entry, LATER_STEPS) / LATER_STEPS)
    plain = setting.backend == "tensorflow" and not setting.jit_compile
    if plain and entry.contender in ON_DENSE and start.graph is None:
        start.graph = worker.ask("export", name=str(entry))
    worker.ask("drop", name=str(entry))


def render(starts: list[Start]) -> str:
    header = ["layer", "setting", "contender", "first step, s", "least to most, s"]
    header += ["later step, s", "SavedModel graph, MB"]
    problems = [
        f"- {start.entry.contender}, {start.entry.case}, {start.setting}: {start.problem}"
        for start in starts
        if start.problem is not None
    ]
    return "\n".join([table(header, map(_row, starts)), *problems])


def _row(start: Start) -> list[str]:
    names = [str(start.entry.case), str(start.setting), start.entry.contender]
    if start.problem is not None:
        return [*names, *["failed"] * 4]
    spread = f"{short(min(start.first))} to {short(max(start.first))}"
    graph = LEFT_OUT if start.graph is None else short(start.graph)
    times = [short(median(start.first)), spread, short(median(start.later))]
    return [*names, *times, graph]


if __name__ == "__main__":
    print_section(__doc__, measure, render)
