"""Trainings that are resumed, interrupted, killed or refused, and what is in their logs."""

import operator
import warnings

import keras
import numpy as np
import processes
import pytest
from backends import BACKEND
from cheap_training import ignore_compiled_data, uncompiled
from event_files import (
    accumulated,
    fit,
    of_plugin,
    one_layer,
    steps,
    two_layers,
)
from keras.ops import convert_to_numpy as to_numpy
from tensorboard.backend.event_processing.plugin_event_accumulator import (
    EventAccumulator as PluginAccumulator,
)
from tensorboard.util.tensor_util import make_ndarray

from keras_softconv import SoftConv2D, structure_report
from keras_softconv.callbacks import StructureMonitor

pytestmark = pytest.mark.filterwarnings(ignore_compiled_data)


@pytest.fixture(autouse=True)
def not_compiled():
    with uncompiled():
        yield


def as_tensorboard_reads_it(folder, run="softconv") -> list[tuple]:
    """(step, value) of a tag, without those that are overtaken."""
    events = PluginAccumulator(str(folder / run)).Reload()
    found = events.Tensors("softconv/one/a/convolution_share")
    return [(one.step, make_ndarray(one.tensor_proto)) for one in found]


def test_two_fits_in_one_process_and_a_resumed_one_make_one_curve(images, tmp_path):
    model = two_layers()
    monitor = StructureMonitor(tmp_path, histogram_freq=1)
    fit(model, images, monitor, epochs=1)
    fit(model, images, monitor, epochs=1)
    model.save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    fit(model, images, StructureMonitor(tmp_path, histogram_freq=1), epochs=1)
    events = accumulated(tmp_path)
    for plugin, count in (("scalars", 14), ("histograms", 4)):
        logged = of_plugin(events, plugin)
        assert len(logged) == count
        assert all(steps(found) == [0, 2, 4, 6] for found in logged.values())
    share = of_plugin(events, "scalars")["softconv/two/a/convolution_share"]
    now = structure_report(model)["two/a"]["convolution_share"]
    np.testing.assert_allclose(share[-1][1], now, rtol=1e-6)


@pytest.mark.parametrize("kept", [2, 3])
def test_what_came_after_the_last_checkpoint_is_overtaken(
    images, tmp_path, kept, monkeypatch
):
    # `kept` steps are in the checkpoint; of 3, the start is not in the log.
    model = one_layer()
    x, y = images
    fit(model, images, StructureMonitor(tmp_path), epochs=1)
    if kept == 3:
        model.train_on_batch(x[:4], y[:4])
    model.save(tmp_path / "model.keras")
    fit(model, images, StructureMonitor(tmp_path), epochs=3)
    model = keras.models.load_model(tmp_path / "model.keras")
    monkeypatch.setattr("keras_softconv.callbacks.runs._runs", {})  # another process
    fit(model, images, StructureMonitor(tmp_path), epochs=1)
    found = as_tensorboard_reads_it(tmp_path)
    assert steps(found) == [0, 2, *range(3, kept + 1), kept + 2]
    now = structure_report(model)["one/a"]["convolution_share"]
    np.testing.assert_allclose(found[-1][1], now, rtol=1e-6)


