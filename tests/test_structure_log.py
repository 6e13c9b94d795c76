"""What TensorBoard is given besides scalars, read back from the event files."""

import copy
import re
from io import BytesIO

import keras
import numpy as np
import pytest
from backends import KERAS_2
from cheap_training import ignore_compiled_data, random_images, uncompiled
from event_files import accumulated, fit, loaded, of_plugin, runs, steps, two_layers
from keras.ops import convert_to_numpy as to_numpy
from matplotlib.image import imread
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from keras_softconv import SoftConv2D, plots, structure_report
from keras_softconv.callbacks import StructureMonitor
from keras_softconv.callbacks.dashboard import IMAGES, described
from keras_softconv.callbacks.event_log import histogram_buckets
from keras_softconv.regularizers import DistanceWeighted

pytestmark = pytest.mark.filterwarnings(ignore_compiled_data)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A trained model, and all that was logged of it."""
    keras.utils.set_random_seed(0)
    model = two_layers(deviation_initializer="glorot_uniform", halo=1)
    folder = tmp_path_factory.mktemp("pictures")
    fit(model, random_images(), StructureMonitor(folder, histogram_freq=2, image_freq=4))
    return model, accumulated(folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A monitor that was asked for nothing, and its log of a model with other penalties."""
    keras.utils.set_random_seed(0)
    model = two_layers(
        tie_regularizer=keras.regularizers.L1(0.25),
        off_template_regularizer=keras.regularizers.L2(1e-3),
    )
    model.layers[1].tie_strength.assign(3.0)
    monitor = StructureMonitor(tmp_path_factory.mktemp("plain"))
    with uncompiled():
        fit(model, random_images(), monitor)
    return monitor, accumulated(monitor.log_dir)


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
        assert steps(found) == [0, 8]
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


def test_penalties_and_strengths_are_hyper_parameters(plain):
    _, events = plain
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
    for event in ("start", "end"):
        (written,) = events.Tensors(f"_hparams_/session_{event}_info")
        assert written.step == 0


def test_regularizers_are_described_as_they_are_called():
    nested = DistanceWeighted(keras.regularizers.L1(0.5))
    assert described(nested).startswith("DistanceWeighted(regularizer=L1(l1=0.5)")
    assert described(None) == "None"
    assert described(np.sum) == "sum"
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
    # Keras 2 freezes whole layers.
    (second if KERAS_2 else second.bias_deviations).trainable = False
    model.compile("sgd", "mse")
    fit(model, images, monitor, epochs=1)
    # A new optimizer begins at step 0, and so does a new curve.
    assert runs(tmp_path) == ["softconv", "softconv_2_two"]
    logged = of_plugin(loaded(tmp_path / "softconv_2_two"), "scalars")
    for name, layer in (("a", first), ("b", second)):
        expected = to_numpy(layer.penalties()["tie_penalty"])
        found = logged[f"softconv/two/{name}/tie_penalty"][-1][1]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_nothing_that_costs_is_written_by_default(plain):
    _, events = plain
    assert of_plugin(events, "scalars")
    assert of_plugin(events, "histograms") == of_plugin(events, "images") == {}


def test_a_used_monitor_can_be_copied(plain):
    monitor, _ = plain
    monitor.set_model(None)
    assert copy.deepcopy(monitor).log_dir == monitor.log_dir


def test_pictures_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = r"`image_freq` draws with matplotlib.*Received: image_freq=1\. `pip install"
    with pytest.raises(ImportError, match=message):
        StructureMonitor(tmp_path, image_freq=1)
    StructureMonitor(tmp_path)
