"""The tasks, the closed form, the errors and the tables of experiments/."""

import json

import keras
import numpy as np
import pytest
from linear_models import LinearModel
from sklearn.linear_model import Ridge

from keras_softconv import SoftConv2D

DEPARTURES = ["children", "dense", "families", "drift", "regions"]
CASES = {
    "valid": ((4, 4), 2, 2, {"kernel_size": 3}),
    "same": ((4, 4), 1, 2, {"kernel_size": 3, "padding": "same"}),
    "strided": ((5, 4), 1, 2, {"kernel_size": (2, 3), "strides": (2, 1)}),
}


def seeds(*numbers, setting=None):
    """One fit for each seed."""
    return [
        [{"setting": setting, "validation": number, "error": number}] for number in numbers
    ]


# Synthetic truths.


@pytest.mark.parametrize("departure", DEPARTURES)
def test_error_is_that_of_new_images(departure, scripts, rng):
    synthetic = scripts("synthetic")
    task = synthetic.Task(departure, 0.3, examples=20)
    draw = synthetic.Draw(task, seed=1)
    assert [part.shape for part in draw.train] == [(20, 8, 8, 1), (20, 6, 6, 2)]
    assert len(draw.validation[0]) == 50
    wrong = draw.kernel + 0.1 * rng.normal(size=draw.kernel.shape)
    truth, other = (
        draw.error(lambda x, kernel=kernel: x.reshape(len(x), -1) @ kernel)
        for kernel in (draw.kernel, wrong)
    )
    assert truth < 1e-8
    images = rng.normal(size=(4000, 64))
    error = (images @ (wrong - draw.kernel)).var() / (images @ draw.kernel).var()
    np.testing.assert_allclose(other, 100 * error, rtol=0.05)


