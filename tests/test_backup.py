"""Training that is killed and started again ends where it would have ended anyway."""

import signal
from functools import cache

import keras
import numpy as np
import pytest
from backends import forget, not_on_keras_2
from event_files import read
from keras.callbacks import BackupAndRestore
from keras.ops import convert_to_numpy as to_numpy
from processes import run
from soft_models import soft_model

from keras_softconv.callbacks import StructureMonitor

EPOCHS, BATCHES = 3, 4
HALOS = {"dense": None, "halo": 1}


class Stop(keras.callbacks.Callback):
    """Stops the process, or what else is given, in the second batch of the last epoch."""

    def __init__(self, stop):
        super().__init__()
        self.stop = stop

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (EPOCHS - 1, 1):
            self.stop()


def train(callbacks, **arguments) -> keras.Model:
    """Always the same model, which has the same name, data and order."""
    forget()
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    x, y = (random.normal(size=(8, 5, 4, channels)) for channels in (2, 3))
    model = soft_model(**arguments)
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    model.fit(
        x, y, batch_size=2, epochs=EPOCHS, shuffle=False, callbacks=callbacks, verbose=0
    )
    return model


def callbacks_of(folder, order) -> list[keras.callbacks.Callback]:
    both = [
        StructureMonitor(folder / "logs", update_freq="batch"),
        BackupAndRestore(folder / "backup"),
    ]
    return both if order == "monitor first" else both[::-1]


KILLED = """
import os, signal, sys
from pathlib import Path
import door
from test_backup import HALOS, Stop, callbacks_of, train

kill = Stop(lambda: os.kill(os.getpid(), signal.SIGKILL))
train([*callbacks_of(Path(sys.argv[1]), sys.argv[2]), kill], halo=HALOS[sys.argv[3]])
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A function of the storage: the weights and logs of a training that nobody stops."""

    @cache
    def trained(storage):
        folder = tmp_path_factory.mktemp(storage)
        model = train([StructureMonitor(folder, "batch")], halo=HALOS[storage])
        return [to_numpy(one).copy() for one in model.variables], read(folder / "softconv")

    return trained


def check_resumed(folder, order, storage, undisturbed):
    """Training that goes on in a folder ends where it does undisturbed."""
    weights, logged = undisturbed
    before = list((folder / "logs" / "softconv").iterdir())
    resumed = train(callbacks_of(folder, order), halo=HALOS[storage])
    for ours, theirs in zip(resumed.variables, weights, strict=True):
        np.testing.assert_allclose(to_numpy(ours), theirs, rtol=1e-6, atol=1e-7)
    check_logs(folder, before, logged)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("order", "storage"), [("monitor first", "dense"), ("backup first", "halo")]
)
def test_resumes_after_being_killed(tmp_path, order, storage, undisturbed):
    backend = {"KERAS_BACKEND": keras.backend.backend()}
    run("-c", KILLED, tmp_path, order, storage, returncode=-signal.SIGKILL, **backend)
    check_resumed(tmp_path, order, storage, undisturbed(storage))


class Stopped(Exception):
    pass


def stop():
    raise Stopped


def test_resumes_after_being_stopped(tmp_path, undisturbed):
    order, storage = "monitor first", "dense"
    with pytest.raises(Stopped):
        train([*callbacks_of(tmp_path, order), Stop(stop)], halo=HALOS[storage])
    check_resumed(tmp_path, order, storage, undisturbed(storage))


def check_logs(folder, before, expected):
    """Both parts are whole; what came after the backup stands there twice and alike."""
    logs = folder / "logs" / "softconv"
    (part,) = before
    (rest,) = set(logs.iterdir()) - set(before)
    saved, killed, last = BATCHES * (EPOCHS - 1), BATCHES * (EPOCHS - 1) + 2, 12
    for file, steps in (
        (part, list(range(killed + 1))),
        (rest, list(range(saved + 1, last + 1))),
        (logs, sorted([*range(killed + 1), *range(saved + 1, last + 1)])),
    ):
        logged = read(file)
        assert logged.keys() == expected.keys()
        for tag, events in logged.items():
            events = sorted(events)
            assert [step for step, _ in events] == steps
            values = dict(expected[tag])
            np.testing.assert_allclose(
                [value for _, value in events],
                [values[step] for step in steps],
                rtol=1e-5,
                atol=1e-7,
            )


@not_on_keras_2("goes on within the epoch")
def test_a_backup_within_an_epoch_begins_the_epoch_again(tmp_path):
    # Keras keeps the weights of the batch but goes back to the start of its epoch.
    def backup():
        return BackupAndRestore(tmp_path / "backup", save_freq=1)

    with pytest.raises(Stopped):
        train([StructureMonitor(tmp_path), backup(), Stop(stop)])
    model = train([StructureMonitor(tmp_path), backup()])
    assert int(to_numpy(model.optimizer.iterations)) == EPOCHS * BATCHES + 2
    for events in read(tmp_path / "softconv").values():
        assert [step for step, _ in events] == [0, 4, 8, 10, 14]
