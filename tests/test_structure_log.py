"""What TensorBoard is given besides scalars, read back from the event files."""

import copy
import operator
import os
import re
import warnings
from io import BytesIO

import keras
import numpy as np
import processes
import pytest
from backends import BACKEND
from keras.ops import convert_to_numpy as to_numpy
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import (
    TENSORS,
    EventAccumulator,
)
from tensorboard.backend.event_processing.plugin_event_accumulator import (
    EventAccumulator as PluginAccumulator,
)
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util.tensor_util import make_ndarray

from keras_softconv import SoftConv2D, plots, structure_report
from keras_softconv.callbacks import StructureMonitor
from keras_softconv.callbacks.dashboard import IMAGES, described
from keras_softconv.callbacks.event_log import histogram_buckets
from keras_softconv.regularizers import DistanceWeighted


def accumulated(folder) -> EventAccumulator:
    return EventAccumulator(str(folder / "softconv"), size_guidance={TENSORS: 0}).Reload()


def of_plugin(events, plugin) -> dict[str, list]:
    """(step, array) by tag, of what one dashboard shows."""
    return {
        tag: [(e.step, make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
        if events.SummaryMetadata(tag).plugin_data.plugin_name == plugin
    }


def steps(events) -> list[int]:
    return [step for step, _ in events]


def two_layers(**arguments) -> keras.Model:
    layers = [
        SoftConv2D(3, 3, padding="same", name=name, **arguments) for name in ("a", "b")
    ]
    return keras.Sequential([keras.Input((5, 4, 2)), *layers], name="two")


def fit(model, images, *callbacks, epochs=4):
    """Two steps an epoch."""
    if not model.compiled:
        model.compile("adam", "mse")
    x, y = images
    model.fit(x, y, epochs=epochs, batch_size=4, callbacks=list(callbacks), verbose=0)


@pytest.fixture
def log(images, tmp_path):
    """A trained model, and all that was logged of it."""
    model = two_layers(deviation_initializer="glorot_uniform", halo=1)
    fit(model, images, StructureMonitor(tmp_path, histogram_freq=2, image_freq=2))
    return model, accumulated(tmp_path)


def test_histograms_count_every_weight_once(log):
    model, events = log
    logged = of_plugin(events, "histograms")
    report = structure_report(model)
    assert set(logged) == {
        f"softconv/two/{name}/{kind}"
        for name in "ab"
        for kind in ("shades", "off_template_weights")
    }
    for tag, found in logged.items():
        assert steps(found) == [0, 4, 8]
        of_layer = report[tag.removeprefix("softconv/").rpartition("/")[0]]
        members = of_layer["template_weights"]
        count = members if "shades" in tag else of_layer["weights"] - members
        for _, buckets in found:
            assert buckets[:, 2].sum() == count
            assert (buckets[:, 2] >= 0).all()
    layer = model.layers[0]
    kernel, ids = to_numpy(layer.kernel), layer.family_ids()
    shades = [
        kernel[ids == tap] - kernel[ids == tap].mean() for tap in range(ids.max() + 1)
    ]
    _, buckets = logged["softconv/two/a/shades"][-1]
    np.testing.assert_allclose(buckets[0, 0], np.concatenate(shades).min(), rtol=1e-4)
    np.testing.assert_allclose(buckets[-1, 1], np.concatenate(shades).max(), rtol=1e-4)


def test_zeros_that_stand_for_no_weight_are_not_counted(rng):
    values = np.concatenate([rng.normal(size=50), np.zeros(30)])
    buckets = histogram_buckets(values, absent=20)
    expected, edges = np.histogram(np.concatenate([values[:50], np.zeros(10)]), bins=30)
    np.testing.assert_array_equal(buckets[:, 2], expected)
    np.testing.assert_allclose(buckets[:, 0], edges[:-1])
    assert histogram_buckets(np.zeros(5), absent=5)[:, 2].sum() == 0
    assert histogram_buckets(np.array([1.0, np.nan, np.inf]), 0)[:, 2].sum() == 1
    assert (histogram_buckets(np.full(9, np.nan), absent=5)[:, 2] == 0).all()
    for values in ([-3e38, 3e38], [0.0, 1e-45, 5e-45]):
        assert histogram_buckets(np.array(values, "float32"), 0)[:, 2].sum() == len(values)
    for values in (-np.ones(4), np.ones(4)):
        both = np.concatenate([values, np.zeros(3)])
        assert histogram_buckets(both, absent=3)[:, 2].sum() == 4


def test_pictures_are_those_of_the_plots(log):
    model, events = log
    logged = of_plugin(events, "images")
    layer = model.layers[1]
    names = plots.legible(layer)
    assert set(logged) == {
        f"softconv/two/{layer}/pictures/{name}" for layer in "ab" for name in names
    }
    for name, picture in names.items():
        found = logged[f"softconv/two/b/pictures/{name}"]
        assert steps(found) == [0, 4, 8]
        width, height, png = found[-1][1]
        expected = BytesIO()
        picture(layer).savefig(expected, format="png", dpi=100)
        pixels = imread(BytesIO(png))
        assert pixels.shape[:2] == (int(height), int(width))
        np.testing.assert_array_equal(pixels, imread(BytesIO(expected.getvalue())))
        assert png != found[0][1][2]  # it has changed in the training


def test_every_picture_of_the_plots_is_explained():
    tiny = SoftConv2D(1, 2)
    tiny.build((None, 3, 3, 1))
    assert set(plots.legible(tiny)) == set(IMAGES)


def test_the_report_is_that_of_the_model(log):
    model, events = log
    [(step, text)] = of_plugin(events, "text")["softconv/report"]
    assert step == 8
    expected = structure_report(model, children=10).to_markdown()
    assert text.item().decode() == expected


def test_all_is_explained(log):
    _, events = log
    for tag in events.Tags()["tensors"]:
        metadata = events.SummaryMetadata(tag)
        if metadata.plugin_data.plugin_name not in ("custom_scalars", "hparams"):
            assert len(metadata.summary_description) > 40, tag


def test_layout_names_scalars_that_are_there(log):
    _, events = log
    [(_, content)] = of_plugin(events, "custom_scalars")["custom_scalars__config__"]
    layout = Layout.FromString(content.item())
    scalars = of_plugin(events, "scalars")
    assert [one.title for one in layout.category] == ["All layers", "two/a", "two/b"]
    for category in layout.category:
        for chart in category.chart:
            for pattern in chart.multiline.tag:
                assert len([tag for tag in scalars if re.match(pattern, tag)]) == 1
            for series in chart.margin.series:
                values = [
                    scalars[tag] for tag in (series.lower, series.value, series.upper)
                ]
                for (_, lower), (_, value), (_, upper) in zip(*values, strict=True):
                    assert lower < value < upper
    kinds = [[chart.WhichOneof("content") for chart in c.chart] for c in layout.category]
    assert kinds == [["multiline"] * 3] + [["margin", "multiline", "multiline"]] * 2


def test_penalties_and_strengths_are_hyper_parameters(images, tmp_path):
    model = two_layers(tie_regularizer=keras.regularizers.L1(0.25))
    model.layers[1].tie_strength.assign(3.0)
    fit(model, images, StructureMonitor(tmp_path))
    events = accumulated(tmp_path)
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = HParamsPluginData.FromString(content).session_start_info
    values = {
        name: getattr(value, value.WhichOneof("kind"))
        for name, value in start.hparams.items()
    }
    assert values["two/a/tie_regularizer"] == "L1(l1=0.25)"
    assert values["two/a/off_template_regularizer"] == "L2(l2=0.001)"
    strengths = [values[f"two/{name}/tie_strength"] for name in "ab"]
    assert strengths == [1.0, 3.0]
    assert values["two/b/halo"] == "none"
    assert events.SummaryMetadata("_hparams_/session_end_info")


def test_regularizers_are_described_as_they_are_called():
    nested = DistanceWeighted(keras.regularizers.L1(0.5))
    assert described(nested).startswith("DistanceWeighted(regularizer=L1(l1=0.5)")
    assert described(None) == "None"
    assert described(keras.ops.sum) == "sum"
    assert described(lambda weights: 0) == "lambda"
    assert described(Unsaved()) == "Unsaved"


class Unsaved(keras.regularizers.Regularizer):
    """Trains, but cannot be saved."""

    def __init__(self):
        self.factor = 1.0

    def __call__(self, weights):
        return self.factor * keras.ops.sum(weights**2)


def test_what_is_changed_between_two_fits_is_seen(images, tmp_path):
    model, monitor = two_layers(tie_regularizer=Unsaved()), StructureMonitor(tmp_path)
    fit(model, images, monitor, epochs=1)
    first, second = model.layers
    first.tie_regularizer.factor = 5.0
    second.bias_deviations.trainable = False
    model.compile("adam", "mse")
    fit(model, images, monitor, epochs=1)
    logged = of_plugin(accumulated(tmp_path), "scalars")
    for name, layer in (("a", first), ("b", second)):
        expected = to_numpy(layer.penalties()["tie_penalty"])
        found = logged[f"softconv/two/{name}/tie_penalty"][-1][1]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_used_monitor_can_be_copied(images, tmp_path):
    monitor = StructureMonitor(tmp_path)
    fit(two_layers(), images, monitor, epochs=1)
    monitor.set_model(None)
    assert copy.deepcopy(monitor).log_dir == tmp_path


def test_nothing_that_costs_is_written_by_default(images, tmp_path):
    fit(two_layers(), images, StructureMonitor(tmp_path))
    events = accumulated(tmp_path)
    assert of_plugin(events, "histograms") == of_plugin(events, "images") == {}


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
def test_what_came_after_the_last_checkpoint_is_overtaken(images, tmp_path, kept):
    # `kept` steps are in the checkpoint; of 3, the start is not in the log.
    model = two_layers()
    model.compile("adam", "mse")
    x, y = images
    model.fit(
        x, y, batch_size=4, epochs=1, verbose=0, callbacks=[StructureMonitor(tmp_path)]
    )
    if kept == 3:
        model.train_on_batch(x[:4], y[:4])
    model.save(tmp_path / "model.keras")
    fit(model, images, StructureMonitor(tmp_path), epochs=3)
    model = keras.models.load_model(tmp_path / "model.keras")
    fit(model, images, StructureMonitor(tmp_path), epochs=1)
    # As TensorBoard reads it.
    events = PluginAccumulator(str(tmp_path / "softconv")).Reload()
    found = events.Tensors("softconv/two/a/convolution_share")
    assert [one.step for one in found] == [0, 2, *range(3, kept + 1), kept + 2]
    now = structure_report(model)["two/a"]["convolution_share"]
    np.testing.assert_allclose(make_ndarray(found[-1].tensor_proto), now, rtol=1e-6)


def as_tensorboard_reads_it(folder) -> list[int]:
    """Steps of a tag, without those that are overtaken."""
    events = PluginAccumulator(str(folder / "softconv")).Reload()
    return [one.step for one in events.Tensors("softconv/two/a/convolution_share")]


def test_the_same_monitor_goes_back_to_an_earlier_step(images, tmp_path):
    model, monitor = two_layers(), StructureMonitor(tmp_path, update_freq=1)
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
    assert as_tensorboard_reads_it(tmp_path) == list(range(7))


def test_a_new_model_without_weights_overtakes_nothing(images, tmp_path):
    fit(two_layers(), images, StructureMonitor(tmp_path, 1), epochs=2)
    unbuilt = keras.Sequential(
        [SoftConv2D(3, 3, padding="same", name=name) for name in "ab"], name="two"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the start is not logged
        fit(unbuilt, images, StructureMonitor(tmp_path, 1), epochs=1)
    begins = [] if BACKEND == "tensorflow" else [0]
    assert as_tensorboard_reads_it(tmp_path) == [*range(5), *begins, 1, 2]


def test_pictures_of_a_step_are_written_once(images, tmp_path):
    model, monitor = two_layers(), StructureMonitor(tmp_path, 3, histogram_freq=1)
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


def test_a_training_that_is_killed_leaves_a_readable_log(tmp_path):
    processes.run("-c", CRASH, tmp_path, returncode=9)
    logged = of_plugin(accumulated(tmp_path), "scalars")
    assert len(logged) == 7
    assert all(steps(found) == [0, 2, 4] for found in logged.values())


def test_a_training_that_fails_leaves_a_readable_log_and_can_go_on(images, tmp_path):
    def fail(epoch, logs):
        if epoch == 1:
            raise RuntimeError("the data are gone")

    model, monitor = two_layers(), StructureMonitor(tmp_path)
    failing = keras.callbacks.LambdaCallback(on_epoch_end=fail)
    with pytest.raises(RuntimeError, match="gone"):
        fit(model, images, monitor, failing)
    fit(model, images, monitor, epochs=1)
    for found in of_plugin(accumulated(tmp_path), "scalars").values():
        assert steps(found) == [0, 2, 4, 6]


@pytest.mark.parametrize("place", ["below a file", "not to be made"])
def test_a_log_that_cannot_be_written_is_told_before_training(images, tmp_path, place):
    (tmp_path / "file").write_text("kept")
    folder = tmp_path / "file" / "logs" if place == "below a file" else "/proc/logs"
    model = two_layers()
    before = model.get_weights()
    message = r"cannot write to its log directory '.*softconv'.*Give another `log_dir`"
    with pytest.raises(ValueError, match=message):
        fit(model, images, StructureMonitor(folder))
    for now, earlier in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, earlier)
    assert (tmp_path / "file").read_text() == "kept"


def test_pictures_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = r"`image_freq` draws with matplotlib.*Received: image_freq=1\. `pip install"
    with pytest.raises(ImportError, match=message):
        StructureMonitor(tmp_path, image_freq=1)
    StructureMonitor(tmp_path)


def test_a_folder_of_a_read_only_user_is_told(tmp_path, images):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match=r"cannot write"):
        fit(two_layers(), images, StructureMonitor(tmp_path))
