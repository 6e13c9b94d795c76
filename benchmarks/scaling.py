"""How the cost of a step grows with the side of the image and with the halo.

    python benchmarks/scaling.py [--quick] [--plot scaling.png]

A layer's side, and the side of its window (kernel and halo on both sides), are varied;
`p` is fitted to `seconds = constant * side^p` by least squares on the logarithms.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from pathlib import Path
from statistics import linear_regression, median

from cases import CONV, HALOS, SOFT, Case, Entry, Setting
from laboratory import QUICK, Contest, Effort, Laboratory, entries_of, hold_contest
from reports import LEFT_OUT, command_line, problem_notes, section, short, table

SIDES = (16, 24, 32, 64, 128)
WINDOW_SIDE = 32
QUICK_SIDES = (6, 9)
QUICK_WINDOW_SIDE = 6
CHANNELS, FILTERS = 3, 8
SETTINGS = (Setting(), Setting(jit_compile=True))
OVER_SIDES = (CONV, HALOS[0], HALOS[1], SOFT)
OVER_WINDOWS = tuple(HALOS.values())


@dataclass(frozen=True)
class Curve:
    """Median seconds of a step over what was varied."""

    setting: Setting
    name: str
    along: str
    points: tuple[tuple[int, float], ...]

    @property
    def exponent(self) -> float | None:
        return exponent(*zip(*self.points, strict=True)) if len(self.points) > 1 else None

    @property
    def last_exponent(self) -> float | None:
        """Between the two largest sides, where a fixed cost weighs least."""
        return replace(self, points=self.points[-2:]).exponent


def exponent(sides: Sequence[float], seconds: Sequence[float]) -> float:
    """`p` of `seconds = constant * side^p`, by least squares on the logarithms."""
    return linear_regression([*map(log, sides)], [*map(log, seconds)]).slope


def measure(laboratory: Laboratory, quick: bool = False) -> list[Contest]:
    """In each setting one contest, of all sides and halos."""
    settings = SETTINGS[:1] if quick else SETTINGS
    effort = QUICK if quick else Effort(rounds=5)
    return [
        hold_contest(laboratory, setting, _entries(laboratory, setting, quick), effort)
        for setting in filter(laboratory.has_setting, settings)
    ]


def _entries(laboratory: Laboratory, setting: Setting, quick: bool) -> list[Entry]:
    entries = []
    for side in QUICK_SIDES if quick else SIDES:
        is_window_side = side == (QUICK_WINDOW_SIDE if quick else WINDOW_SIDE)
        names = dict.fromkeys((*OVER_SIDES, *(OVER_WINDOWS if is_window_side else ())))
        case = Case(side, CHANNELS, FILTERS)
        entries += entries_of(laboratory, setting, list(names), case)
    return entries


def curves(contest: Contest) -> list[Curve]:
    """Over the side of the image, for each contender, and over that of the window."""
    seconds = {entry: median(found) for entry, found in contest.steps.items()}
    over_sides = [
        Curve(
            contest.setting,
            name,
            "image",
            tuple((e.case.side, s) for e, s in seconds.items() if e.contender == name),
        )
        for name in OVER_SIDES
    ]
    return [*over_sides, Curve(contest.setting, *_over_windows(seconds))]


def _over_windows(seconds: dict[Entry, float]) -> tuple[str, str, tuple]:
    # The widest halos were measured at one side only, which is the one to take.
    sides = {entry.case.side for entry in seconds if entry.contender == HALOS[4]}
    points = tuple(
        (entry.case.kernel_size + 2 * halo, seconds[entry])
        for halo, name in HALOS.items()
        for entry in seconds
        if entry.contender == name and entry.case.side in sides
    )
    return f"{SOFT}, {side_text(sides)}", "window", points


def side_text(sides: set[int]) -> str:
    return " and ".join(f"{side}x{side}" for side in sorted(sides)) or "not measured"


def render(contests: list[Contest]) -> str:
    header = ["setting", "contender", "side of", "sides and ms of a step", "exponent"]
    header += ["of the last two sides"]
    rows = [_row(curve) for contest in contests for curve in curves(contest)]
    return "\n\n".join(filter(None, [table(header, rows), problem_notes(contests)]))


def _row(curve: Curve) -> list[str]:
    points = "; ".join(f"{side}: {short(1e3 * s)}" for side, s in curve.points)
    powers = [
        LEFT_OUT if power is None else f"{power:.2f}"
        for power in (curve.exponent, curve.last_exponent)
    ]
    return [str(curve.setting), curve.name, curve.along, points or LEFT_OUT, *powers]


def draw(contests: list[Contest], path: Path) -> None:
    """Both kinds of curves, with logarithmic axes, of the first setting."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="tight")
    for panel, along in zip(panels, ("image", "window"), strict=True):
        ticks = set()
        for curve in curves(contests[0]):
            if curve.along == along and curve.exponent is not None:
                sides, seconds = zip(*curve.points, strict=True)
                label = f"{curve.name}: side^{curve.exponent:.2f}"
                panel.loglog(sides, [1e3 * s for s in seconds], "o-", label=label)
                ticks.update(sides)
        panel.set_xticks(sorted(ticks), [str(side) for side in sorted(ticks)])
        panel.minorticks_off()
        panel.set_xlabel(f"side of the {along}, pixels")
        panel.margins(y=0.35)  # room for the legend below the curves
        panel.legend(fontsize=8, loc="lower right")
    panels[0].set_ylabel("training step, ms")
    figure.suptitle(f"{CHANNELS} to {FILTERS} channels, batch 32, {contests[0].setting}")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--plot", type=Path, help="write the curves to this picture")
    options = parser.parse_args()
    with Laboratory(options.keras2) as laboratory:
        contests, text = section(laboratory, measure, render, options.quick)
    print(text)
    if options.plot is not None:
        draw(contests, options.plot)


if __name__ == "__main__":
    main()
