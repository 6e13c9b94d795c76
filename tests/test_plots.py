"""Pictures show the weights that there are, in the colours that they say."""

import pickle
import sys
from io import BytesIO

import keras
import numpy as np
import pytest
from conv_cases import CASES
from covering import covering
from keras import ops
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread
from soft_models import kernel_of, names_to_read, random_layer, read, ring_of

from keras_softconv import SoftConv2D, plots, structure_report
from keras_softconv.diagnostics import Members, readable
from keras_softconv.plots.colours import (
    FAMILY_COLOURS,
    OFF_TEMPLATE_COLOUR,
    family_colours,
    off_template_colours,
)
from keras_softconv.plots.connections import heights
from keras_softconv.plots.drawing import image_of

ORIGIN = CASES["origin"]
SAME = CASES["same"]
WIDE = ((6, 5), 4, 4, {"kernel_size": 3, "padding": "same", "groups": 2, "halo": 1})
each_case_and_halo = pytest.mark.parametrize(
    "case",
    [
        *(
            pytest.param(CASES[name], id=name, marks=ring_of(name))
            for name in names_to_read
        ),
        pytest.param(WIDE, id="halo"),
    ],
)
PICTURES = ("connections", "kernel_matrix", "shades", "off_template")


def pixels(figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def texts(figure) -> str:
    found = figure.findobj(lambda artist: hasattr(artist, "get_text"))
    return "\n".join(artist.get_text() for artist in found)


def middle(number) -> np.ndarray:
    return family_colours(np.array(number), np.array(0.0))


def expected_colours(layer, kernel, *, chosen=...) -> np.ndarray:
    """Of every kernel entry, from the dense kernel and the family numbers alone."""
    ids, geometry = layer.family_ids(), layer.weight_sharing.geometry
    kernel = kernel.astype("float64")
    shades = np.zeros(kernel.shape)
    for family in range(geometry.families):
        members = kernel[ids == family]
        shades[ids == family] = members - (members.mean() if members.size else 0)
    numbers = ids // np.prod(geometry.shared_kernel_shape[-2:])
    largest = np.abs(kernel[chosen]).max()
    reach = max(np.abs(shades[chosen]).max(), 0.1 * largest)
    families = family_colours(numbers, shades / reach)
    others = off_template_colours(np.abs(kernel) / largest)
    return np.where((ids >= 0)[..., None], families, others)


def lines(figure):
    """Colour and width of each line by the heights of its ends."""
    found = {}
    for collection in figure.axes[0].collections:
        if "template" in collection.get_label():
            ends = [segment[:, 1] for segment in collection.get_segments()]
            looks = zip(collection.get_colors(), collection.get_linewidths(), strict=True)
            for end, look in zip(ends, looks, strict=True):
                found[tuple(end.round(9))] = look
    return found


@each_case_and_halo
def test_a_line_for_each_weight_in_the_colour_of_its_family(case, rng):
    layer = random_layer(case, rng)
    kernel, geometry = read(layer, kernel_of), layer.weight_sharing.geometry
    rank, channel, filter = layer.rank, geometry.in_channels - 1, 0
    chosen = (*[slice(None)] * rank, channel, ..., filter)
    found = lines(plots.connections(layer, channel=channel, filter=filter))
    expected = expected_colours(layer, kernel, chosen=chosen)[(*chosen, slice(None))]
    left, right = heights(geometry.input_grid), heights(geometry.output_grid)
    expected = expected.reshape(len(left), len(right), 3)
    # Random weights are nowhere zero but where there are none.
    pairs = np.argwhere(kernel[chosen].reshape(expected.shape[:2]))
    assert len(found) == len(pairs)
    for start, end in pairs:
        colour, _ = found[(left[start].round(9), right[end].round(9))]
        np.testing.assert_allclose(colour[:3], expected[start, end], atol=1e-4)


def test_the_drawing_of_the_question(rng):
    layer = random_layer(ORIGIN, rng)
    layer.shared_kernel.assign(np.reshape([1.0, 2.0, 3.0, 4.0], (2, 2, 1, 1)))
    kernel = np.zeros(layer.deviations.shape)
    kernel[0, 0, 0, 0, 0, 0], kernel[0, 1, 0, 0, 1, 0] = -0.5, 0.5
    layer.deviations.assign(kernel)
    figure = plots.connections(layer)
    found = lines(figure)
    assert len(found) == 36
    assert "36 weights: 16 on the template, 20 off it" in texts(figure)
    heads = ("SoftConv2D", layer.name, "(3, 3, 1)", "channel 0", "filter 0")
    assert all(head in texts(figure) for head in heads)
    left, right = heights((3, 3)), heights((2, 2))
    lighter, darker = found[(0, 0)][0], found[(left[1].round(9), right[1].round(9))][0]
    red, blue = middle(0), middle(1)
    assert (lighter[:3] > red).all()
    assert (darker[:3] < red).all()
    np.testing.assert_allclose(found[(left[1].round(9), 0)][0][:3], blue)
    np.testing.assert_allclose(found[(1, 0)][0][:3], 1)  # a dropped weight
    widths = [found[(left[at].round(9), 0)][1] for at in (1, 4)]
    assert widths[0] < widths[1]  # 2 and 4
    for family in structure_report(layer)["families"]:
        assert f"{family['family']}  mean {readable(family['mean'])}" in texts(figure)
    shown = pixels(figure).reshape(-1, 3)
    for colour in (blue, darker[:3], [1, 1, 1]):
        assert (np.abs(shown / 255 - colour).max(axis=1) < 0.01).sum() > 100


@each_case_and_halo
def test_the_matrix_is_the_kernel(case, rng):
    layer = random_layer(case, rng)
    kernel, geometry = read(layer, kernel_of), layer.weight_sharing.geometry
    axes = plots.kernel_matrix(layer).axes[0]
    found = np.asarray(axes.images[0].get_array())
    expected = expected_colours(layer, kernel)
    expected = np.concatenate([expected, (kernel != 0)[..., None]], axis=-1)
    sizes = [np.prod(geometry.input_grid), np.prod(geometry.output_grid)]
    expected = expected.reshape(sizes[0], geometry.in_channels, sizes[1], -1, 4)
    expected = expected.transpose(1, 0, 3, 2, 4).reshape(found.shape)
    np.testing.assert_allclose(found[..., 3], expected[..., 3])
    is_weight = found[..., 3] == 1
    np.testing.assert_allclose(found[is_weight], expected[is_weight], atol=1e-4)
    assert len(axes.lines) == geometry.in_channels + geometry.filters - 2


@each_case_and_halo
def test_shades_are_those_of_the_report(case, rng):
    layer = random_layer(case, rng)
    geometry, filter = layer.weight_sharing.geometry, layer.filters - 1
    figure = plots.shades(layer, channel=geometry.in_channels - 1, filter=filter)
    shades = ops.convert_to_numpy(Members(layer).shades)
    ids = layer.family_ids().reshape(-1, *geometry.output_grid, layer.filters)
    report = structure_report(layer)["families"]
    channels = geometry.in_channels // layer.groups
    numbers = np.arange(geometry.families).reshape(-1, channels, layer.filters)
    drawn = [axes for axes in figure.axes if axes.images][: len(numbers)]
    assert len(drawn) == len(numbers)
    for axes, family in zip(drawn, numbers[:, -1, filter], strict=True):
        expected = shades[..., family].astype("float64")
        expected[~(ids == family).any(axis=(0, -1))] = np.nan
        found = np.ma.filled(axes.images[0].get_array(), np.nan)
        np.testing.assert_array_equal(found, image_of(expected))
        mean = readable(report[family]["mean"])
        assert axes.get_title() == f"{report[family]['family']}\nmean {mean}"
    limits = {axes.images[0].get_clim() for axes in drawn}
    weights = ops.convert_to_numpy(Members(layer).weights)
    sizes = [np.abs(one[..., numbers[:, -1, filter]]).max() for one in (shades, weights)]
    reach = max(sizes[0], 0.1 * sizes[1]) or 1
    np.testing.assert_allclose(list(limits), [(-reach, reach)])
    assert "weight minus family mean" in texts(figure)


@each_case_and_halo
def test_off_template_weights_are_those_of_the_kernel(case, rng):
    layer = random_layer(case, rng)
    kernel, geometry = read(layer, kernel_of), layer.weight_sharing.geometry
    report = structure_report(layer)["positions"]
    worst = max(report, key=lambda entry: entry["off_template_energy"])
    position, filter = worst["position"], layer.filters - 1
    unit = (..., *position, filter)
    is_template = layer.family_ids()[unit] >= 0
    expected = np.where(is_template | (kernel[unit] == 0), np.nan, kernel[unit])
    figure = plots.off_template(layer, filter=filter)
    for channel in range(geometry.in_channels):
        axes = figure.axes[channel]
        found = np.ma.filled(axes.images[0].get_array(), np.nan)
        np.testing.assert_allclose(found, image_of(expected[..., channel]), rtol=1e-6)
        cells = [c for c in axes.collections if c.get_hatch()]
        hatched = sum(len(collection.get_paths()) for collection in cells)
        assert hatched == is_template[..., channel].sum()
    assert f"output {position}, filter {filter}" in texts(figure)
    assert readable(worst["off_template_energy"]) in texts(figure)
    assert ("no weight" in texts(figure)) == (kernel[unit] == 0).any()


def test_of_many_channels_some_are_shown(rng):
    layer = random_layer(((2, 2), 20, 1, {"kernel_size": 1}), rng)
    figure = plots.off_template(layer, position=(1, 0))
    assert "the first 16 of 20 channels" in texts(figure)
    assert sum("channel" in axes.get_title() for axes in figure.axes) == 16


@pytest.fixture
def layer_with_a_child(rng):
    layer = random_layer(SAME, rng)
    deviations = 0.1 * rng.normal(size=layer.deviations.shape)
    deviations[..., 0] = 0
    deviations[2, 3, 0, 1, 3, 1] += 3  # output (1, 3) sees input (2, 3) through tap (2, 1)
    layer.deviations.assign(deviations)
    return layer


def test_problem_children_are_framed_at_their_place(layer_with_a_child):
    figure = plots.shades(layer_with_a_child, filter=1)
    (worst, *_) = structure_report(layer_with_a_child)["problem_children"]
    assert (worst["family"], worst["position"]) == ((2, 1, 0, 1), (1, 3))
    frames = {
        axes.get_title().split("\n")[0]: [patch.get_xy() for patch in axes.patches]
        for axes in figure.axes
    }
    assert (2.5, 0.5) in frames["(2, 1, 0, 1)"]
    (patch, *_) = plots.kernel_matrix(layer_with_a_child).axes[0].patches
    assert patch.get_xy() == (25 + 5 + 3 - 0.5, 10 + 3 - 0.5)


def test_problem_children_are_thick_numbered_lines(layer_with_a_child):
    figure = plots.connections(layer_with_a_child, filter=1)
    (child, *_) = structure_report(layer_with_a_child)["problem_children"]
    said = f"problem child 1: {readable(child['value'])} at output (1, 3), tap (2, 1, 0, 1)"
    assert said in texts(figure)
    thick = figure.axes[0].lines[0]
    np.testing.assert_allclose(thick.get_ydata(), heights((5, 5))[[13, 8]])
    assert "problem child" not in texts(plots.connections(layer_with_a_child, filter=0))


@pytest.mark.parametrize("picture", PICTURES)
def test_before_and_after_share_scales_and_change_nothing(picture, images):
    x, y = (array[..., :1] for array in images)
    layer = SoftConv2D(1, 3, padding="same", deviation_initializer="glorot_uniform")
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    model.compile(keras.optimizers.SGD(0.3), "mse")
    begin = layer.get_weights()
    model.fit(x, y, epochs=3, verbose=0)
    end = layer.get_weights()
    figure = plots.before_and_after(getattr(plots, picture), layer, begin)
    keras.tree.map_structure(np.testing.assert_array_equal, layer.get_weights(), end)
    names = [half.get_suptitle().split(":")[0] for half in figure.subfigs]
    assert names == ["before", "after"]
    assert len({scales_of(half) for half in figure.subfigs}) == 1
    left, right = (colours_in(half.axes[0]) for half in figure.subfigs)
    assert not np.array_equal(left, right, equal_nan=True)
    alike = plots.before_and_after(picture, layer, end)
    left, right = (colours_in(half.axes[0]) for half in alike.subfigs)
    np.testing.assert_array_equal(left, right)


def scales_of(figure) -> tuple:
    """Where the colours of maps end, and what the legend of shades says."""
    maps = [image for axes in figure.axes for image in axes.images]
    ends = [image.get_clim() for image in maps if image.get_array().ndim == 2]
    said = [label.get_text() for axes in figure.axes for label in axes.get_xticklabels()]
    return (*ends, *said)


@pytest.mark.parametrize("picture", ["shades", "off_template"])
def test_before_is_what_was_drawn_before(picture, rng):
    layer = random_layer(SAME, rng)
    begin, options = layer.get_weights(), {"filter": 1}
    if picture == "off_template":
        options["position"] = (0, 3)
    before = colours_in(getattr(plots, picture)(layer, **options).axes[0])
    layer.set_weights([3 * weight for weight in begin])
    figure = plots.before_and_after(picture, layer, begin, **options)
    left, right = (colours_in(half.axes[0]) for half in figure.subfigs)
    np.testing.assert_array_equal(left, before)
    np.testing.assert_allclose(right, 3 * before, rtol=1e-5)


def colours_in(axes) -> np.ndarray:
    """What is mapped to colours, or the colours themselves."""
    if axes.images:
        return np.ma.filled(axes.images[0].get_array(), np.nan)
    return np.concatenate([c.get_colors() for c in axes.collections[:2]])


@pytest.mark.parametrize(
    ("name", "picture"),
    covering(["origin", "same", "signal", "volume", "groups"], PICTURES),
)
def test_nothing_is_cut_off(picture, name, rng):
    shown = pixels(getattr(plots, picture)(random_layer(CASES[name], rng)))
    edges = shown[[0, -1]].reshape(-1, 3), shown[:, [0, -1]].reshape(-1, 3)
    assert all((edge == 255).all() for edge in edges)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_diverged_layers_can_be_drawn(value, rng):
    layer = random_layer(SAME, rng)
    layer.deviations.assign(np.full(layer.deviations.shape, value))
    for draw in plots.legible(layer).values():
        pixels(draw(layer))


def test_what_is_no_built_layer_is_refused():
    for draw in (getattr(plots, name) for name in (*PICTURES, "legible")):
        with pytest.raises(ValueError, match=r"Expected a SoftConv1D.*Received: <.*Dense"):
            draw(keras.layers.Dense(1))
        with pytest.raises(ValueError, match=r"unbuilt SoftConv2D 'raw'.*build\("):
            draw(SoftConv2D(1, 2, name="raw"))


def test_what_a_layer_does_not_have_is_refused(rng):
    layer = random_layer(WIDE, rng)
    for draw in (plots.connections, plots.shades):
        with pytest.raises(ValueError, match=r"`channel` is out of range.*0 to 3.*=4"):
            draw(layer, channel=4)
        with pytest.raises(ValueError, match=r"`filter` is out of range.*filter=-1"):
            draw(layer, filter=-1)
    with pytest.raises(ValueError, match=r"different groups.*from 2 to 3.*groups=2"):
        plots.shades(layer, channel=1, filter=2)
    for position in ((6, 0), (1,), 3, (0, 1.5)):
        with pytest.raises(ValueError, match=r"output grid.*\(6, 5\).*Received: position="):
            plots.off_template(layer, position=position)


def test_what_would_not_be_legible_is_refused_and_not_offered(rng):
    small = random_layer(ORIGIN, rng)
    assert plots.legible(small) == {name: getattr(plots, name) for name in PICTURES}
    large = SoftConv2D(16, 3, padding="same", halo=0)
    large.build((None, 64, 64, 8))
    assert set(plots.legible(large)) == {"shades", "off_template"}
    for draw in plots.legible(large).values():
        draw(large)
    with pytest.raises(ValueError, match=r"36,100 lines.*1,500.*`shades`.*kernel_matrix"):
        plots.connections(large)
    with pytest.raises(ValueError, match=r"32,768 and 65,536 rows.*1,024.*`shades`"):
        plots.kernel_matrix(large)
    wide = random_layer(((14, 14), 1, 1, {"kernel_size": 12}), rng)
    with pytest.raises(ValueError, match=r"144 panels.*121.*`off_template`"):
        plots.shades(wide)
    long = random_layer(((500,), 1, 1, {"kernel_size": 1, "halo": 0}), rng)
    with pytest.raises(ValueError, match=r"500 and 500 nodes.*400"):
        plots.connections(long)


def test_weights_and_pictures_that_do_not_fit_are_refused(rng):
    layer = random_layer(ORIGIN, rng)
    weights = layer.get_weights()
    for wrong in (weights[1:], [w.T for w in weights], None):
        with pytest.raises(ValueError, match=r"do not fit.*Expected.*\(2, 2, 1, 1\)"):
            plots.before_and_after("shades", layer, wrong)
    for picture in ("shade", print):
        with pytest.raises(ValueError, match=r"`picture` must be one of \['connections'"):
            plots.before_and_after(picture, layer, weights)


@pytest.mark.parametrize("picture", PICTURES)
def test_without_matplotlib_there_is_a_remedy(picture, rng, monkeypatch):
    layer = random_layer(ORIGIN, rng)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install matplotlib.*structure_report"):
        getattr(plots, picture)(layer)


# Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of color
# vision deficiency", 2009, severity 1, for linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
}  # fmt: skip
TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
          [0.0193339, 0.1191920, 0.9503041]]  # fmt: skip


