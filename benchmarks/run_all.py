"""Runs all benchmarks and writes their tables into docs/performance.md.

    python benchmarks/run_all.py [--quick] [--document docs/performance.md]

Each table replaces what stands between its two markers; the prose stays. In quick mode,
or with `--print`, nothing is written.
"""

import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import claims
import first_steps
import memory
import roofline
import scaling
import steps
from laboratory import Laboratory
from reports import circumstances, command_line, section, write

DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
SCRIPTS = {
    "steps": steps,
    "first_steps": first_steps,
    "memory": memory,
    "scaling": scaling,
    "roofline": roofline,
}


def run(name: str, script: ModuleType, keras2: Path, quick: bool) -> tuple[Any, str, str]:
    """What a script found, the circumstances, and both as text; in workers of its own."""
    start = time.perf_counter()
    with Laboratory(keras2) as laboratory:
        found, text = section(laboratory, script.measure, script.render, quick)
        where = circumstances(laboratory)
    print(f"## {name}, {time.perf_counter() - start:.0f} s\n\n{text}\n", flush=True)
    return found, where, text


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    parser.add_argument("--print", action="store_true", help="write nothing")
    options = parser.parse_args()
    _warn_if_busy()
    found, where = {}, ""
    writes = not (options.quick or options.print)
    for name, script in SCRIPTS.items():
        found[name], where_now, text = run(name, script, options.keras2, options.quick)
        where = where or where_now  # the steps need everything installed
        if writes:
            write(options.document, name, text)
    findings = claims.Findings(
        **{name: found[name] for name in ("steps", "first_steps", "memory", "scaling")}
    )
    text = f"{where}\n\n{claims.render(findings)}"
    print(f"## claims\n\n{text}")
    if writes:
        write(options.document, "claims", text)
        scaling.draw(found["scaling"], options.document.parent / "scaling.png")


def _warn_if_busy() -> None:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 0.5:
        print(
            f"Warning: a load of {load:.1f} already: other programs disturb what is "
            "measured, torch on several cores the most.",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
