"""Run every study, two at a time, and put the tables into the docs.

    python experiments/evidence.py [studies] [--quick] [--keras2 .venv/keras2/bin/python]

Each study has one core to itself. With --quick each runs for seconds, to try it out, and
nothing is written but results in the folder `--output`.
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from study import LOGS, QUICK_LOGS, ROOT, publish

# The longest first.
KERAS2_STUDY = "decoupled_decay"
STUDIES = (
    KERAS2_STUDY,
    "departures",
    "violation",
    "digit_classes",
    "learned_classifiers",
    "learned_fused",
    "permuted_pixels",
    "planted_children",
    "defaults",
    "photographs",
    "digits",
    "path_choice",
    "learned_strengths",
    "shift_detection",
    "sunspots",
    "strengths",
)
ONE_CORE = {
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def run(study: str, options: argparse.Namespace) -> tuple[str, float, int]:
    """One study in a process of its own: name, seconds, exit status."""
    python = options.keras2 if study == KERAS2_STUDY else Path(sys.executable)
    script = ROOT / "experiments" / f"{study}.py"
    command = [python, "-W", "ignore", script, "--output", options.output]
    begin = time.monotonic()
    with open(options.output / f"{study}.log", "wb") as log:
        status = subprocess.run(
            [*map(str, command), *["--quick"] * options.quick],
            env={**os.environ, **ONE_CORE},
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    return study, time.monotonic() - begin, status


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="*", help="all, if none is named")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path, help="folder of the results")
    parser.add_argument(
        "--keras2", type=Path, default=ROOT / ".venv" / "keras2" / "bin" / "python"
    )
    options = parser.parse_args()
    options.output = options.output or (QUICK_LOGS if options.quick else LOGS)
    options.output.mkdir(parents=True, exist_ok=True)
    studies = list(options.studies or STUDIES)
    if KERAS2_STUDY in studies and not options.keras2.exists():
        studies.remove(KERAS2_STUDY)
        print(f"Left out: {KERAS2_STUDY}, since there is no {options.keras2}")
    print(f"{len(studies)} studies; what they print: {options.output}/*.log", flush=True)
    failed = []
    with ThreadPoolExecutor(max_workers=2) as pool:
        running = [pool.submit(run, study, options) for study in studies]
        for number, one in enumerate(as_completed(running), start=1):
            study, seconds, status = one.result()
            told = "done" if status == 0 else f"failed, exit status {status}"
            print(f"{number}/{len(studies)} {study}: {told}, {seconds:.0f} s", flush=True)
            if status:
                failed.append(study)
    for study in failed:
        print(f"\n{study}:\n{(options.output / f'{study}.log').read_text()[-3000:]}")
    if not options.quick:
        for study in studies:
            if study not in failed:
                publish(study, options.output)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