def test_truths_depart_in_the_way_that_they_are_named(scripts):
    synthetic = scripts("synthetic")

    def taps(departure, violation):
        task = synthetic.Task(departure, violation)
        return task.taps(np.random.default_rng(0))

    def differs(array, axis):
        return (np.ptp(array, axis=axis) > 1e-12).sum()

    conv = taps("children", 0.0)
    assert differs(conv.reshape(36, -1), 0) == 0
    children = taps("children", 0.25).reshape(36, -1)
    assert (children != conv.reshape(36, -1)).any(axis=1).sum() == 9
    assert differs(taps("families", 0.5).reshape(36, -1), 0) == 9
    regions = taps("regions", 1.0)
    assert differs(regions[:, :3].reshape(18, -1), 0) == 0
    assert differs(regions[:, 3:].reshape(18, -1), 0) == 0
    assert differs(regions[0, 2:4], 0) == 18
    drift = taps("drift", 0.3)
    np.testing.assert_allclose(np.diff(drift, 2, axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.diff(drift, 2, axis=1), 0, atol=1e-12)
    assert differs(drift.reshape(36, -1), 0) == 18
    for departure in DEPARTURES:
        kernels = [
            synthetic.Task(departure, 0.3).truth(np.random.default_rng(seed))
            for seed in range(20)
        ]
        np.testing.assert_allclose(np.square(kernels).sum(axis=1).mean(), 1, rtol=0.15)


# The closed form.


@pytest.fixture(params=list(CASES))
def problem(request, scripts, rng):
    """A case, its examples and its closed form."""
    case = CASES[request.param]
    grid, channels, filters, arguments = case
    layer = SoftConv2D(filters, **arguments)
    inputs = rng.normal(size=(30, *grid, channels))
    layer.build(inputs.shape)
    targets = rng.normal(size=layer.compute_output_shape(inputs.shape))
    solver = scripts("closed_form").RidgeProblem(layer, inputs, targets)
    return case, inputs, targets, solver


def test_closed_form_is_the_ridge_optimum(problem):
    case, inputs, targets, solver = problem
    found = solver.solve(0.02, 0.05)
    kernel, bias = LinearModel(case, inputs, targets).ridge_optimum((0.02, 0.05))
    np.testing.assert_allclose(found.kernel.ravel(), kernel.ravel(), atol=1e-6)
    np.testing.assert_allclose(found.bias, bias.ravel(), atol=1e-6)


def test_without_sharing_it_is_weight_decay(problem):
    _, inputs, targets, solver = problem
    flat = inputs.reshape(30, -1), targets.reshape(30, -1)
    found = solver.solve_without_sharing(0.03, 0.03)
    independent = Ridge(alpha=0.03 * flat[1].size).fit(*flat)
    np.testing.assert_allclose(found.kernel, independent.coef_.T, atol=1e-6)
    np.testing.assert_allclose(found.bias, independent.intercept_, atol=1e-6)
    assert found.error(inputs, targets) == pytest.approx(
        np.mean((independent.predict(flat[0]) - flat[1]) ** 2)
    )


def test_locally_connected_has_nothing_off_the_template(problem):
    case, inputs, targets, solver = problem
    found = solver.solve_without_sharing(0.03, np.inf)
    is_off = LinearModel(case, inputs, targets).ids.reshape(found.kernel.shape) < 0
    assert not found.kernel[is_off].any()
    assert np.count_nonzero(found.kernel[~is_off]) == (~is_off).sum()


def test_its_end_is_the_convolution(problem):
    _, inputs, _, solver = problem
    conv, end = solver.solve_convolution(0.0), solver.solve(np.inf, np.inf)
    np.testing.assert_allclose(end.kernel, conv.kernel, atol=1e-8)
    np.testing.assert_allclose(solver.solve(1e6, 1e6).kernel, conv.kernel, atol=1e-4)
    assert np.abs(solver.solve_convolution(1e9)(inputs)).std(axis=0).max() < 1e-3


def test_biases_of_their_own_leave_no_output_a_mean_residual(problem):
    _, inputs, targets, solver = problem
    conv, tied = solver.solve_convolution(0.0), solver.solve_with_biases(1e6)
    np.testing.assert_allclose(tied.kernel, conv.kernel, atol=1e-5)
    np.testing.assert_allclose(tied.bias, conv.bias, atol=1e-5)
    residuals = solver.solve_with_biases(1e-9)(inputs) - targets.reshape(30, -1)
    np.testing.assert_allclose(residuals.mean(axis=0), 0, atol=1e-6)
    assert np.abs((conv(inputs) - targets.reshape(30, -1)).mean(axis=0)).max() > 0.1


# Training.


def without_xla(method, draw):
    """A method without XLA, which would compile for longer than the method trains."""
    method.model(draw).jit_compile = False
    return method


@pytest.mark.slow
def test_every_fit_begins_anew_and_ends_near_the_closed_form(scripts):
    synthetic, methods = scripts("synthetic"), scripts("trained_methods")
    draw = synthetic.Draw(synthetic.Task("children", 0.1, examples=50), 0)
    one = methods.soft("L2", methods.L2(1.0), [10.0], [100.0], rounds=8)
    first = without_xla(one, draw).fits(draw)[0]
    other = synthetic.Draw(synthetic.Task("children", 0.1, 50, side=6), 0)
    without_xla(one, other).fits(other)
    assert one.fits(draw)[0] == first
    (solved,) = scripts("solved_methods").ridge_ties([10.0], [100.0]).fits(draw)
    assert solved["setting"] == first["setting"]
    assert first["error"] == pytest.approx(solved["error"], rel=0.03)
    assert first["validation"] == pytest.approx(solved["validation"], rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["dense", "photographs"])
def test_released_goes_on_from_the_convolution_without_penalties(source, scripts):
    synthetic, denoising = scripts("synthetic"), scripts("denoising")
    methods, rates = scripts("trained_methods"), [1e-9, 1e-3]
    draw = {  # without biases and with them
        "dense": lambda: synthetic.Draw(synthetic.Task("dense", 0.3, examples=50), 0),
        "photographs": lambda: denoising.Draw(denoising.Task("photographs", 200), 0),
    }[source]()
    one = methods.released(rounds=4, rates=rates)
    conv_alone = methods.convolution_by_adam(rounds=4)
    if source == "dense":  # the other takes long enough to be compiled
        for method in (one.before, one.after, conv_alone):
            without_xla(method, draw)
    held, still, moved = one.fits(draw)
    assert [fit["setting"] for fit in (held, still, moved)] == [0.0, *rates]
    (conv,) = conv_alone.fits(draw)
    for error in ("validation", "error"):
        assert held[error] == conv[error] == pytest.approx(still[error], rel=1e-4)
    assert moved["validation"] < 0.9 * held["validation"]
    (layer,) = one.after.model(draw).layers
    assert float(layer.tie_strength) == float(layer.off_template_strength) == 0
    assert keras.ops.any(layer.deviations)


def test_locally_connected_by_adam_has_no_shared_kernel(scripts):
    synthetic, methods = scripts("synthetic"), scripts("trained_methods")
    draw = synthetic.Draw(synthetic.Task("children", 0.1, examples=50), 0)
    local = methods.locally_connected_by_adam(2, [3.0])
    assert without_xla(local, draw).fits(draw)[0]["setting"] == (3.0, 1.0)
    (layer,) = local.model(draw).layers
    assert not keras.ops.any(layer.shared_kernel)
    assert keras.ops.any(layer.deviations)


@pytest.mark.slow
def test_dense_by_adam_ends_at_ridge_regression(scripts):
    synthetic, methods = scripts("synthetic"), scripts("trained_methods")
    draw = synthetic.Draw(synthetic.Task("dense", 1.0, examples=100), 0)
    dense = methods.dense_by_adam(16, [20.0], "Dense")
    (trained,) = without_xla(dense, draw).fits(draw)
    (solved,) = scripts("solved_methods").dense([20.0]).fits(draw)
    for error in ("validation", "error"):
        assert trained[error] == pytest.approx(solved[error], rel=0.01)


@pytest.mark.slow
def test_learned_strengths_take_no_validation_data(scripts):
    synthetic, methods = scripts("synthetic"), scripts("trained_methods")
    draw = synthetic.Draw(synthetic.Task("children", 0.1, examples=50), 0)
    learned = methods.learned("learned", methods.L2(1.0), rounds=2)
    (learnt,) = without_xla(learned, draw).fits(draw)
    assert learnt["setting"] is None
    assert np.isnan(learnt["validation"])
    assert learnt["error"] < 60


# Pictures and signals.


@pytest.mark.parametrize("source", ["digits", "photographs"])
def test_pictures_for_training_validation_and_test_differ(source, scripts):
    denoising = scripts("denoising")
    draw = denoising.Draw(denoising.Task(source, 200), 0)
    parts = [clean for _, clean in (draw.train, draw.validation, draw.test)]
    assert [len(part) for part in parts] == [200, 50, {"digits": 597}.get(source, 4000)]
    rows = [{picture.tobytes() for picture in part} for part in parts]
    # One digit in 1797 may be drawn twice, no piece of the other photograph.
    assert not rows[0] & rows[2] or source == "digits"
    for noisy, clean in (draw.train, draw.test):
        assert (noisy - clean).std() == pytest.approx(draw.task.noise, rel=0.03)
    assert draw.error(lambda noisy: noisy) == pytest.approx(100, rel=0.03)


def test_photographs_are_averaged_and_cut(scripts):
    denoising = scripts("denoising")
    picture = denoising.photograph("china.jpg")
    assert picture.shape == (213, 320)
    colours = denoising.load_sample_image("china.jpg")
    assert picture[5, 7] == pytest.approx(colours[10:12, 14:16].mean() / 255)
    numbered = np.arange(100.0).reshape(10, 10)
    for piece in denoising.cut(numbered, 20, np.random.default_rng(0))[..., 0]:
        np.testing.assert_array_equal(np.diff(piece, axis=1), 1)
        np.testing.assert_array_equal(np.diff(piece, axis=0), 10)


def test_signals_are_convolved_but_at_the_planted_positions(scripts):
    signals = scripts("signals")
    draw = signals.Draw(signals.Task(examples=4, planted=5), 0)
    differs = np.abs(draw.taps - draw.shared_kernel).max(axis=1) > 1e-9
    assert np.flatnonzero(differs).tolist() == draw.planted.tolist()
    (inputs, targets), position = draw.test, 9
    window = inputs[:, position : position + 3, 0]
    residual = targets[:, position, 0] - window @ draw.taps[position]
    assert residual.std() == pytest.approx(signals.NOISE, rel=0.1)
    mixed = signals.Draw(signals.Task(examples=4, rank=2), 0)
    assert np.linalg.matrix_rank(mixed.taps, tol=1e-9) == 2


# Tables.


def test_validation_data_choose_and_gains_are_taken_seed_by_seed(scripts):
    comparison = scripts("comparison")
    fits = {
        "one": [[{"validation": 1, "error": 4.0}], [{"validation": 3, "error": 1.0}]],
        "other": [[{"validation": 2, "error": 1.0}], [{"validation": 1, "error": 2.0}]],
        "mine": [[{"validation": 2, "error": 1.0}], [{"validation": 1, "error": 1.0}]],
    }
    best = comparison.best_of(fits, ["one", "other"])
    assert comparison.errors(best).tolist() == [4.0, 2.0]
    rivals = {"both": ["one", "other"]}
    table = comparison.comparison_table({"task": fits}, ("mine", ["mine"]), rivals)
    assert table.splitlines()[2:] == [
        "| task | 2.50 ± 1.50 | 1.50 ± 0.50 | 1.00 ± 0.00 | 62.5 ± 12.5 % (50.0 %) |",
    ]
    chosen = comparison.comparison_table({"task": fits}, ("both", ["one", "mine"]), {})
    assert chosen.splitlines()[0].endswith("| mine | both |")


def test_the_best_of_each_column_is_bold(scripts):
    found = {
        "few": {"L2": seeds(3.0, 5.0), "L1": seeds(1.0, 1.0)},
        "none": {"L2": seeds(1.0, 1.0), "L1": seeds(20.0, 20.0)},
    }
    assert scripts("departures").render(found)["departures"].splitlines()[2:] == [
        "| L2 | 4.00 ± 1.00 | **1.00 ± 0.00** |",
        "| L1 | **1.00 ± 0.00** | 20.0 ± 0.0 |",
    ]


def test_methods_that_are_best_at_an_end_of_their_grid_are_told(scripts):
    def fits(best, *others):
        tried = [{"setting": best, "validation": 1.0, "error": 1.0}]
        tried += [{**tried[0], "setting": one, "validation": 2.0} for one in others]
        return [tried, tried]

    methods = {
        "end": fits((3.0, 5.0), (1.0, 4.0), (2.0, 6.0)),
        "middle": fits((2.0, 3.0), (1.0, 3.0), (3.0, 3.0)),
        "rate": fits(1.0, 2.0, 3.0),
        "template": fits((1.0, np.inf), (0.0, np.inf), (2.0, np.inf)),
        "alone": fits(1.0),
        "learned": fits(None),
    }
    told = scripts("comparison").at_an_end({"task": methods})
    assert told == ["task, end, setting 1", "task, rate, setting 1"]
    half = [fits(3.0, 1.0, 2.0)[0], fits(2.0, 1.0, 3.0)[0]]
    assert scripts("comparison").at_an_end({"task": {"half": half}}) == []


def test_fixed_strengths_are_those_with_the_least_mean_error(scripts):
    strengths = scripts("strengths")
    fits = [
        [{"validation": 1, "error": 4.0}, {"validation": 2, "error": 2.0}],
        [{"validation": 2, "error": 3.0}, {"validation": 1, "error": 3.0}],
    ]
    fixed = strengths.best_fixed(fits)
    assert [fit["error"] for (fit,) in fixed] == [2.0, 3.0]
    task = {"ridge ties": fits, "learned": seeds(5.0, 5.0), "best fixed": fixed}
    assert strengths.render_learned({"task": task}).splitlines()[2:] == [
        "| task | 2.50 ± 0.50 | 3.50 ± 0.50 | 5.00 ± 0.00 | 2.00 |"
    ]


def test_a_study_leaves_json_markdown_and_what_was_chosen(
    scripts, tmp_path, monkeypatch, capsys
):
    study = scripts("study")
    found = {"task": {"a": seeds(1.0, 2.0)}}
    tables = {"one": "| task | 1.50 ± 0.50 |"}
    one = study.Study("one", "One.", lambda _: found, lambda _: tables)
    monkeypatch.setattr("sys.argv", ["one.py", "--output", str(tmp_path)])
    one.main()
    results = json.loads((tmp_path / "one.json").read_text())
    assert results["seeds"] == 5
    assert results["tuned"]["task"]["a"] == [fit for (fit,) in seeds(1.0, 2.0)]
    text = (tmp_path / "one.md").read_text()
    assert text in capsys.readouterr().out
    assert text.splitlines()[-1] == "| task | 1.50 ± 0.50 |"


def test_a_quick_trial_does_not_overwrite_the_results(scripts, monkeypatch):
    study = scripts("study")
    folders = []
    for options in ([], ["--quick"]):
        monkeypatch.setattr("sys.argv", ["one.py", *options, "--write"])
        found = study.command_line("One.", seeds=5)
        folders.append(found.output)
        assert found.write != found.quick
    assert folders[0] != folders[1]


def test_one_seed_has_no_standard_error(scripts, monkeypatch, capsys):
    study = scripts("study")
    monkeypatch.setattr("sys.argv", ["one.py", "--seeds", "1"])
    with pytest.raises(SystemExit):
        study.Study("one", "One.", dict, dict).main()
    assert "standard errors need 2 seeds or more, not 1" in capsys.readouterr().err


# What is published.


def published(scripts):
    return sorted(scripts("targets").RESULTS.glob("*.json"))


def test_every_study_is_published_and_its_tables_stand_in_the_docs(scripts):
    study, studies = scripts("study"), scripts("evidence").STUDIES
    assert {path.stem for path in published(scripts)} == set(studies)
    documents = [path.read_text() for path in study.DOCUMENTS]
    for path in published(scripts):
        results = json.loads(path.read_text())
        assert results["seeds"] >= 5
        for name, text in results["tables"].items():
            section = f"<!-- begin: {name} -->\n\n{text}\n\n<!-- end: {name} -->"
            assert sum(section in document for document in documents) == 1, name


def test_the_table_of_targets_is_that_of_the_published_results(scripts):
    targets = scripts("targets")
    text = (targets.ROOT / "docs" / "evidence.md").read_text()
    assert targets.render() in text


def test_a_missed_target_is_told(scripts):
    targets = scripts("targets")
    fits = {"ridge ties": seeds(3.0, 3.0), "lasso ties": seeds(2.9, 2.9)}
    baselines = {name: seeds(3.1, 3.1) for name in scripts("violation").BASELINES}
    names = ("dense, v = 0", "dense, v = 0.1", "dense, v = 0.3", "children, v = 0.1")
    found = dict.fromkeys((*names, scripts("violation").MANY), fits | baselines)
    met = [target.is_met for target in targets.of_violation(found)]
    assert met == [False, False, False, True, True, False]
    (envelope,) = targets.of_envelope({"dense, v = 0": fits | baselines})
    assert envelope.is_met
    low = {**baselines, "Conv2D": seeds(1.0, 1.0)}
    (envelope,) = targets.of_envelope({"dense, v = 0": fits | low})
    assert not envelope.is_met
    assert envelope.reached == "2.90 against 1.00 (dense, v = 0)"