def test_the_same_monitor_goes_back_to_an_earlier_step(images, tmp_path):
    model, monitor = one_layer(), StructureMonitor(tmp_path, update_freq=1)
    fit(model, images, monitor, epochs=1)
    model.save(tmp_path / "model.keras")

    def interrupt(batch, logs):
        if int(to_numpy(model.optimizer.iterations)) == 5:
            raise KeyboardInterrupt

    interrupting = keras.callbacks.LambdaCallback(on_train_batch_end=interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(model, images, monitor, interrupting, epochs=2)
    back = keras.models.load_model(tmp_path / "model.keras")
    for variables in ("variables", "optimizer.variables"):
        now, then = (operator.attrgetter(variables)(one) for one in (model, back))
        for variable, value in zip(now, then, strict=True):
            variable.assign(value)
    fit(model, images, monitor, epochs=2)
    assert steps(as_tensorboard_reads_it(tmp_path)) == list(range(7))


def test_a_new_model_without_weights_has_a_run_of_its_own(images, tmp_path):
    fit(one_layer(), images, StructureMonitor(tmp_path, 1), epochs=2)
    unbuilt = keras.Sequential([SoftConv2D(3, 3, padding="same", name="a")], name="one")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the start is not logged
        fit(unbuilt, images, StructureMonitor(tmp_path, 1), epochs=1)
    begins = [] if BACKEND == "tensorflow" else [0]
    assert steps(as_tensorboard_reads_it(tmp_path)) == [*range(5)]
    second = as_tensorboard_reads_it(tmp_path, "softconv_2_one")
    assert steps(second) == [*begins, 1, 2]


def test_pictures_of_a_step_are_written_once(images, tmp_path):
    model, monitor = one_layer(), StructureMonitor(tmp_path, 3, histogram_freq=1)
    fit(model, images, monitor, epochs=1)
    fit(model, images, monitor, epochs=1)
    for found in of_plugin(accumulated(tmp_path), "histograms").values():
        assert steps(found) == [0, 2, 4]


class Forgetful(keras.Model):
    """Has a layer that it does not call."""

    def __init__(self):
        super().__init__(name="forgetful")
        self.used = keras.layers.Conv2D(3, 3, padding="same")
        self.unused = SoftConv2D(3, 3, name="unused")

    def call(self, inputs):
        return self.used(inputs)


def test_a_layer_that_is_not_called_is_left_out(images, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(Forgetful(), images, StructureMonitor(tmp_path), epochs=2)
    assert of_plugin(accumulated(tmp_path), "scalars") == {}


def test_a_model_that_proves_to_have_no_soft_layers(images, tmp_path):
    model = keras.Sequential([keras.layers.Conv2D(3, 3, padding="same")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=r"found no SoftConv layer to watch"):
            fit(model, images, StructureMonitor(tmp_path), epochs=2)


CRASH = """
import os, sys
import keras, numpy as np
from keras_softconv import SoftConv2D
from keras_softconv.callbacks import StructureMonitor

model = keras.Sequential([keras.Input((5, 4, 1)), SoftConv2D(1, 2, name="s")], name="m")
model.compile("sgd", "mse")
crash = keras.callbacks.LambdaCallback(
    on_epoch_begin=lambda epoch, logs: os._exit(9) if epoch == 2 else None
)
x = np.ones((4, 5, 4, 1))
model.fit(x, x[:, 1:, 1:], epochs=5, verbose=0, batch_size=2,
          callbacks=[StructureMonitor(sys.argv[1]), crash])
"""


@pytest.mark.slow
def test_a_training_that_is_killed_leaves_a_readable_log(tmp_path):
    processes.run("-c", CRASH, tmp_path, returncode=9)
    logged = of_plugin(accumulated(tmp_path), "scalars")
    assert len(logged) == 7
    assert all(steps(found) == [0, 2, 4] for found in logged.values())


def test_a_training_that_fails_leaves_a_readable_log_and_can_go_on(images, tmp_path):
    def steps_by_tag():
        logged = of_plugin(accumulated(tmp_path), "scalars")
        return [steps(found) for found in logged.values()]

    def fail(epoch, logs):
        if epoch == 1:
            # Whatever becomes of the process now, this is on the disk already.
            assert steps_by_tag() == [[0, 2, 4]] * 7
            raise RuntimeError("the data are gone")

    model, monitor = one_layer(), StructureMonitor(tmp_path)
    failing = keras.callbacks.LambdaCallback(on_epoch_end=fail)
    with pytest.raises(RuntimeError, match="gone"):
        fit(model, images, monitor, failing)
    fit(model, images, monitor, epochs=1)
    assert steps_by_tag() == [[0, 2, 4, 6]] * 7
