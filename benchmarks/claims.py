"""What the package claims of its cost, and what the measurements say to it.

`run_all.py` prints this table from the same measurements as all the others.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

import first_steps
import memory
import scaling
import steps
from cases import (
    CONV,
    CORES,
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
from laboratory import Contest
from reports import LEFT_OUT, short, step_ratio, table

ON_TENSORFLOW = [
    Setting(jit_compile=jit_compile, cores=cores)
    for cores in dict.fromkeys((CORES, 1))
    for jit_compile in (False, True)
]


@dataclass(frozen=True)
class Claim:
    """A number that is to stay below or above a target."""

    text: str
    layer: Case | str
    setting: Setting
    target: float
    value: float | None
    script: str
    at_least: bool = False

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        met = self.value >= self.target if self.at_least else self.value <= self.target
        return "met" if met else "**missed**"


@dataclass(frozen=True)
class Findings:
    """What the other scripts measured."""

    steps: dict[Case, list[Contest]]
    first_steps: list[first_steps.Start]
    memory: list[memory.Peak]
    scaling: list[Contest]

    def step_ratio(
        self, setting: Setting, case: Case, name: str, reference: str
    ) -> float | None:
        for contest in self.steps.get(case, []):
            if contest.setting == setting:
                found = step_ratio(contest, Entry(name, case), Entry(reference, case))
                return found and found.median
        return None

    def first_step(self, setting: Setting, case: Case, name: str) -> float | None:
        for start in self.first_steps:
            if (start.setting, start.entry) == (setting, Entry(name, case)) and start.first:
                return median(start.first)
        return None

    def best_local(self, setting: Setting) -> str | None:
        """Keras 2's implementation with the shortest step."""
        case = steps.AGAINST_LOCAL
        times = {
            name: self.step_ratio(setting, case, name, CONV) for name in LOCAL.values()
        }
        measured = {name: time for name, time in times.items() if time is not None}
        return min(measured, key=measured.get, default=None)

    def exponent(self, setting: Setting, name: str) -> float | None:
        for contest in self.scaling:
            for curve in scaling.curves(contest):
                if (curve.setting, curve.name, curve.along) == (setting, name, "image"):
                    # A fixed cost of small images flatters the fit over all sides.
                    powers = curve.exponent, curve.last_exponent
                    return None if None in powers else max(powers)
        return None


def claims(found: Findings) -> list[Claim]:
    """All of them, in the order of the table."""
    return [
        *_against_dense(found),
        *_memory_against_dense(found),
        *_against_conv(found),
        *_against_local(found),
        *_growth(found),
        *_large(found),
    ]


def _against_dense(found: Findings) -> Iterator[Claim]:
    case, script = steps.AGAINST_DENSE, "steps.py"
    for setting in ON_TENSORFLOW:
        beside_l2 = 1.30 if setting.jit_compile else 1.05
        for name, target in ((DENSE_L2, beside_l2), (DENSE, 1.15)):
            value = found.step_ratio(setting, case, SOFT, name)
            yield Claim(f"A. step / {name}", case, setting, target, value, script)
        value = found.step_ratio(setting, case, NAIVE, SOFT)
        yield Claim("A. naive step / step", case, setting, 3, value, script, at_least=True)


def _memory_against_dense(found: Findings) -> Iterator[Claim]:
    case = steps.AGAINST_DENSE
    for setting in (*ON_TENSORFLOW[:2], Setting("jax"), Setting("torch")):
        value = memory.added_ratio(found.memory, setting, Entry(SOFT, case), DENSE)
        text = f"A. peak memory / {DENSE}"
        yield Claim(text, case, setting, 1.1, value, "memory.py")


def _against_conv(found: Findings) -> Iterator[Claim]:
    case = steps.AGAINST_CONV
    for setting in ON_TENSORFLOW:
        for halo, target in ((0, 2.5), (2, 5)):
            value = found.step_ratio(setting, case, HALOS[halo], CONV)
            text = f"B. halo {halo}: step / {CONV}"
            yield Claim(text, case, setting, target, value, "steps.py")


def _against_local(found: Findings) -> Iterator[Claim]:
    case, halo = steps.AGAINST_LOCAL, HALOS[0]
    for setting in ON_TENSORFLOW:
        best = found.best_local(setting) or LOCAL[1]
        value = found.step_ratio(setting, case, best, halo)
        text = f"B. step of {best} / halo 0"
        yield Claim(text, case, setting, 2, value, "steps.py", at_least=True)
    for setting in ON_TENSORFLOW[:2]:
        best = found.best_local(setting) or LOCAL[1]
        theirs, ours = (found.first_step(setting, case, name) for name in (best, halo))
        value = theirs / ours if theirs and ours else None
        text = f"B. first step of {best} / halo 0"
        yield Claim(text, case, setting, 10, value, "first_steps.py", at_least=True)


def _growth(found: Findings) -> Iterator[Claim]:
    layer = f"{scaling.CHANNELS} to {scaling.FILTERS} channels, sides {scaling.SIDES}"
    for setting in scaling.SETTINGS:
        for halo in (0, 1):
            value = found.exponent(setting, HALOS[halo])
            text = f"C. halo {halo}: exponent of the side"
            yield Claim(text, layer, setting, 2.2, value, "scaling.py")
    entry = Entry(HALOS[1], memory.LARGE_IMAGES)
    totals = {peak.setting: peak.total for peak in found.memory if peak.entry == entry}
    for setting in ON_TENSORFLOW[:2]:
        total = totals.get(setting)
        value = total and total / 1e3
        text = "C. halo 1: peak of the whole process, GB"
        yield Claim(text, entry.case, setting, 6, value, "memory.py")


def _large(found: Findings) -> Iterator[Claim]:
    case = first_steps.LARGE
    for setting in (*ON_TENSORFLOW[:2], Setting("jax"), Setting("torch")):
        ours, theirs = (found.first_step(setting, case, name) for name in (SOFT, DENSE_L2))
        value = None if None in (ours, theirs) else ours - theirs
        text = f"D. first step less that of {DENSE_L2}, s"
        yield Claim(text, case, setting, 4, value, "first_steps.py")


def render(found: Findings) -> str:
    """A row for each claim; what was missed is in bold."""
    rows = [
        [
            claim.text,
            str(claim.layer),
            str(claim.setting),
            f"{'>=' if claim.at_least else '<='} {claim.target:g}",
            LEFT_OUT if claim.value is None else short(claim.value),
            claim.verdict,
            f"`{claim.script}`",
        ]
        for claim in claims(found)
    ]
    header = ["claim", "layer", "setting", "target", "measured", "", "script"]
    return table(header, rows)
