"""The forms of a report: dict, line, HTML, JSON and data frames; what making one takes."""

import copy
import json
import pickle
import sys
import tracemalloc
from html.parser import HTMLParser

import keras
import numpy as np
import pytest
from soft_models import soft_model

from keras_softconv import SoftConv2D, structure_report
from keras_softconv.diagnostics import (
    LayerReport,
    StructureReport,
    parts,
    report_of_layers,
)

LAZY = ("families", "positions", "remarkable_by_position", "remarkable_by_filter")


def layer_report(rng, **arguments) -> LayerReport:
    layer = SoftConv2D(3, 3, padding="same", name="soft", **arguments)
    layer.build((None, 5, 4, 2))
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    return structure_report(layer)


def plain(report) -> dict:
    """All of a report as a dict, read one key after the other."""
    return {key: report[key] for key in report.keys()}  # noqa: SIM118 - makes nothing


def unmade(report) -> list[str]:
    return [key for key in LAZY if report.maker(key) is not None]


# A dict as 1.0.0 had it.


def test_what_is_not_read_is_not_made(rng):
    report = layer_report(rng)
    assert unmade(report) == list(LAZY)
    assert len(report) == len(list(report.keys()))
    assert "families" in report
    repr(report)
    assert unmade(report) == list(LAZY)
    families = report["families"]
    assert unmade(report) == list(LAZY[1:])
    assert report["families"] is families
    assert report.get("positions") is report["positions"]
    assert report.get("nothing", 3) == 3


@pytest.mark.parametrize(
    "read",
    [
        dict,
        lambda report: {**report},
        lambda report: dict(report.items()),
        lambda report: dict(zip(report, report.values(), strict=True)),
        lambda report: report | {},
        lambda report: {} | report,
        lambda report: dict(**report),
        lambda report: report.copy(),
        copy.copy,
        copy.deepcopy,
        lambda report: pickle.loads(pickle.dumps(report)),
        lambda report: pickle.loads(pickle.dumps(report, protocol=0)),
    ],
)
def test_whatever_reads_all_values_gets_them(read, rng):
    report = layer_report(rng)
    expected = plain(layer_report(np.random.default_rng(0)))
    found = read(report)
    assert list(found) == list(expected)
    assert dict(found) == expected
    assert found["families"][0].keys() == {"family", "mean", "variance", "size"}
    assert isinstance(found["families"], list)


def test_equality_is_that_of_all_values(rng):
    report = layer_report(rng)
    same = report.copy()
    expected = plain(report.copy())
    assert report == same
    assert report == expected
    assert expected == layer_report(np.random.default_rng(0))
    same["families"][0]["mean"] += 1
    assert report != same
    empty = {}
    assert report != empty
    assert empty != report


@pytest.mark.parametrize("indent", [None, 2])
def test_json_has_all_values(indent, rng):
    report = layer_report(rng)
    expected = json.loads(json.dumps(plain(report.copy())))
    assert json.loads(json.dumps(report, indent=indent)) == expected
    assert json.loads(layer_report(np.random.default_rng(0)).to_json(indent)) == expected


def test_a_report_can_be_changed_as_a_dict(rng):
    report = layer_report(rng)
    report["families"] = []
    del report["positions"]
    assert report["families"] == []
    assert "positions" not in report
    assert report.pop("remarkable_by_filter") is not None
    report |= {"layer": "other"}
    report.update(weights=3)
    assert (report["layer"], report["weights"]) == ("other", 3)
    assert report.setdefault("remarkable_by_position") is not None
    assert report.setdefault("new", 1) == 1
    assert report.popitem() == ("new", 1)
    report.clear()
    assert report == {}
    assert repr(report) == "<LayerReport with 0 keys>"


@pytest.mark.parametrize("copied", [LayerReport.copy, copy.copy, copy.deepcopy])
def test_a_copy_stays_a_report_and_is_one_of_its_own(copied, rng):
    report = layer_report(rng)
    other = copied(report)
    assert type(other) is LayerReport
    assert unmade(other) == list(LAZY)
    assert str(other) == str(report)
    other["layer"] = "other"
    other["families"].clear()
    assert report["layer"] != "other"
    assert report["families"]


