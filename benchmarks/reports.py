"""Ratios, markdown tables, and what stands above each of them."""

import argparse
import datetime
import os
import platform
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from cases import Entry
from laboratory import KERAS2, Contest, Laboratory

LEFT_OUT = "-"


@dataclass(frozen=True)
class Ratio:
    """Median and quartiles of the ratios of single rounds."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{short(self.median)} ({short(self.low)} to {short(self.high)})"


def ratio(seconds: Sequence[float], reference: Sequence[float]) -> Ratio:
    """Compare round by round, since the machine may be slower in some rounds."""
    ratios = [a / b for a, b in zip(seconds, reference, strict=True)]
    if len(ratios) == 1:
        return Ratio(*ratios * 3)
    low, middle, high = quantiles(ratios, n=4, method="inclusive")
    return Ratio(middle, low, high)


def step_ratio(contest: Contest, entry: Entry, reference: Entry) -> Ratio | None:
    """How many times the reference's step a step takes; None if one was not measured."""
    if entry not in contest.steps or reference not in contest.steps:
        return None
    return ratio(contest.steps[entry], contest.steps[reference])


def ratio_cell(contest: Contest, entry: Entry, reference: Entry) -> str:
    """The ratio of two steps as it stands in a table."""
    if entry in contest.problems or reference in contest.problems:
        return "failed"
    found = step_ratio(contest, entry, reference)
    return LEFT_OUT if found is None else str(found)


def milliseconds_cell(contest: Contest, entry: Entry) -> str:
    """The median step as it stands in a table."""
    if entry in contest.problems:
        return "failed"
    if entry not in contest.steps:
        return LEFT_OUT
    return short(1e3 * median(contest.steps[entry]))


def short(number: float) -> str:
    """Two or three significant digits, no more than three decimals, no exponent."""
    for digits, limit in ((3, 0.1), (2, 10), (1, 100)):
        if abs(number) < limit:
            return f"{number:.{digits}f}"
    return f"{number:.0f}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def problem_notes(contests: Iterable[Contest]) -> str:
    """Why entries failed, below a table."""
    notes = {
        f"- {entry.contender}, {entry.case}, {contest.setting}: {problem[:160]}"
        for contest in contests
        for entry, problem in contest.problems.items()
    }
    return "\n".join(["Failed:", "", *sorted(notes)]) if notes else ""


def circumstances(laboratory: Laboratory) -> str:
    """Date, machine and versions, to stand above a table."""
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    versions = ", ".join(f"{name} {number}" for name, number in laboratory.versions.items())
    return f"*{date}; {_processor()}, {os.cpu_count()} cores; {system}; {versions}.*"


def replace_between_markers(document: str, name: str, text: str) -> str:
    """The document with `text` between the markers of `name`."""
    begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
    if document.count(begin) != 1 or document.count(end) != 1:
        raise ValueError(
            f"The document must have the lines '{begin}' and '{end}' once each. "
            "Add them where the table is to stand."
        )
    pattern = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    return pattern.sub(lambda _: f"{begin}\n\n{text}\n\n{end}", document)


def write(path: Path, name: str, text: str) -> None:
    """Put one section's tables into the document."""
    document = path.read_text(encoding="utf-8")
    path.write_text(replace_between_markers(document, name, text), encoding="utf-8")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(
            line.partition(":")[2].strip()
            for line in lines
            if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def command_line(description: str) -> argparse.ArgumentParser:
    """What every script takes from the command line."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny cases, to try it out")
    parser.add_argument(
        "--keras2", type=Path, default=KERAS2, help="interpreter of the Keras 2 environment"
    )
    return parser


def section(
    laboratory: Laboratory,
    measure: Callable[[Laboratory, bool], Any],
    render: Callable[[Any], str],
    quick: bool,
) -> tuple[Any, str]:
    """Measure, and write what was found under the circumstances."""
    found = measure(laboratory, quick)
    return found, f"{circumstances(laboratory)}\n\n{render(found)}"


def print_section(description: str, measure: Callable, render: Callable) -> None:
    """The main function of a script that runs alone."""
    options = command_line(description).parse_args()
    with Laboratory(options.keras2) as laboratory:
        print(section(laboratory, measure, render, options.quick)[1])
