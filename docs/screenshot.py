"""Photograph a TensorBoard dashboard with headless Chromium.

python docs/screenshot.py LOG_DIR [--dashboard custom_scalars] [--output tensorboard.png]
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.request import urlopen

SECONDS = 120  # many times what a start takes
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@contextmanager
def serving(log_dir: Path) -> Iterator[str]:
    """The address of a TensorBoard server that shows the logs of a folder."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(log_dir)]
    command += ["--host", "127.0.0.1", "--port", "0"]  # a free one
    with tempfile.TemporaryFile("w+") as said:
        server = subprocess.Popen(command, stderr=said)
        try:
            address = _wait_for(lambda: _address(said), server)
            _wait_for(lambda: ask(address, "runs"), server)
            yield address
        finally:
            server.terminate()
            server.wait(SECONDS)


def _address(said: IO[str]) -> str | None:
    said.seek(0)
    found = re.search(r" at (http://\S+)", said.read())
    return found and found[1]


def _wait_for(question: Callable[[], Any], server: subprocess.Popen) -> Any:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        if answer := question():
            return answer
        time.sleep(0.2)
    raise RuntimeError("TensorBoard did not start, or found no run to show.")


def ask(address: str, question: str) -> Any:
    """What TensorBoard's HTTP API answers."""
    with urlopen(f"{address.rstrip('/')}/data/{question}", timeout=SECONDS) as answer:
        return json.load(answer)


def browser() -> str | None:
    """The path of a Chromium, None where there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def photograph(address: str, output: Path, size: tuple[int, int] = (1500, 1150)) -> None:
    """Write a picture of a page, scripts and all."""
    command = [browser(), "--headless=new", "--no-sandbox", "--hide-scrollbars"]
    command += ["--disable-gpu", f"--window-size={size[0]},{size[1]}"]
    command += ["--virtual-time-budget=25000", f"--screenshot={output}", address]
    subprocess.run(command, check=True, capture_output=True, timeout=2 * SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log_dir", type=Path)
    parser.add_argument("--dashboard", default="custom_scalars")
    parser.add_argument("--output", type=Path, default=Path("tensorboard.png"))
    options = parser.parse_args()
    if browser() is None:
        parser.error(f"found none of {', '.join(BROWSERS)}: install Chromium")
    with serving(options.log_dir) as address:
        photograph(f"{address}#{options.dashboard}", options.output)
    print(f"Picture: {options.output}")


if __name__ == "__main__":
    main()
