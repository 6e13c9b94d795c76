"""Python programs in processes of their own, as devices and backends need them."""

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SECONDS = 300  # many times what any program takes
# The package is that beside the tests, wherever it is installed.
SEARCHED = os.pathsep.join(map(str, (TESTS.parent, TESTS)))


def skip_without(backend) -> None:
    # Not by `importorskip`, which would import it.
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")


needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="jax is not installed"
)


def start(*arguments, python=sys.executable, **environment) -> subprocess.Popen:
    """Python with these arguments, which may import the modules of the tests."""
    return subprocess.Popen(
        [python, "-W", "ignore", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": SEARCHED, **environment},
    )


def finish(*processes, returncode=0) -> list[str]:
    """What the processes printed, or an error; none of them is left running."""
    try:
        printed = [process.communicate(timeout=SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, printed, strict=True):
        assert process.returncode == returncode, errors
    return [output for output, _ in printed]


def run(*arguments, returncode=0, **environment) -> str:
    """What one process printed."""
    return finish(start(*arguments, **environment), returncode=returncode)[0]


def host_devices(count) -> dict[str, str]:
    """Environment in which JAX takes the processor for `count` devices."""
    flag = f"--xla_force_host_platform_device_count={count}"
    return {"KERAS_BACKEND": "jax", "XLA_FLAGS": flag}


def free_address() -> str:
    """An address of this machine at which processes can meet."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"
