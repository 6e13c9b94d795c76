"""No two models share a curve, and callbacks can be copied at any moment."""

import copy
import os
import pickle
import threading

import keras
import numpy as np
import processes
import pytest
import sklearn
from backends import KERAS_2, not_on
from cheap_training import ignore_compiled_data, uncompiled
from event_files import fit, loaded, of_plugin, one_layer, read, runs, soft_layers_of, steps

from keras_softconv import regularization_path, structure_report
from keras_softconv.callbacks import AdaptiveStrengths, StrengthSchedule, StructureMonitor

pytestmark = pytest.mark.filterwarnings(ignore_compiled_data)
# What is tested with these does not depend on the backend.
compiles_much = not_on("jax", "compiles each of several models")


@pytest.fixture(autouse=True)
def not_compiled():
    with uncompiled():
        yield


def assert_own_curves(folder, expected: list[list[int]]):
    """As many runs as there are models, each with the steps of one model."""
    names = runs(folder)
    assert len(names) == len(expected)
    for name, wanted in zip(names, expected, strict=True):
        for events in read(folder / name).values():
            assert steps(events) == wanted


# Copies.

COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda one: pickle.loads(pickle.dumps(one)),
    "clone": sklearn.clone,
}
each_copy = pytest.mark.parametrize(
    "kind",
    ["deepcopy", *(pytest.param(k, marks=pytest.mark.slow) for k in list(COPIES)[1:])],
)


@each_copy
def test_a_copied_monitor_has_the_arguments_alone(images, tmp_path, kind):
    monitor = StructureMonitor(tmp_path, 1, histogram_freq=2, logs="all")
    copies = [COPIES[kind](monitor)]
    model = one_layer()
    take = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: copies.append(COPIES[kind](monitor))
    )
    fit(model, images, monitor, take, epochs=1)
    copies.append(COPIES[kind](monitor))
    assert len(copies) == 4
    arguments = ("log_dir", "update_freq", "histogram_freq", "image_freq", "logs")
    for one in copies:
        assert [getattr(one, n) for n in arguments] == [tmp_path, 1, 2, 0, "all"]
        assert one.model is None
        assert one.run_dir is None
        assert one.on_train_batch_end.__self__ is one
    fit(soft_layers_of("c", "other"), images, copies[1], epochs=1)
    assert runs(tmp_path) == ["softconv", "softconv_2_other"]


@compiles_much
@each_copy
def test_copied_callbacks_that_move_strengths(images, kind):
    x, y = images
    adaptive = AdaptiveStrengths(x, y, update_freq=1, probes=1)
    schedule = StrengthSchedule(tie_strength=abs, update_freq="batch")
    model = one_layer()
    fit(model, images, adaptive, epochs=1)
    fit(model, images, schedule, epochs=1)
    copied = [COPIES[kind](one) for one in (adaptive, schedule)]
    assert [one.model for one in copied] == [None, None]
    assert copied[0].history == adaptive.history
    other = one_layer()
    fit(other, images, copied[0], epochs=2)
    assert len(copied[0].history) == len(adaptive.history) + 2
    fit(other, images, copied[1], epochs=1)
    assert float(other.layers[0].tie_strength) == 5  # before the last of six steps
    assert float(model.layers[0].tie_strength) == 3


# Interrupted trainings.


def open_files(folder) -> list[str]:
    links = "/proc/self/fd"
    found = [os.path.join(links, name) for name in os.listdir(links)]
    targets = [os.readlink(path) for path in found if os.path.lexists(path)]
    return [target for target in targets if target.startswith(str(folder))]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_after_an_interrupt_nothing_is_left_open(images, tmp_path, error):
    def interrupt(batch, logs):
        raise error

    monitor = StructureMonitor(tmp_path)
    threads = threading.active_count()
    stop = keras.callbacks.LambdaCallback(on_train_batch_end=interrupt)
    with pytest.raises(error):
        fit(one_layer(), images, monitor, stop)
    assert open_files(tmp_path) == []
    assert threading.active_count() <= threads
    copy.deepcopy(monitor)
    other = soft_layers_of("c", "other")
    fit(other, images, monitor, epochs=1)
    first, second = (loaded(tmp_path / name) for name in runs(tmp_path))
    for events, letter in ((first, "one/a"), (second, "other/c")):
        (layout,) = of_plugin(events, "custom_scalars")["custom_scalars__config__"]
        assert letter.encode() in layout[1].item()
        assert set(of_plugin(events, "hparams")) >= {"_hparams_/session_start_info"}
        assert all(f"/{letter}/" in tag for tag in of_plugin(events, "scalars"))
    assert monitor.run_dir == tmp_path / "softconv_2_other"


# Tuners, grid searches, paths.


@compiles_much
def test_trials_with_copies_of_a_monitor(images, tmp_path):
    # As Keras Tuner does.
    monitor = StructureMonitor(tmp_path)
    for _ in range(3):
        fit(one_layer(), images, copy.deepcopy(monitor), epochs=1)
    assert_own_curves(tmp_path, [[0, 2]] * 3)


@compiles_much
def test_models_that_take_turns(images, tmp_path):
    # As in cross-validation over epochs, or a population of models.
    models = [one_layer(), soft_layers_of("b", "sec:ond")]
    monitor = StructureMonitor(tmp_path)
    for _ in range(2):
        for model in models:
            fit(model, images, monitor, epochs=1)
    assert runs(tmp_path) == ["softconv", "softconv_2_sec_ond"]
    assert_own_curves(tmp_path, [[0, 2, 4]] * 2)


