"""The examples run, offline and without a screen, and show what they claim."""

import json
import re
import runpy
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import keras
import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_softconv import SoftConv2D

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(script: str, *arguments: str) -> str:
    """What a script prints, run in this process as from a command line."""
    printed = StringIO()
    with pytest.MonkeyPatch.context() as patch, matplotlib.rc_context():
        patch.syspath_prepend(str(EXAMPLES))
        patch.setattr("sys.argv", [script, *arguments])
        with redirect_stdout(printed):
            runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    return printed.getvalue()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return folder, run("denoise_digits.py", "--quick", "--log-dir", str(folder))


@pytest.mark.slow
def test_denoise_digits_prints_a_table_and_how_to_open_tensorboard(demo):
    folder, printed = demo
    table = (folder / "results.md").read_text()
    assert table in printed
    assert f"tensorboard --logdir {folder}" in printed
    assert "15/15" in printed  # progress


@pytest.mark.slow
def test_denoise_digits_shows_that_softer_is_better(demo):
    folder, _ = demo
    fits = json.loads((folder / "results.json").read_text())["fits"]
    errors = {
        method: np.mean([fit["test"] for fit in fits if fit["method"] == method])
        for method in {fit["method"] for fit in fits}
    }
    # Even in quick mode: one setting each, two seeds, less training.
    rivals = [errors[name] for name in ("Dense", "Dense + weight decay", "Conv2D")]
    assert errors["SoftConv2D"] < 0.9 * min(rivals)


@pytest.mark.slow
def test_denoise_digits_logs_the_structure(demo):
    folder, _ = demo
    events = EventAccumulator(str(folder / "50_images" / "softconv")).Reload()
    names = {tag.rpartition("/")[2] for tag in events.Tags()["tensors"]}
    assert {"family_variance", "off_template_mass", "convolution_share"} < names
    for run_name in ("train", "validation"):
        assert any((folder / "50_images" / run_name).iterdir())


