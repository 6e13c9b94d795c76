"""A real TensorBoard server shows what a real training logged, in a real browser."""

import sys
from pathlib import Path
from urllib.parse import quote

import keras
import numpy as np
import pytest
from matplotlib.image import imread

from keras_softconv import SoftConv2D, structure_report
from keras_softconv.callbacks import StructureMonitor
from keras_softconv.diagnostics import readable

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
from screenshot import ask, browser, photograph, serving

# That the layout names what is logged, is among the tests of what is logged.
pytestmark = pytest.mark.slow
needs_browser = pytest.mark.skipif(
    browser() is None, reason="Chromium is not installed: apt-get install chromium"
)
EPOCHS, STEPS = 4, 8


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of two layers, the second all but a convolution, and its log folder."""
    keras.utils.set_random_seed(0)
    strong = keras.regularizers.L2(100.0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            SoftConv2D(2, 3, padding="same", name="free", tie_regularizer=None),
            SoftConv2D(1, 3, padding="same", name="tied", tie_regularizer=strong,
                       off_template_regularizer=strong),
        ],
        name="model",
    )  # fmt: skip
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 8, 8, 1))
    log_dir = tmp_path_factory.mktemp("logs")
    monitor = StructureMonitor(log_dir, update_freq=2, histogram_freq=2, image_freq=4)
    beside = keras.callbacks.TensorBoard(log_dir)
    model.fit(x, x[:, ::-1], epochs=EPOCHS, batch_size=8, verbose=0,
              callbacks=[beside, monitor])  # fmt: skip
    return model, log_dir


@pytest.fixture(scope="module")
def address(trained):
    with serving(trained[1]) as address:
        yield address


def of_tag(tag: str) -> str:
    return f"run=softconv&tag={quote(tag, safe='')}"


def test_scalars_over_http(trained, address):
    model, _ = trained
    assert set(ask(address, "runs")) == {"softconv", "train"}
    tags = ask(address, "plugin/scalars/tags")["softconv"]
    assert len(tags) == 14
    assert all(len(tag["description"]) > 40 for tag in tags.values())
    report = structure_report(model)
    for path, layer in report.items():
        for name in ("family_variance", "off_template_mass", "convolution_share"):
            question = f"plugin/scalars/scalars?{of_tag(f'softconv/{path}/{name}')}"
            points = ask(address, question)
            assert [step for _, step, _ in points] == list(range(0, EPOCHS * STEPS + 1, 2))
            assert readable(points[-1][2]) == readable(layer[name])
    text = str(report)
    for layer in report.values():
        assert readable(layer["family_variance"]) in text


def test_layout_over_http(address):
    layout = ask(address, "plugin/custom_scalars/layout")
    titles = [category["title"] for category in layout["category"]]
    assert titles == ["All layers", "model/free", "model/tied"]
    for category in layout["category"]:
        for chart in category["chart"]:
            for pattern in chart.get("multiline", {}).get("tag", []):
                found = ask(address, f"plugin/custom_scalars/scalars?{of_tag(pattern)}")
                assert found["regex_valid"]
                assert len(found["tag_to_events"]) == 1
            for series in chart.get("margin", {}).get("series", []):
                assert len(series) == 3


def test_the_other_dashboards_over_http(trained, address):
    model, _ = trained
    images = ask(address, "plugin/images/tags")["softconv"]
    assert {tag.rpartition("/")[2] for tag in images} >= {"shades", "off_template"}
    question = f"plugin/images/images?{of_tag(next(iter(images)))}&sample=0"
    assert [image["step"] for image in ask(address, question)] == [0, 32]
    histograms = ask(address, "plugin/histograms/tags")["softconv"]
    assert len(histograms) == 4
    [text] = ask(address, f"plugin/text/text?{of_tag('softconv/report')}")
    assert "<table>" in text["text"]
    share = structure_report(model)["model/tied"]["convolution_share"]
    assert f"{share:.2%}" in text["text"]
    assert share > 0.999  # told from it: this layer is still convolutional


@needs_browser
def test_the_dashboard_in_a_browser(address, tmp_path):
    picture = tmp_path / "tensorboard.png"
    photograph(f"{address}#custom_scalars", picture)
    pixels = imread(picture)[..., :3]
    assert pixels.shape == (1150, 1500, 3)
    # Below TensorBoard's orange bar and beside its menu: the curves, in the run's colour.
    charts = pixels[100:, 350:]
    is_coloured = np.ptp(charts, axis=2) > 0.3
    columns = np.array_split(is_coloured, 3, axis=1)
    assert all(column.sum() > 200 for column in columns)