@compiles_much
def test_points_of_a_path_and_a_model_that_is_compiled_again(images, tmp_path):
    def make_model():
        model = one_layer()
        model.compile("sgd", "mse")
        return model

    monitor = StructureMonitor(tmp_path)
    regularization_path(
        make_model, images, [1.0, 0.1], images, epochs=1, batch_size=4,
        callbacks=[monitor], verbose=False,
    )  # fmt: skip
    model = make_model()
    for _ in range(2):
        fit(model, images, monitor, epochs=1)
    model.compile("sgd", "mse")
    fit(model, images, monitor, epochs=1)
    assert_own_curves(tmp_path, [[0, 2], [0, 2], [0, 2, 4], [0, 2]])


@pytest.mark.skipif(KERAS_2, reason="clones have no optimizer")
def test_a_copy_that_is_trained_beside_its_original(images, tmp_path):
    model = one_layer()
    fit(model, images, StructureMonitor(tmp_path), epochs=1)
    model.save(tmp_path / "model.keras")
    twins = [keras.models.load_model(tmp_path / "model.keras") for _ in range(2)]
    # The first to go on is taken for the training that is resumed.
    for one in (*twins, model):
        fit(one, images, StructureMonitor(tmp_path), epochs=1)
    assert_own_curves(tmp_path, [[0, 2, 4], [2, 4], [2, 4]])


@pytest.mark.skipif(KERAS_2, reason="saves without the optimizer's steps")
@compiles_much
def test_trials_that_begin_with_a_saved_model(images, tmp_path):
    model = one_layer()
    fit(model, images, epochs=1)
    model.save(tmp_path / "model.keras")
    for _ in range(2):
        model = keras.models.load_model(tmp_path / "model.keras")
        fit(model, images, StructureMonitor(tmp_path), epochs=1)
        del model
    assert_own_curves(tmp_path, [[2, 4]] * 2)


@compiles_much
def test_a_model_that_is_saved_between_two_scalars_is_recognised(
    images, tmp_path, monkeypatch
):
    model = one_layer()
    fit(model, images, StructureMonitor(tmp_path, 3), epochs=2)
    model.save(tmp_path / "model.keras")  # at step 4, of which there are no scalars
    monkeypatch.setattr("keras_softconv.callbacks.runs._runs", {})  # another process
    again = keras.models.load_model(tmp_path / "model.keras")
    fit(again, images, StructureMonitor(tmp_path, 3), epochs=1)
    assert_own_curves(tmp_path, [[0, 3, 6]])


@compiles_much
def test_another_model_at_the_same_step_is_told_by_its_weights(images, tmp_path):
    # Neither leaves the convolution, so that their shares and variances are alike.
    models = [one_layer() for _ in range(2)]
    for model in models:
        model.compile(keras.optimizers.SGD(0.0), "mse")
        fit(model, images, epochs=1)
    for model in models:
        fit(model, images, StructureMonitor(tmp_path), epochs=1)
    assert_own_curves(tmp_path, [[2, 4], [2, 4]])


RESUMED = """
import sys
import keras, numpy as np
from keras_softconv import SoftConv2D
from keras_softconv.callbacks import StructureMonitor

folder, epochs, source = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if source == "new":
    layer = SoftConv2D(1, 2, name="s", deviation_initializer="glorot_uniform")
    model = keras.Sequential([keras.Input((5, 4, 1)), layer], name="m")
    model.compile("sgd", "mse")
else:
    model = keras.models.load_model(source)
x = np.ones((4, 5, 4, 1))
model.fit(x, x[:, 1:, 1:], epochs=epochs, verbose=0, batch_size=2,
          callbacks=[StructureMonitor(folder)])
if source == "new":
    model.save(sys.argv[4])
"""


@pytest.mark.slow
def test_other_processes_resume_or_begin_runs(tmp_path):
    logs, saved = tmp_path / "logs", [tmp_path / f"{name}.keras" for name in "ab"]
    both = [processes.start("-c", RESUMED, logs, 1, "new", path) for path in saved]
    processes.finish(*both)
    # Begun at the same time, and each goes on with its own.
    for path in saved[::-1]:
        processes.run("-c", RESUMED, logs, 1, path)
    assert runs(logs) == ["softconv", "softconv_2_m"]
    assert_own_curves(logs, [[0, 2, 4]] * 2)


def test_the_name_of_a_run_is_new_where_a_folder_is_in_the_way(images, tmp_path):
    (tmp_path / "softconv").mkdir()
    (tmp_path / "softconv_2_one").write_text("kept")
    (tmp_path / "softconvolutions").mkdir()
    monitor = StructureMonitor(tmp_path)
    fit(one_layer(), images, monitor, epochs=1)
    assert monitor.run_dir == tmp_path / "softconv_3_one"
    assert (tmp_path / "softconv_2_one").read_text() == "kept"


@compiles_much
def test_logs_of_the_same_name_in_two_folders(images, tmp_path):
    model = one_layer()
    for name in "ab":
        fit(model, images, StructureMonitor(tmp_path / name), epochs=1)
    fit(model, images, StructureMonitor(tmp_path / "a"), epochs=1)
    assert_own_curves(tmp_path / "a", [[0, 2, 4, 6]])
    assert_own_curves(tmp_path / "b", [[2, 4]])


@compiles_much
def test_values_are_those_of_the_model_of_the_run(images, tmp_path):
    rng = np.random.default_rng(0)
    for scale in (0.1, 1.0):
        model = one_layer()
        weights = [scale * rng.normal(size=w.shape) for w in model.layers[0].get_weights()]
        model.layers[0].set_weights(weights)
        monitor = StructureMonitor(tmp_path)
        fit(model, images, monitor, epochs=1)
        report = structure_report(model)["one/a"]
        for name in ("family_variance", "off_template_mass"):
            _, value = read(monitor.run_dir)[f"softconv/one/a/{name}"][-1]
            np.testing.assert_allclose(value, report[name], rtol=1e-5)