def test_a_copy_of_the_report_of_a_model_stays_one(rng):
    report = structure_report(soft_model())
    for other in (report.copy(), copy.deepcopy(report), pickle.loads(pickle.dumps(report))):
        assert type(other) is StructureReport
        assert other == report
        with pytest.raises(KeyError, match="No SoftConv layer 'no'"):
            other["no"]
    other.clear()
    assert len(report) == 1


def test_a_later_training_does_not_change_a_report(rng):
    model = soft_model()
    report = structure_report(model)
    expected = plain(next(iter(copy.deepcopy(report).values())))
    for weight in model.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    [found] = report.values()
    assert found == expected


def test_reports_of_earlier_versions_are_printed(rng):
    numbers = plain(layer_report(rng))
    for key in ("expected_by_chance", "remarkable_by_position", "remarkable_by_filter"):
        del numbers[key]
    numbers["problem_children"][0]["score"] = 9.9
    old = LayerReport(numbers)
    assert "score above 3.5:" in " ".join(str(old).split())
    assert "chance" not in str(old)
    assert "<table>" in old._repr_html_()


# A line and a page.


class Page(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.text = [], set(), []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.tags.add(tag)
        assert not [name for name, _ in attributes if name.startswith("on")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_a_layer_is_shown_in_a_line_and_in_a_notebook(rng):
    report = layer_report(rng)
    shown = repr(report)
    assert len(shown.splitlines()) == 1
    assert shown.startswith("<LayerReport of 'soft': ")
    assert f"{report['weights']:,} weights" in shown
    assert f"convolution {report['convolution_share']:.2%}" in shown
    page = Page(report._repr_html_())
    assert page.tags <= {"div", "table", "thead", "tbody", "tr", "th", "td", "details",
                         "summary", "p"}  # fmt: skip
    assert "details" in page.tags
    text = " ".join(page.text)
    assert f"{report['convolution_share']:.2%}" in text
    assert "chance would give" in text
    first = report["problem_children"][0]
    assert (first["score"] > 3.5) == (str(first["position"]) in text)


def test_the_worst_layers_of_a_model_are_in_its_line():
    report = StructureReport({
        path: _made_up(path, share)
        for path, share in (("a", 0.9), ("b", 0.2), ("c", np.nan), ("d", 0.5), ("e", 0.8))
    })  # fmt: skip
    shown = repr(report)
    assert "5 layers with 500 weights" in shown
    assert "'c' nan%, 'b' 20.00%, 'd' 50.00%>" in shown
    assert repr(StructureReport()) == "<StructureReport of no layers>"
    assert repr(StructureReport({"a": 3})) == "<StructureReport with 1 keys>"


def _made_up(path, share) -> LayerReport:
    child = {"family": (2, 2, 999, 999), "position": (111, 111), "value": -1.234e-5,
             "mean": -1.234e-5, "score": 99.9}  # fmt: skip
    energies = {"convolution": 1.0, "family": 1.0, "off_template": 1.0}
    group = {"position": (111, 111), "filter": 1000, "remarkable": 10**6, "members": 10**7}
    return LayerReport(
        layer=path, weights=100, template_weights=100, family_variance=1e-9,
        family_variance_min=1e-9, family_variance_max=1e-9, off_template_mass=0.1,
        convolution_share=share, energies=energies,
        distinct_weights=100, zero_weights=0, families=[], positions=[],
        problem_children=[child] * 100, remarkable_children=100, expected_by_chance=1.0,
        remarkable_by_position=[group] * 100, remarkable_by_filter=[group] * 100,
        bias_variance=None,
    )  # fmt: skip


@pytest.mark.parametrize("layers", [1, 400])
@pytest.mark.parametrize("name", ["&" * 10**4, "<script>alert(1)</script>", "ü" * 200])
def test_lines_and_pages_are_short_whatever_a_model_has(layers, name):
    paths = [f"{name}/{number}" for number in range(layers)]
    report = StructureReport({path: _made_up(path, 0.5) for path in paths})
    for one in (report, report[paths[0]]):
        assert len(repr(one).encode()) < 5_000
        html = one._repr_html_()
        assert len(html.encode()) < 100_000
        assert "script" not in Page(html).tags
    assert ("350 more layers" in report._repr_html_()) == (layers == 400)


# JSON.


def refuse(constant):
    raise AssertionError(constant)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("halo", [None, 0])
@pytest.mark.parametrize("everywhere", [True, False])
def test_diverged_layers_are_valid_json_and_can_be_shown(value, halo, everywhere, rng):
    model = soft_model(halo=halo)
    for weight in model.trainable_weights:
        assigned = rng.normal(size=weight.shape)
        assigned[(...,) if everywhere else (0,) * assigned.ndim] = value
        weight.assign(assigned)
    report = structure_report(model)
    for one in (report, *report.values()):
        json.loads(one.to_json(), parse_constant=refuse)
        assert "nan" in repr(one)
        assert "nan" in one._repr_html_()
        assert "nan" in str(one)
        assert "nan" in one.to_markdown()
    [layer] = report.values()
    assert json.loads(layer.to_json())["convolution_share"] is None
    assert layer["remarkable_children"] == sum(
        group["remarkable"] for group in layer["remarkable_by_position"]
    )


# Data frames.


def test_frames_have_a_row_for_each_layer_or_entry(rng):
    pandas = pytest.importorskip("pandas")
    report = structure_report(soft_model())
    [(path, layer)] = report.items()
    frame = report.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.index) == [path]
    assert frame.loc[path, "convolution_share"] == layer["convolution_share"]
    assert frame.loc[path, "family_energy"] == layer["energies"]["family"]
    assert "families" not in frame
    for table in ("families", "positions", "problem_children", *LAZY[2:]):
        frame = layer.to_frame(table)
        assert frame.to_dict("records") == layer[table]
        of_model = report.to_frame(table)
        assert list(of_model.pop("layer").unique()) == ([path] if layer[table] else [])
        assert of_model.to_dict("records") == layer[table]


def test_frames_are_made_without_a_dict_for_each_row(rng):
    pytest.importorskip("pandas")
    report = layer_report(rng)
    frame = report.to_frame("families")
    assert unmade(report) == list(LAZY)
    assert frame.to_dict("records") == report["families"]


def test_frames_without_pandas(rng, monkeypatch):
    report = structure_report(soft_model())
    monkeypatch.setitem(sys.modules, "pandas", None)
    for one in (report, *report.values()):
        for table in (None, "families"):
            with pytest.raises(ImportError, match=r"not installed. `pip install pandas`"):
                one.to_frame(table)


def test_frames_of_what_there_is_not(rng):
    message = r"`table` must be one of \['families'.*Received: table='family'"
    with pytest.raises(ValueError, match=message):
        layer_report(rng).to_frame("family")


# What a report takes.


@pytest.mark.slow
def test_the_report_of_many_families_takes_little_memory(rng):
    layers = [SoftConv2D(384, 3, padding="same", halo=0, name=name) for name in "ab"]
    model = keras.Sequential([keras.Input((2, 2, 384)), *layers])
    for layer in layers:
        values = rng.standard_normal(layer.deviations.shape, dtype="float32")
        layer.deviations.assign(values)
    paths = {layer.name: layer for layer in model.layers}
    report_of_layers(paths, 10)  # what is imported and compiled does not count
    tracemalloc.start()
    report_of_layers(paths, 10).to_markdown()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6


def test_a_report_keeps_two_numbers_for_each_family(rng):
    layer = SoftConv2D(64, 3, padding="same", halo=0)
    layer.build((None, 2, 2, 64))
    structure_report(layer)
    tracemalloc.start()
    report = structure_report(layer, children=0)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 2 * 4 * 9 * 64 * 64 + 50_000
    assert len(report["families"]) == 9 * 64 * 64


def test_layers_of_one_geometry_share_what_jax_compiles():
    layers = {}
    for name in "abc":
        layers[name] = SoftConv2D(3, 3, padding="same", halo=0)
        layers[name].build((None, 7, 6, 2))
    parts._program.cache_clear()
    report_of_layers(layers, 10)
    assert parts._program.cache_info().misses == 1
