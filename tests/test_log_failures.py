"""Logs that cannot be written, and folders on other file systems."""

import os
import re
import resource
import shutil
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import keras
import pytest
from backends import BACKEND, tensorflow_only
from cheap_training import ignore_compiled_data, uncompiled
from event_files import accumulated, fit, of_plugin, one_layer, read, runs, steps

from keras_softconv.callbacks import StructureMonitor
from keras_softconv.callbacks.log_folder import Attempts, GrowingFile

pytestmark = pytest.mark.filterwarnings(ignore_compiled_data)
CANNOT = "cannot read or write its log directory"


@pytest.fixture(autouse=True)
def not_compiled():
    with uncompiled():
        yield


@contextmanager
def files_of_at_most(size: int):
    """The operating system writes the beginning of what is longer, and then fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def one_warning_of(folder):
    """Exactly one warning, which names the folder."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    messages = [str(one.message) for one in caught if CANNOT in str(one.message)]
    assert len(messages) == 1
    assert f"'{folder}'" in messages[0]
    assert "The training goes on" in messages[0]


def epochs_of(model, images, monitor, *callbacks, epochs) -> int:
    """How many epochs were trained."""
    counted = []
    count = keras.callbacks.LambdaCallback(on_epoch_end=lambda e, logs: counted.append(e))
    fit(model, images, monitor, count, *callbacks, epochs=epochs)
    return len(counted)


@pytest.mark.parametrize("freq", [1, "epoch"])
def test_a_full_disk_is_one_warning_and_the_log_stays_readable(images, tmp_path, freq):
    model, monitor = one_layer(), StructureMonitor(tmp_path, freq)
    with files_of_at_most(8_000), one_warning_of(tmp_path):
        assert epochs_of(model, images, monitor, epochs=6) == 6
    (file,) = (tmp_path / "softconv").iterdir()
    assert file.stat().st_size <= 8_000
    before = [steps(e) for e in of_plugin(accumulated(tmp_path), "scalars").values()]
    stride = 1 if freq == 1 else 2
    assert before == [list(range(0, before[0][-1] + 1, stride))] * 7
    assert 0 < before[0][-1] < 12
    # There is space again, and the same model goes on with its curve.
    fit(model, images, monitor, epochs=1)
    for events in read(tmp_path / "softconv").values():
        assert steps(events)[-1] == 14


@pytest.mark.parametrize("size", [0, 100])
def test_a_disk_that_was_always_full_leaves_no_file(images, tmp_path, size):
    monitor = StructureMonitor(tmp_path)
    with files_of_at_most(size), one_warning_of(tmp_path):
        assert epochs_of(one_layer(), images, monitor, epochs=2) == 2
    assert list((tmp_path / "softconv").iterdir()) == []


@pytest.mark.parametrize("removed", ["softconv", "."])
def test_a_folder_that_is_gone_is_made_again(images, tmp_path, removed, monkeypatch):
    monkeypatch.setattr("keras_softconv.callbacks.log_folder.PATIENCE", 0)
    folder = tmp_path / "logs"
    remove = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: epoch == 1 and shutil.rmtree(folder / removed)
    )
    with one_warning_of(folder):
        assert epochs_of(one_layer(), images, StructureMonitor(folder), remove, epochs=4)
    for events in read(folder / "softconv").values():
        assert steps(events) == [6, 8]  # that of the first attempt is lost
    assert of_plugin(accumulated(folder), "custom_scalars")  # the layout is there again


@pytest.mark.parametrize("place", ["below a file", "not to be made"])
def test_a_folder_that_cannot_be_made(images, tmp_path, place):
    (tmp_path / "file").write_text("kept")
    folder = tmp_path / "file" / "logs" if place == "below a file" else Path("/proc/logs")
    monitor = StructureMonitor(folder, histogram_freq=1)
    with one_warning_of(folder):
        assert epochs_of(one_layer(), images, monitor, epochs=3) == 3
    assert monitor.run_dir is None
    assert (tmp_path / "file").read_text() == "kept"