def lab(colours, vision) -> np.ndarray:
    bright = ((colours + 0.055) / 1.055) ** 2.4
    linear = np.where(colours <= 0.04045, colours / 12.92, bright)
    seen = np.clip(linear @ np.transpose(VISIONS[vision]), 0, 1)
    xyz = seen @ np.transpose(TO_XYZ) / [0.95047, 1, 1.08883]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


@pytest.mark.parametrize("vision", VISIONS)
def test_every_reader_can_tell_the_colours(vision):
    assert len(FAMILY_COLOURS) == 9
    families = family_colours(np.arange(9), np.zeros(9))
    amber = off_template_colours(np.array([1.0, 0.5]))
    seen = lab(np.concatenate([families, amber]), vision)
    distances = np.linalg.norm(seen[:, None] - seen, axis=-1)
    for many, least in ((4, 19), (6, 15), (9, 11)):
        assert distances[:many, :many][np.triu_indices(many, k=1)].min() > least
    assert distances[:9, 9].min() > 15
    assert distances[:9, 10].min() > 9
    assert OFF_TEMPLATE_COLOUR not in FAMILY_COLOURS


def test_the_unit_that_is_drawn_is_the_one_with_most_off_its_template():
    layer = SoftConv2D(3, 2)
    layer.build((None, 4, 4, 1))
    deviations = np.zeros(layer.deviations.shape)
    deviations[3, 3, 0, 0, 0, 0] = 1.0
    deviations[0, 0, 0, 2, 2, 1] = 5.0
    layer.deviations.assign(deviations)
    figure = plots.off_template(layer)
    assert "off-template weights of output (2, 2), filter 1" in texts(figure)
    assert np.nanmax(figure.axes[0].images[0].get_array()) == 5


