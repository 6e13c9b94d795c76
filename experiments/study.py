"""What the studies share: the command line, grids, search, results on disk and in docs."""

import argparse
import datetime
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from comparison import Fit, Found, at_an_end, tuned

from keras_softconv.compat import keras

ROOT = Path(__file__).parents[1]
# Tables come into the documents as those of the benchmarks do.
sys.path.append(str(ROOT / "benchmarks"))
from reports import write  # noqa: E402

LOGS = Path("logs") / "evidence"
QUICK_LOGS = Path("logs") / "evidence-quick"  # never over the results of hours
RESULTS = ROOT / "experiments" / "results"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


class Method(Protocol):
    """What a study compares."""

    name: str

    def fits(self, draw: Any) -> list[Fit]:
        """A fit with each setting of the grid."""


@dataclass(frozen=True)
class Study:
    """One script.

    Args:
        name: of its files.
        description: the first paragraph says what was measured.
        measure: from the options of the command line to all fits.
        render: from these to markdown tables by name.
        seeds: how many draws, unless the command line says otherwise.
        picture: draws the results into a file.
    """

    name: str
    description: str
    measure: Callable[[argparse.Namespace], Found]
    render: Callable[[Found], dict[str, str]]
    seeds: int = 5
    picture: Callable[[Found, Path], None] | None = None

    def main(self) -> None:
        """Measure, print the tables, leave results as JSON, Markdown and picture."""
        options = command_line(self.description, self.seeds)
        found = self.measure(options)
        tables = self.render(found)
        results = {
            "study": self.name,
            "command": f"python experiments/{self.name}.py" + " --quick" * options.quick,
            "circumstances": circumstances(),
            "seeds": options.seeds,
            "tables": tables,
            "best at an end of the grid": at_an_end(found),
            "tuned": {
                task: {name: tuned(fits) for name, fits in of_task.items()}
                for task, of_task in found.items()
            },
        }
        options.output.mkdir(parents=True, exist_ok=True)
        path = options.output / f"{self.name}.json"
        path.write_text(
            json.dumps(results, indent=1, default=float, ensure_ascii=False) + "\n"
        )
        text = "\n\n".join(tables.values())
        path.with_suffix(".md").write_text(text + "\n")
        if self.picture is not None:
            self.picture(found, path.with_suffix(".png"))
        print(f"\n{text}\n\nResults: {path}")
        if options.write:
            publish(self.name, options.output)


def publish(study: str, folder: Path) -> None:
    """Results beside the scripts, picture and tables into the docs."""
    RESULTS.mkdir(exist_ok=True)
    path = Path(shutil.copy(folder / f"{study}.json", RESULTS))
    picture = folder / f"{study}.png"
    if picture.exists():
        shutil.copy(picture, ROOT / "docs")
    write_tables(json.loads(path.read_text()))


def write_tables(results: dict) -> None:
    """Put the tables of a study where the markers of their names are."""
    for name, text in results["tables"].items():
        (document,) = (
            path for path in DOCUMENTS if f"<!-- begin: {name} -->" in path.read_text()
        )
        write(document, name, text)


def command_line(description: str, seeds: int) -> argparse.Namespace:
    """What every study takes from the command line."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little training, 2 seeds")
    parser.add_argument("--seeds", type=int, default=seeds, help="at least 2")
    parser.add_argument("--write", action="store_true", help="publish results and tables")
    parser.add_argument("--output", type=Path, help="folder of the results")
    options = parser.parse_args()
    options.output = options.output or (QUICK_LOGS if options.quick else LOGS)
    if options.quick:
        options.seeds = 2
    if options.seeds < 2:
        parser.error(f"standard errors need 2 seeds or more, not {options.seeds}")
    options.write &= not options.quick
    return options


def search(
    tasks: dict[str, Any],
    draw: Callable[[Any, int], Any],
    methods: Sequence[Method] | Callable[[Any], Sequence[Method]],
    seeds: int,
) -> Found:
    """Every fit of every method on every draw, with progress.

    Args:
        tasks: by name.
        draw: from a task and a seed to data.
        methods: for all tasks, or a function of the task.
        seeds: how many draws of each task.
    """
    of_each = {
        name: methods(task) if callable(methods) else methods
        for name, task in tasks.items()
    }
    total = seeds * sum(map(len, of_each.values()))
    progress = keras.utils.Progbar(total, unit_name="search")
    found: Found = {name: {one.name: [] for one in of_each[name]} for name in tasks}
    for name, task in tasks.items():
        for seed in range(seeds):
            data = draw(task, seed)
            for one in of_each[name]:
                found[name][one.name].append(one.fits(data))
                progress.add(1)
    return found


def powers(begin: float, end: float, per_decade: int = 2) -> list[float]:
    """Powers of ten from `begin` to `end`, by their logarithms."""
    count = round((end - begin) * per_decade) + 1
    return [10 ** (begin + index / per_decade) for index in range(count)]


def circumstances() -> dict[str, str]:
    """Date, machine and versions."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "keras": f"{keras.__version__} on {keras.backend.backend()}",
    }