@pytest.mark.slow
def test_denoise_digits_draws_its_picture(demo):
    folder, _ = demo
    picture = imread(folder / "digits.png")
    assert picture.shape[0] > 500
    assert picture.shape[1] > 1200
    # Many shades on the right, where the families are.
    colours = np.unique(picture[:, picture.shape[1] * 6 // 10 :].reshape(-1, 4), axis=0)
    assert len(colours) > 300


def test_denoise_digits_needs_two_seeds_for_a_standard_error(capsys):
    with pytest.raises(SystemExit) as ending:
        run("denoise_digits.py", "--seeds", "1")
    assert ending.value.code == 2
    assert "standard errors need 2 seeds or more, not 1" in capsys.readouterr().err


def test_the_picture_lays_out_each_family_over_the_output(monkeypatch, rng):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from digit_pictures import _members_by_output

    layer = SoftConv2D(1, 3, padding="same", kernel_initializer="zeros")
    layer.build((None, 8, 8, 1))
    layer.deviations.assign(rng.normal(size=layer.deviations.shape))
    members = _members_by_output(np.array(layer.kernel), layer.family_ids())
    expected = np.moveaxis(np.array(layer.weight_sharing.template(layer.deviations)), 2, 0)
    inside = ~np.isnan(members)
    np.testing.assert_array_equal(members[inside], expected[inside])
    assert (expected[~inside] == 0).all()
    assert (~inside).sum() == 4 * (8 + 8 - 1) + 4 * 8


def test_plot_penalties_draws_each_of_them_and_their_steps(tmp_path):
    run("plot_penalties.py", "--quick", "--output", str(tmp_path / "penalties.png"))
    picture = imread(tmp_path / "penalties.png")
    assert picture.shape[0] > 600
    assert picture.shape[1] > 1000
    # Two rows of five penalties, each above its step, in the colour of first curves;
    # three have no step.
    is_blue = (np.abs(picture[..., :3] - [0, 0x72 / 255, 0xB2 / 255]) < 0.02).all(axis=-1)
    panels = [np.array_split(rows, 5, axis=1) for rows in np.array_split(is_blue, 4)]
    is_drawn = [[panel.sum() > 100 for panel in row] for row in panels]
    assert is_drawn == [[True] * 5, [True] * 5, [True] * 5, [True] * 2 + [False] * 3]


@pytest.mark.slow
def test_regularization_path_finds_strengths_and_draws_the_path(tmp_path):
    output = tmp_path / "path.png"
    printed = run("regularization_path.py", "--quick", "--output", str(output))
    found = re.findall(r"^(best|one standard error|learned ridges): .*", printed, re.M)
    assert found == ["best", "one standard error", "learned ridges"]
    errors = re.findall(r"test error ([0-9.]+) %", printed)
    assert len(errors) == 3
    assert all(0 < float(error) < 100 for error in errors)
    assert imread(output).shape[0] > 500


@pytest.mark.slow
@pytest.mark.parametrize("rank", [1, 2])
def test_planted_problem_children_are_ranked_first(rank, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from problem_children import TASKS, Learner, draw, most_deviant

    draws = [draw(TASKS[rank], seed) for seed in range(10)]
    lasso, ridge = Learner(TASKS[rank]), Learner(TASKS[rank], keras.regularizers.L2(0.01))
    for learner in (lasso, ridge):
        learner.model.jit_compile = True  # faster over so many small steps
    right, errors = 0, {lasso: [], ridge: []}
    for learner in (lasso, ridge):
        for seed, data in enumerate(draws):
            report = learner.learn(data, seed)
            errors[learner].append(learner.error(data))
            if learner is lasso:
                right += set(most_deviant(report)) == data.planted
    assert right >= 9
    # The best of the ridges 0.001, 0.01, 0.03 and 0.1.
    assert np.mean(errors[ridge]) > 5 * np.mean(errors[lasso])


def test_problem_children_reports_and_draws_where_they_are(tmp_path):
    output = tmp_path / "children.png"
    printed = run("problem_children.py", "--output", str(output))
    planted, found = re.findall(r"^(?:planted|most deviant): +(\[.*\])$", printed, re.M)
    assert planted == found
    assert "ranked first in 1 of 1 draws" in printed
    assert "Problem children of soft: " in printed
    picture = imread(output)[..., :3]
    # Nine panels with five framed pixels each, some of them at the border.
    is_frame = picture.max(axis=2) < 0.2
    assert is_frame.sum() > 2000


@pytest.mark.slow
def test_soften_a_network_tells_which_layer_left_the_convolution(tmp_path):
    output, logs = tmp_path / "where.png", tmp_path / "logs"
    options = ["--quick", "--log-dir", str(logs), "--output", str(output)]
    printed = run("soften_a_network.py", *options)
    rows = re.findall(r"^network/(\w+) +(\S+)% +(\S+)% +(\S+)%$", printed, re.M)
    assert [name for name, *_ in rows] == ["edges", "strokes"]
    for _, *shares in rows:
        convolution, family, off_template = map(float, shares)
        assert 50 < convolution < 100
        np.testing.assert_allclose(convolution + family + off_template, 100, atol=0.02)
    assert len(re.findall(r"[0-9.]+ %", printed)) >= 4
    assert imread(output).shape[0] > 600
    tags = EventAccumulator(str(logs / "softconv")).Reload().Tags()["tensors"]
    assert "softconv/network/edges/pictures/shades" in tags
    assert "softconv/report" in tags


@pytest.mark.slow
def test_plot_families_finds_the_problem_child(tmp_path):
    output = tmp_path / "families.png"
    printed = run("plot_families.py", "--output", str(output))
    assert re.search(r"^\(0, 1\) +\(1, 0, 0, 0\) ", printed, re.M)
    assert re.search(r"^soft .* 36 +6 +20$", printed, re.M)  # four, one, and 0
    left, right = np.array_split(imread(output)[..., :3], 2, axis=1)
    # Amber lines of off-template weights, in the plot and not in its legend.
    is_amber = [
        (half[..., 0] > 0.9) & (half[..., 2] < 0.5) & (half[..., 1] > 0.5)
        for half in (left, right)
    ]
    in_plot = [amber[:, : amber.shape[1] * 2 // 3].sum() for amber in is_amber]
    assert in_plot[0] > 500
    assert in_plot[1] == 0


def test_addons_is_told_where_it_runs():
    with pytest.raises(SystemExit) as ending:
        run("addons.py")
    told = ending.value.code  # Python prints a text and ends with status 1.
    assert "Addons needs Keras 2.15: `pip install '.[addons,examples]'`" in told
    assert "denoise_digits.py" in told


@pytest.mark.slow
def test_the_sensors_say_where_their_classes_differ(tmp_path):
    """In full, which takes as long as any training of a network."""
    printed = run("sensor_classifier.py", "--log-dir", str(tmp_path))
    right = [float(number) for number in re.findall(r"Conv1D ([\d.]+) %", printed)]
    convolution, soft = right
    assert convolution < 65
    assert soft > 95
    share, steps = re.findall(r"have (\d+)% .* and (\d+)% of the steps", printed)[0]
    assert int(share) > 1.7 * int(steps)
    assert "sensors/readout/kernel_strength" in printed
    assert list(tmp_path.glob("softconv/events*"))