def test_a_folder_of_a_read_only_user(tmp_path, images):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with one_warning_of(tmp_path):
        assert epochs_of(one_layer(), images, StructureMonitor(tmp_path), epochs=2) == 2


def test_a_run_that_cannot_be_read_is_one_warning(images, tmp_path, monkeypatch):
    model = one_layer()
    fit(model, images, StructureMonitor(tmp_path), epochs=1)
    model.save(tmp_path / "model.keras")
    del model
    (file,) = (tmp_path / "softconv").iterdir()
    file.unlink()
    file.mkdir()  # which no reader of files can read
    resumed = keras.models.load_model(tmp_path / "model.keras")
    monkeypatch.setattr("keras_softconv.callbacks.runs._runs", {})  # another process
    with one_warning_of(tmp_path):
        assert epochs_of(resumed, images, StructureMonitor(tmp_path), epochs=2) == 2
    # What cannot be recognised is not gone on with.
    for events in read(tmp_path / "softconv_2_one").values():
        assert steps(events) == [2, 4, 6]


def test_a_picture_that_cannot_be_drawn_is_one_warning(images, tmp_path, monkeypatch):
    def fail(layer):
        raise OSError("no space for the cache of fonts")

    monkeypatch.setattr("keras_softconv.plots.legible", lambda layer: {"shades": fail})
    monitor = StructureMonitor(tmp_path, image_freq=1)
    with one_warning_of(tmp_path):
        assert epochs_of(one_layer(), images, monitor, epochs=3) == 3
    for events in read(tmp_path / "softconv").values():
        assert steps(events) == [0, 2, 4, 6]


def test_the_next_training_warns_again(images, tmp_path):
    (tmp_path / "file").write_text("")
    model, monitor = one_layer(), StructureMonitor(tmp_path / "file" / "logs")
    for _ in range(2):
        with one_warning_of(tmp_path / "file" / "logs"):
            fit(model, images, monitor, epochs=2)


