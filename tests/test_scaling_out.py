"""The page on scaling out and its example do what they say."""

import re
from pathlib import Path

import pytest
from event_files import read, runs
from processes import finish, free_address, host_devices, needs_jax, run, start

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "scaling-out.md").read_text()
EXAMPLE = ROOT / "examples" / "train_on_many_devices.py"


def program(backend) -> str:
    """What the page shows for a backend; what has to come before all else is first."""
    setup, *blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    wanted = [block for block in blocks if f"# KERAS_BACKEND={backend}\n" in block]
    assert wanted
    wanted.sort(key=lambda block: "distribution.initialize()" not in block)
    return "\n".join([setup, *wanted])


def variables(address, count, process) -> dict[str, str]:
    """The environment by which processes find each other."""
    return {
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": address,
        "KERAS_DISTRIBUTION_NUM_PROCESSES": str(count),
        "KERAS_DISTRIBUTION_PROCESS_ID": str(process),
    }


@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")  # Keras's own default
def test_python_of_the_page_on_tensorflow(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(program("tensorflow"), "scaling-out.md", "exec"), {})
    assert list((tmp_path / "logs" / "softconv").iterdir())


@pytest.mark.slow
@needs_jax
def test_python_of_the_page_on_jax(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    alone = variables(free_address(), 1, 0)
    run("-c", program("jax"), **host_devices(2), **alone)
    assert len(runs(tmp_path / "logs")) == 3


def test_links_of_the_page_exist():
    for link in re.findall(r"\]\((\.\.[^)]+)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link


def results(printed) -> list[float]:
    loss, accuracy = re.search(r"test loss (\S+), accuracy (\S+)", printed).groups()
    return [float(loss), float(accuracy)]


@pytest.mark.slow
@needs_jax
def test_the_example_in_two_processes(tmp_path):
    address = free_address()
    processes = [
        start(
            EXAMPLE, "--epochs", "2", "--shard", "--log-dir", tmp_path / str(process),
            **host_devices(2), **variables(address, 2, process),
        )
        for process in range(2)
    ]  # fmt: skip
    first, second = map(results, finish(*processes))
    assert first == second
    assert first[1] > 0.75
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


@pytest.mark.slow
def test_the_example_on_two_devices_of_tensorflow(tmp_path):
    options = "--epochs", "2", "--devices", "2", "--log-dir", tmp_path
    printed = run(EXAMPLE, *options, KERAS_BACKEND="tensorflow")
    assert results(printed)[1] > 0.75
    assert f"tensorboard --logdir {tmp_path}" in printed
    for events in read(tmp_path / "softconv").values():
        assert [step for step, _ in events] == [0, 35, 70]
