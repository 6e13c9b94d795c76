"""How long a training step takes, against dense layers and against convolutions.

python benchmarks/steps.py [--quick]
"""

from cases import (
    CONV,
    CONV_KERAS2,
    DENSE,
    DENSE_L2,
    HALOS,
    LOCAL,
    NAIVE,
    SOFT,
    Case,
    Entry,
    Setting,
)
from laboratory import QUICK, Contest, Effort, Laboratory, entries_of, hold_contest
from reports import milliseconds_cell, print_section, problem_notes, ratio_cell, table

ON_HALOS = [HALOS[halo] for halo in (0, 1, 2, 4)]
BESIDE_DENSE = [DENSE, DENSE_L2, SOFT, NAIVE]
BESIDE_CONV = [CONV, *ON_HALOS]

# The three cases that the claims are about, and others around them.
AGAINST_DENSE = Case(24, 3, 16)
AGAINST_CONV = Case(32, 3, 16)
AGAINST_LOCAL = Case(32, 3, 16, padding="valid")
CLAIMED = [AGAINST_DENSE, AGAINST_CONV, AGAINST_LOCAL]
OTHERS = [
    Case(8, 1, 8),
    Case(8, 64, 64, batch=8),
    Case(16, 16, 16, batch=256),
    Case(64, 1, 2, batch=8),
    Case(64, 16, 16),
]
GRID = [
    (Setting(), [*CLAIMED, *OTHERS]),
    (Setting(jit_compile=True), CLAIMED),
    (Setting(onednn=False), CLAIMED[:2]),
    (Setting(cores=1), CLAIMED),
    (Setting(jit_compile=True, cores=1), CLAIMED),
    (Setting("jax"), [*CLAIMED[:2], OTHERS[0]]),
    (Setting("torch"), CLAIMED[:2]),
]
QUICK_GRID = [(Setting(), [Case(6, 2, 3, batch=8)])]


def measure(laboratory: Laboratory, quick: bool = False) -> dict[Case, list[Contest]]:
    """A contest for each case in each setting."""
    contests = {}
    for setting, cases in QUICK_GRID if quick else GRID:
        for case in cases if laboratory.has_setting(setting) else ():
            entries = entries_of(laboratory, setting, _contenders(case), case)
            effort = Effort() if case in CLAIMED else Effort(rounds=4)
            contest = hold_contest(laboratory, setting, entries, QUICK if quick else effort)
            contests.setdefault(case, []).append(contest)
    return contests


def _contenders(case: Case) -> list[str]:
    # The claims on the dense storage and on halos are each about one layer.
    return {
        AGAINST_DENSE: BESIDE_DENSE,
        AGAINST_LOCAL: [CONV, HALOS[0], CONV_KERAS2, *LOCAL.values()],
        AGAINST_CONV: BESIDE_CONV,
    }.get(case, [DENSE, DENSE_L2, SOFT, *BESIDE_CONV])


def render(contests: dict[Case, list[Contest]]) -> str:
    """Two tables of ratios, one against Dense and one against Conv2D."""
    pairs = [(case, contest) for case, found in contests.items() for contest in found]
    parts = [
        "Against dense layers:",
        _against_dense(pairs),
        "Against convolutions:",
        _against_conv(pairs),
        problem_notes(contest for _, contest in pairs),
    ]
    return "\n\n".join(filter(None, parts))


def _against_dense(pairs: list[tuple[Case, Contest]]) -> str:
    comparisons = [(DENSE_L2, DENSE), (SOFT, DENSE), (SOFT, DENSE_L2), (NAIVE, SOFT)]
    return _table(pairs, DENSE, comparisons)


def _against_conv(pairs: list[tuple[Case, Contest]]) -> str:
    others = [*ON_HALOS, *LOCAL.values(), CONV_KERAS2]
    return _table(pairs, CONV, [(name, CONV) for name in others])


def abbreviate(contender: str) -> str:
    """A name that is short enough for the head of a column."""
    for number, name in LOCAL.items():
        if contender == name:
            return f"Keras 2 local {number}"
    return contender.removeprefix(f"{SOFT}, ")


def _table(
    pairs: list[tuple[Case, Contest]], base: str, comparisons: list[tuple[str, str]]
) -> str:
    header = ["layer", "setting", f"{base}, ms"]
    header += [f"{abbreviate(name)} / {abbreviate(ref)}" for name, ref in comparisons]
    rows = [
        [
            str(case),
            str(contest.setting),
            milliseconds_cell(contest, Entry(base, case)),
            *(
                ratio_cell(contest, Entry(name, case), Entry(reference, case))
                for name, reference in comparisons
            ),
        ]
        for case, contest in pairs
        if Entry(base, case) in contest.steps or Entry(base, case) in contest.problems
    ]
    return table(header, rows)


if __name__ == "__main__":
    print_section(__doc__, measure, render)
