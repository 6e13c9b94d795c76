"""The report against float64, and the problem children that were planted."""

import json
import re
import tracemalloc
from functools import cache

import independent
import keras
import numpy as np
import pytest
from conv_cases import CASES
from covering import each_name_in_rings
from keras.ops import convert_to_numpy as to_numpy
from soft_models import random_layer, soft_model

from keras_softconv import SoftConv2D, structure_report
from keras_softconv.diagnostics import readable, structure_numbers

KEYS = [
    "layer", "weights", "template_weights", "family_variance", "family_variance_min",
    "family_variance_max", "off_template_mass", "convolution_share", "energies",
    "distinct_weights", "zero_weights", "families", "positions", "problem_children",
    "remarkable_children", "expected_by_chance", "remarkable_by_position",
    "remarkable_by_filter", "bias_variance",
]  # fmt: skip


def kernel_and_ids(layer) -> tuple[np.ndarray, np.ndarray]:
    return to_numpy(layer.kernel), layer.family_ids()


@cache
def reported(name, halo) -> tuple:
    """A layer with its report, kernel and family ids, for the tests that only look."""
    layer = random_layer(CASES[name], np.random.default_rng(0), halo=halo)
    return layer, structure_report(layer), *kernel_and_ids(layer)


@each_name_in_rings(None, 0)
def test_report_equals_an_independent_computation_in_float64(name, halo):
    layer, report, kernel, ids = reported(name, halo)
    assert list(report) == KEYS
    for expected in (independent.structure_numbers, independent.energies):
        found = report | report["energies"]
        for name, value in expected(kernel, ids).items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-7)
    assert report["template_weights"] == (ids >= 0).sum()
    for number, family in enumerate(report["families"]):
        members = kernel[ids == number].astype("float64")
        shape = layer.shared_kernel.shape
        assert family["family"] == np.unravel_index(number, shape)
        assert family["size"] == members.size
        if members.size:
            np.testing.assert_allclose(family["mean"], members.mean(), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(
                family["variance"], members.var(), rtol=1e-5, atol=1e-7
            )


@each_name_in_rings(None, 0)
def test_energies_of_positions_add_up(name, halo):
    _, report, kernel, ids = reported(name, halo)
    for place in report["positions"]:
        found = place["deviation_energy"], place["off_template_energy"]
        expected = independent.energies_of_position(kernel, ids, place["position"])
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    for name, part in (("deviation", "family"), ("off_template", "off_template")):
        total = sum(place[f"{name}_energy"] for place in report["positions"])
        np.testing.assert_allclose(total, report["energies"][part], rtol=1e-5, atol=1e-7)


@each_name_in_rings(None)
def test_scores_equal_an_independent_computation(name, halo, rng):
    layer = random_layer(CASES[name], rng, halo=halo)
    kernel, ids = kernel_and_ids(layer)
    children = structure_report(layer, children=10**6)["problem_children"]
    shape = tuple(layer.shared_kernel.shape)
    scores = independent.scores(kernel, ids, shape)
    assert len(children) == (scores > 0).sum()
    listed = [child["score"] for child in children]
    assert listed == sorted(listed, reverse=True)
    for child in children:
        number = np.ravel_multi_index(child["family"], shape)
        at = (..., *child["position"], child["family"][-1])
        [score] = scores[at][ids[at] == number]
        [value] = kernel[at][ids[at] == number]
        np.testing.assert_allclose(child["score"], score, rtol=1e-3)
        np.testing.assert_allclose(child["value"], value, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(child["mean"], kernel[ids == number].mean(), rtol=1e-4,
                                   atol=1e-6)  # fmt: skip
    remarkable = structure_report(layer)["remarkable_children"]
    assert remarkable == (scores > 3.5).sum()


def test_report_and_numbers_are_the_same_but_for_rounding(rng):
    # The report adds up in float64 what the device adds up in float32.
    layer = random_layer(CASES["same_strided"], rng)
    report = structure_report(layer)
    for name, value in structure_numbers(layer).items():
        np.testing.assert_allclose(report[name], float(to_numpy(value)), rtol=1e-6)


def test_numbers_are_shown_with_four_digits_and_without_a_negative_zero():
    shown = [readable(number) for number in (-0.0, 0.00123456, 12345.0, 12345, -2.5)]
    assert shown == ["0", "0.001235", "1.234e+04", "12,345", "-2.5"]


@pytest.mark.parametrize("halo", [None, 0, 1])
def test_distinct_and_zero_weights(halo, rng):
    layer = SoftConv2D(2, 3, padding="same", halo=halo)
    layer.build((None, 6, 6, 1))
    report = structure_report(layer)
    outside = report["weights"] - report["template_weights"]
    assert report["zero_weights"] == outside
    assert report["distinct_weights"] == 18 + (outside > 0)
    layer.shared_kernel.assign(np.ones(layer.shared_kernel.shape))
    layer.deviations.assign(rng.choice([0.0, 1.0], layer.deviations.shape))
    kernel = to_numpy(layer.kernel)
    report = structure_report(layer)
    beyond = kernel.size - report["weights"]
    assert report["zero_weights"] == (kernel == 0).sum() - beyond
    assert report["distinct_weights"] == len({1, 2} | ({0} if outside else set()))


def test_a_convolution_has_no_problem_children(rng):
    layer = SoftConv2D(2, 3)
    layer.build((None, 6, 6, 1))
    report = structure_report(layer)
    assert report["problem_children"] == []
    assert report["remarkable_children"] == 0
    assert report["convolution_share"] == 1
    assert report["bias_variance"] == 0


def test_where_nearly_all_are_tied_the_largest_difference_is_first(rng):
    # Lasso ties leave a median distance of 0.
    layer = SoftConv2D(1, 3)
    layer.build((None, 8, 8, 1))
    deviations = np.zeros(layer.deviations.shape, "float32")
    planted = {(1, 2): 0.5, (4, 5): -2.0, (0, 0): 1e-3}
    for (row, col), value in planted.items():
        deviations[row + 1, col, 0, row, col, 0] = value
    layer.deviations.assign(deviations)
    children = structure_report(layer)["problem_children"]
    assert [child["position"] for child in children] == [(4, 5), (1, 2), (0, 0)]
    assert {child["family"] for child in children} == {(1, 0, 0, 0)}


def test_what_is_all_but_tied_has_no_problem_children(rng):
    layer = SoftConv2D(2, 3, padding="same")
    layer.build((None, 12, 12, 1))
    heavy_tails = np.clip(rng.standard_t(2, size=layer.deviations.shape), -8, 8)
    layer.deviations.assign(2e-4 * heavy_tails)
    assert structure_report(layer)["remarkable_children"] == 0
    layer.deviations.assign(2e-2 * heavy_tails)
    assert structure_report(layer)["remarkable_children"] > 50


def test_about_one_member_in_a_thousand_of_normal_families_is_remarkable(rng):
    layer = SoftConv2D(1, 3)
    layer.build((None, 12, 12, 1))
    found = []
    for _ in range(20):
        layer.deviations.assign(0.1 * rng.normal(size=layer.deviations.shape))
        report = structure_report(layer)
        found.append(report["remarkable_children"] / report["template_weights"])
    assert 0.0002 < np.mean(found) < 0.002


def test_border_members_are_judged_among_their_own(rng):
    # All border members differ from the rest alike: none of them is a problem child.
    layer = SoftConv2D(1, 3, padding="same", kernel_initializer="zeros")
    layer.build((None, 9, 9, 1))
    deviations = np.zeros(layer.deviations.shape, "float32")
    at_border = np.ones((9, 9), bool)
    at_border[1:-1, 1:-1] = False
    noise = rng.normal(scale=0.01, size=(9, 9))
    for row, col in np.ndindex(9, 9):
        deviations[row, col, 0, row, col, 0] = at_border[row, col] + noise[row, col]
    deviations[4, 4, 0, 4, 4, 0] = 0.5  # less than a border member, yet a problem child
    layer.deviations.assign(deviations)
    report = structure_report(layer)
    first = report["problem_children"][0]
    assert (first["position"], first["family"]) == ((4, 4), (1, 1, 0, 0))
    assert first["score"] > 20
    assert report["remarkable_children"] < 5


def test_the_report_of_a_model_has_all_layers_and_prints_its_numbers(rng):
    model = keras.Sequential(
        [
            keras.Input((5, 4, 2)),
            SoftConv2D(3, 3, padding="same", name="first"),
            SoftConv2D(2, 2, name="second", use_bias=False, halo=0),
        ],
        name="two",
    )
    for weight in model.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    for layer in model.layers:  # a problem child: nothing is as far away as it is
        sharing, deviations = layer.weight_sharing, to_numpy(layer.deviations)
        template = to_numpy(sharing.template(deviations)).copy()
        template[1, 1, 0] += 50
        layer.deviations.assign(sharing.with_template(deviations, template))
    report = structure_report(model)
    assert list(report) == ["two/first", "two/second"]
    assert report["two/second"]["bias_variance"] is None
    variance = to_numpy(model.layers[0].bias_deviations).astype("float64").var(axis=(0, 1))
    np.testing.assert_allclose(
        report["two/first"]["bias_variance"], variance.mean(), rtol=1e-6
    )
    with pytest.raises(KeyError, match=r"No SoftConv layer 'first'.*\['two/first', 'two/"):
        report["first"]
    assert json.loads(json.dumps(report)).keys() == report.keys()
    text, markdown = str(report), report.to_markdown()
    for path, one in report.items():
        for shown in (text, markdown):
            for name in ("family_variance", "off_template_mass", "distinct_weights"):
                assert readable(one[name]) in shown
            assert f"{one['convolution_share']:.2%}" in shown
            assert str(one["problem_children"][0]["position"]) in shown
            assert path in shown
    assert re.search(r"^\| two/first \| [0-9.]+% \|", markdown, re.M)
    report["two/first"]["layer"] = "a|b"  # not two cells
    assert "| a\\|b |" in report.to_markdown()
    report["two/first"]["layer"] = "two/first"
    assert str(report["two/first"]).splitlines()[2].startswith("two/first ")
    assert report["two/first"].to_markdown().count("| two/first |") == 2
    assert max(map(len, text.splitlines())) <= 92


def test_no_index_of_all_weights_is_made(rng):
    layer = SoftConv2D(8, 3, padding="same", deviation_initializer="glorot_uniform")
    layer.build((None, 16, 16, 3))
    structure_report(layer)  # what is imported and compiled does not count
    tracemalloc.start()
    report = structure_report(layer)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The weights and what sorting them takes; an index would be twice the weights.
    assert peak < 5 * 4 * report["weights"]


def test_an_empty_kernel_is_reported_as_a_convolution():
    layer = SoftConv2D(1, 2, kernel_initializer="zeros")
    layer.build((None, 3, 3, 1))
    report = structure_report(layer)
    assert (report["distinct_weights"], report["zero_weights"]) == (1, 36)
    assert "100.00%" in str(report)


def test_a_diverged_layer_is_reported_as_such():
    layer = SoftConv2D(1, 2)
    layer.build((None, 3, 3, 1))
    layer.shared_kernel.assign(np.full(layer.shared_kernel.shape, np.nan))
    report = structure_report(layer)
    assert np.isnan(report["convolution_share"])
    assert "nan" in str(report)


@pytest.mark.parametrize(
    "nothing", [keras.layers.Dense(1), keras.Sequential([keras.layers.Dense(1)]), "model"]
)
def test_nothing_to_report(nothing):
    message = r"found no SoftConv layer\. Expected one, or.*Received: .*Give a model with"
    with pytest.raises(ValueError, match=message):
        structure_report(nothing)


def test_unbuilt_layers():
    message = r"needs built layers\. Not built: \['soft'\]\. Call the model"
    with pytest.raises(ValueError, match=message):
        structure_report(SoftConv2D(1, 3, name="soft"))


@pytest.mark.parametrize("children", [-1, 1.5, True, None])
def test_bad_number_of_children(children):
    message = rf"`children` must be.*Received: children={children}\. Give the number"
    with pytest.raises(ValueError, match=message):
        structure_report(soft_model(), children=children)
    [report] = structure_report(soft_model(), children=0).values()
    assert report["problem_children"] == []
