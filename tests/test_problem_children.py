"""Which members stand out: dead borders, planted ones, and what chance would give."""

import re

import numpy as np
import pytest
from backends import BACKEND
from keras.ops import convert_to_numpy as to_numpy

from keras_softconv import SoftConv1D, SoftConv2D, structure_report
from keras_softconv.diagnostics import Members, problem_children, scores
from keras_softconv.diagnostics.parts import Parts

# JAX compiles for each shape.
HALOS_AND_GROUPS = [(None, 1), (None, 2), (0, 1), (0, 2), (1, 1), (1, 2)]
if BACKEND == "jax":
    HALOS_AND_GROUPS = [(0, 1)]
GRIDS = [(8, 8)] if BACKEND == "jax" else [(8, 8), (5, 5), (4, 4), (16,)]


def layer_of(grid, filters=4, **arguments):
    kind = {1: SoftConv1D, 2: SoftConv2D}[len(grid)]
    arguments = {"padding": "same", "halo": 0, "kernel_initializer": "zeros", **arguments}
    layer = kind(filters, 3, **arguments)
    layer.build((None, *grid, 3))
    return layer


def assign(layer, template) -> None:
    """Gives a layer deviations with these template entries."""
    sharing, stored = layer.weight_sharing, to_numpy(layer.deviations)
    template = template.astype("float32")
    layer.deviations.assign(sharing.with_template(stored, template))


def noise_of(layer, rng, scale=0.01) -> np.ndarray:
    geometry = layer.weight_sharing.geometry
    return scale * rng.normal(size=(*geometry.output_grid, geometry.families))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("dead", [0.0, 1e-4])