def test_after_a_slow_failure_the_log_is_left_alone_for_a_while(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    attempts, called = Attempts("logs"), []

    def fail():
        called.append(now[0])
        now[0] += 60.0
        raise OSError("the network is down")

    with pytest.warns(UserWarning, match=CANNOT):
        attempts(fail)
    for _ in range(200):
        assert attempts(fail) is None
        now[0] += 10.0
    # Ten times as long as the failure took.
    assert called == [0.0, 660.0, 1320.0, 1980.0]
    now[0] = 2639.0
    assert attempts(lambda: 3) is None
    now[0] = 2641.0
    assert attempts(lambda: 3) == 3


def test_an_interrupt_while_writing_leaves_whole_records(tmp_path, monkeypatch):
    file = GrowingFile(tmp_path / "file")
    file.append(b"whole")
    with files_of_at_most(7), pytest.raises(OSError, match="too large"):
        file.append(b"record")
    assert (tmp_path / "file").read_bytes() == b"whole"
    file.append(b"record")
    assert (tmp_path / "file").read_bytes() == b"wholerecord"


# Other file systems.


@pytest.fixture
def without_tensorflow(monkeypatch):
    """TensorBoard's own file systems, as where TensorFlow is not installed."""
    from tensorboard.compat import tensorflow_stub

    monkeypatch.setattr("tensorboard.compat.tf", tensorflow_stub)


def copied(names, read_bytes, folder):
    """A local copy of the event files of a remote run."""
    (folder / "softconv").mkdir()
    for name in names:
        (folder / "softconv" / name.rpartition("/")[2]).write_bytes(read_bytes(name))
    return folder / "softconv"


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow has this file system")
def test_a_remote_file_system_of_tensorflow(images, tmp_path, monkeypatch):
    import tensorflow as tf

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("keras_softconv.callbacks.event_log.LARGEST_REMOTE_FILE", 6_000)
    address = f"ram://{tmp_path.name}/logs"
    model = one_layer()
    fit(model, images, StructureMonitor(address, 1), epochs=2)
    fit(model, images, StructureMonitor(address, 1), epochs=1)
    assert list(tmp_path.iterdir()) == []
    names = tf.io.gfile.glob(f"{address}/softconv/*")
    assert len(names) > 2  # a long log is in several files
    run = copied(names, lambda name: tf.io.gfile.GFile(name, "rb").read(), tmp_path)
    for events in read(run).values():
        assert steps(events) == list(range(7))


def test_a_remote_file_system_without_tensorflow(
    images, tmp_path, monkeypatch, without_tensorflow
):
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.chdir(tmp_path)
    fit(one_layer(), images, StructureMonitor("memory://logs"), epochs=2)
    other = one_layer()
    fit(other, images, StructureMonitor("memory://logs"), epochs=1)
    assert list(tmp_path.iterdir()) == []
    memory = fsspec.filesystem("memory")
    assert len(memory.ls("/logs")) == 2
    names = memory.glob("/logs/softconv/*")
    for events in read(copied(names, memory.cat_file, tmp_path)).values():
        assert steps(events) == [0, 2, 4]
    memory.rm("/logs", recursive=True)


@tensorflow_only
def test_a_remote_file_system_that_fails_is_one_warning(images, tmp_path, monkeypatch):
    import tensorflow as tf

    def refuse(*arguments):
        raise tf.errors.PermissionDeniedError(None, None, "no such credentials")

    address = f"ram://{tmp_path.name}/refused"
    monitor = StructureMonitor(address)
    monkeypatch.setattr(tf.io.gfile, "GFile", refuse)
    with one_warning_of(address):
        assert epochs_of(one_layer(), images, monitor, epochs=3) == 3


@pytest.mark.parametrize("has_tensorflow", [True, False])
@pytest.mark.parametrize("address", ["nowhere://bucket/run", "x-y.z+1://bucket"])
def test_an_unknown_file_system_is_refused(
    tmp_path, monkeypatch, request, address, has_tensorflow
):
    if not has_tensorflow:
        request.getfixturevalue("without_tensorflow")
    monkeypatch.chdir(tmp_path)
    scheme = re.escape(address.partition("/")[0])
    message = rf"TensorBoard does not know: '{scheme}//'.*Received: log_dir.*Give a local"
    with pytest.raises(ValueError, match=message):
        StructureMonitor(address)
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_whose_package_is_not_installed(without_tensorflow, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ValueError, match=r"does not know: 'gs://'"):
        StructureMonitor("gs://my-bucket/run")


@pytest.mark.parametrize("log_dir", ["gs:/my-bucket/run", Path("s3://my-bucket/run")])
def test_an_address_with_one_slash_is_no_local_folder(tmp_path, monkeypatch, log_dir):
    monkeypatch.chdir(tmp_path)
    message = (
        r"two slashes\. Received: log_dir=.*give a string such as '\w\w://bucket/logs'"
    )
    with pytest.raises(ValueError, match=message):
        StructureMonitor(log_dir)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("log_dir", ["~/logs", Path("~") / "logs"])
def test_the_home_folder(images, tmp_path, monkeypatch, log_dir):
    monkeypatch.setenv("HOME", str(tmp_path))
    monitor = StructureMonitor(log_dir)
    fit(one_layer(), images, monitor, epochs=1)
    assert monitor.log_dir == tmp_path / "logs"
    assert runs(tmp_path / "logs") == ["softconv"]
    assert monitor.run_dir == tmp_path / "logs" / "softconv"


def test_a_local_folder_with_a_colon(images, tmp_path):
    fit(one_layer(), images, StructureMonitor(tmp_path / "run:1"), epochs=1)
    assert runs(tmp_path / "run:1") == ["softconv"]