@pytest.mark.parametrize("picture", ["shades", "off_template"])
def test_a_layer_that_is_all_but_a_convolution_looks_even(picture, rng):
    layer = random_layer(((6, 6), 1, 1, {"kernel_size": 3}), rng)
    layer.shared_kernel.assign(np.ones(layer.shared_kernel.shape))
    layer.deviations.assign(1e-4 * rng.normal(size=layer.deviations.shape))
    figure = getattr(plots, picture)(layer)
    (limits,) = {axes.images[0].get_clim() for axes in figure.axes if axes.images}
    np.testing.assert_allclose(limits, (-0.1, 0.1), rtol=1e-2)


def figure_of(picture, layer):
    if picture == "before_and_after":
        return plots.before_and_after("shades", layer, layer.get_weights())
    return getattr(plots, picture)(layer)


each_picture = pytest.mark.parametrize("picture", [*PICTURES, "before_and_after"])


@each_picture
def test_the_last_value_of_a_notebook_cell_is_shown(picture, rng):
    # IPython asks for `_repr_png_`, unless it knows how to draw the class of a figure.
    figure = figure_of(picture, random_layer(ORIGIN, rng))
    assert isinstance(figure, Figure)
    shown = imread(BytesIO(figure._repr_png_()))
    width, height = figure.get_size_inches() * 100
    np.testing.assert_allclose(shown.shape[:2], (height, width), atol=1)
    assert shown.std() > 0.05
    assert figure._repr_html_() is None  # and no second picture
    assert not pyplot.get_fignums()


@each_picture
def test_figures_can_be_pickled(picture, rng):
    figure = figure_of(picture, random_layer(ORIGIN, rng))
    again = pickle.loads(pickle.dumps(figure))
    assert type(again) is type(figure)
    assert texts(again) == texts(figure)
    assert again._repr_png_()