def test_a_dead_border_does_not_fill_the_list(grid, dead, rng):
    # Of inputs that are nearly always 0 at the border: its weights hardly leave 0.
    layer = layer_of(grid, filters=16)
    layer.shared_kernel.assign(0.1 * rng.normal(size=layer.shared_kernel.shape))
    geometry, template = layer.weight_sharing.geometry, noise_of(layer, rng)
    border = geometry.sees_padding
    template[border] *= dead / 0.01
    alive = border[..., None] & (rng.uniform(size=template.shape) < 0.1)
    template[alive] = 0.01 * rng.normal(size=alive.sum())
    middle, family = tuple(size // 2 for size in grid), geometry.families // 2
    template[(*middle, family)] = 0.1
    assign(layer, template)
    report = structure_report(layer, children=40)
    first = report["problem_children"][0]
    assert first["position"] == middle
    assert np.ravel_multi_index(first["family"], geometry.shared_kernel_shape) == family
    # The border has no more than its share of the members.
    at_border = np.mean([border[c["position"]] for c in report["problem_children"]])
    is_member = to_numpy(layer.weight_sharing.is_member())
    assert at_border <= is_member[border].sum() / is_member.sum()
    assert report["remarkable_children"] < 0.005 * report["template_weights"]


def test_a_deviation_scores_alike_in_the_middle_and_at_a_calm_border(rng):
    layer = layer_of((8, 8))
    template = noise_of(layer, rng)
    template[layer.weight_sharing.geometry.sees_padding] *= 0.01
    family = layer.weight_sharing.geometry.families // 2  # of the middle tap
    template[4, 4, family] = template[0, 4, family] = 0.1
    assign(layer, template)
    found = scores(Members(layer))[..., family]
    np.testing.assert_allclose(found[0, 4], found[4, 4], rtol=0.1)
    assert 6 < found[4, 4] < 15


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_planted_children_are_found_at_the_border_and_in_the_middle(grid, seed):
    rng = np.random.default_rng(seed)
    layer = layer_of(grid)
    border = layer.weight_sharing.geometry.sees_padding
    template, planted = noise_of(layer, rng), set()
    is_member = to_numpy(layer.weight_sharing.is_member())
    for place in (border, ~border):
        position = tuple(map(int, rng.permutation(np.argwhere(place))[0]))
        family = int(rng.permutation(np.flatnonzero(is_member[position]))[0])
        template[(*position, family)] += rng.choice([-0.2, 0.2])
        planted.add((position, family))
    assign(layer, template)
    children = structure_report(layer)["problem_children"]
    shape = layer.weight_sharing.geometry.shared_kernel_shape
    first = {
        (child["position"], int(np.ravel_multi_index(child["family"], shape)))
        for child in children[:2]
    }
    assert first == planted
    assert min(child["score"] for child in children[:2]) > 3.5


@pytest.mark.parametrize("seed", range(10))
def test_planted_positions_are_found_all_of_them(seed):
    # As `experiments/planted_children.py` does, with the border among the positions.
    rng = np.random.default_rng(seed)
    layer = layer_of((10, 10), filters=1)
    template = noise_of(layer, rng, scale=0.1)
    corner = tuple(rng.choice([0, 9], 2))
    others = rng.permutation([p for p in np.ndindex(10, 10) if p != corner])[:4]
    planted = {tuple(map(int, position)) for position in (corner, *others)}
    for position in planted:
        template[position] += 3 * rng.choice([-1, 1], template.shape[-1])
    assign(layer, template)
    report = structure_report(layer)
    positions = [child["position"] for child in report["problem_children"]]
    assert set(list(dict.fromkeys(positions))[:5]) == planted
    by_position = report["remarkable_by_position"]
    assert {group["position"] for group in by_position[:5]} == planted


@pytest.mark.parametrize(
    ("grid", "padding"), [((12, 12), "valid"), ((8, 8), "same"), ((60,), "same")]
)
def test_as_many_are_remarkable_as_chance_would_give(grid, padding, rng):
    layer = layer_of(grid, filters=64, padding=padding)
    assign(layer, noise_of(layer, rng))
    report = structure_report(layer, children=0)
    assert report["expected_by_chance"] > 20
    ratio = report["remarkable_children"] / report["expected_by_chance"]
    assert 0.6 < ratio < 1.6
    text = " ".join(str(report).split())
    found = f"{report['remarkable_children']:,} of {report['template_weights']:,} members"
    said = re.search(
        r"(\S+ of \S+ members) score above 3.5; chance would give (\S+)[.:]", text
    )
    assert said[1] == found
    np.testing.assert_allclose(float(said[2]), report["expected_by_chance"], rtol=0.01)


def test_chance_gives_none_where_nothing_spreads(rng):
    layer = layer_of((6, 6))
    layer.shared_kernel.assign(np.ones(layer.shared_kernel.shape))
    assert structure_report(layer)["expected_by_chance"] == 0
    assign(layer, noise_of(layer, rng, scale=1e-6))
    report = structure_report(layer)
    assert (report["remarkable_children"], report["expected_by_chance"]) == (0, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_family_that_diverged_is_left_out_and_the_others_are_judged(value, rng):
    layer = layer_of((8, 8))
    template = noise_of(layer, rng)
    template[3, 3, 50], template[4, 4, 60] = value, 0.2
    assign(layer, template)
    report = structure_report(layer)
    first = report["problem_children"][0]
    assert first["position"] == (4, 4)
    assert np.isfinite([child["score"] for child in report["problem_children"]]).all()
    assert np.isfinite(report["expected_by_chance"])
    found = scores(Members(layer))
    assert np.isfinite(found).all()
    assert not found[..., 50].any()


def test_groups_count_all_remarkable_members(rng):
    layer = layer_of((6, 5), filters=4)
    geometry, template = layer.weight_sharing.geometry, noise_of(layer, rng)
    filters = np.arange(geometry.families) % 4
    template[2, 3, filters == 1] += 1.0
    template[4, 0, filters == 2] += 1.0
    assign(layer, template)
    report = structure_report(layer, children=3)  # fewer than are counted
    found = scores(Members(layer)) > 3.5
    is_member = to_numpy(layer.weight_sharing.is_member())
    by_position = report["remarkable_by_position"]
    assert {group["position"] for group in by_position} == set(
        map(tuple, np.argwhere(found.any(axis=-1)))
    )
    for group in by_position:
        assert group["remarkable"] == found[group["position"]].sum()
        assert group["members"] == is_member[group["position"]].sum()
    by_filter = {group["filter"]: group for group in report["remarkable_by_filter"]}
    for number in range(4):
        chosen = (..., filters == number)
        count = found[chosen].sum()
        assert by_filter.get(number, {"remarkable": 0})["remarkable"] == count
        if count:
            assert by_filter[number]["members"] == is_member[chosen].sum()
    for group in (by_position, report["remarkable_by_filter"]):
        shares = [one["remarkable"] / one["members"] for one in group]
        assert shares == sorted(shares, reverse=True)
    text = " ".join(str(report).split())
    for group in by_position[:2]:
        assert f"{group['position']}: {group['remarkable']} of {group['members']}" in text
    for number in (1, 2):
        group = by_filter[number]
        said = f"filter {number}: {group['remarkable']} of {group['members']} members"
        assert said in text


@pytest.mark.parametrize(("halo", "groups"), HALOS_AND_GROUPS)
def test_a_report_in_parts_is_that_of_the_whole(halo, groups, rng, monkeypatch):
    layer = SoftConv2D(6, 3, padding="same", halo=halo, groups=groups)
    layer.build((None, 5, 4, 2 * groups))
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    whole = structure_report(layer, children=30)
    monkeypatch.setattr("keras_softconv.diagnostics.parts.PART_SIZE", 1)
    monkeypatch.setattr("keras_softconv.diagnostics.parts.FEWEST_FILTERS", 2)
    assert len(list(Parts(layer))) == 3 if groups == 1 else 2
    in_parts = structure_report(layer, children=30)
    assert in_parts.keys() == whole.keys()
    for name, value in whole.items():
        _assert_alike(in_parts[name], value)
    # The public functions, of all members at once, say the same.
    members = Members(layer)
    found = scores(members)
    assert (found > 3.5).sum() == whole["remarkable_children"]
    _assert_alike(problem_children(members, found, 30), whole["problem_children"])


def _assert_alike(found, expected) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name in expected:
            _assert_alike(found[name], expected[name])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for pair in zip(found, expected, strict=True):
            _assert_alike(*pair)
    elif isinstance(expected, float):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    else:
        assert found == expected
