"""The tasks, fits and tables of the studies of learned strengths."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss


@pytest.fixture
def tasks(scripts):
    return scripts("likelihood_tasks")


def seeds(*errors, setting=None, **others):
    """One fit for each seed."""
    return [
        [{"setting": setting, "validation": error, "error": error, **others}]
        for error in errors
    ]


@pytest.mark.parametrize("name", ["digits", "series", "planted", "own", "regression"])
def test_the_data_of_a_seed_are_always_the_same_and_in_three_parts(name, tasks):
    draw = {
        "digits": tasks.digits(50),
        "series": tasks.series(50),
        "planted": tasks.planted(50, own_kernels=False),
        "own": tasks.planted(50, own_kernels=True),
        "regression": tasks.regression(50),
    }[name]
    first, same, other = draw(0), draw(0), draw(1)
    parts = first.train, first.validation, first.test
    assert len(first.train[0]) == 50
    assert [len(inputs) == len(labels) for inputs, labels in parts] == [True] * 3
    np.testing.assert_array_equal(first.train[0], same.train[0])
    np.testing.assert_array_equal(first.test[1], same.test[1])
    assert not np.array_equal(first.train[0], other.train[0])
    examples = {one.tobytes() for inputs, _ in parts for one in inputs}
    assert len(examples) == sum(len(inputs) for inputs, _ in parts)


def test_one_kernel_predicts_the_classes_of_a_planted_convolution_alone(tasks):
    def accuracy(own_kernels):
        (images, classes), _, (others, wanted) = parts(own_kernels)
        model = LogisticRegression().fit(pieces(images), classes.ravel())
        return model.score(pieces(others), wanted.ravel())

    def parts(own_kernels):
        draw = tasks.planted(200, own_kernels)(0)
        return draw.train, draw.validation, draw.test

    def pieces(images):
        windows = np.lib.stride_tricks.sliding_window_view(images[..., 0], (3, 3), (1, 2))
        return windows.reshape(-1, 9)

    chance = 1 / tasks.PLANTED_CLASSES
    assert accuracy(own_kernels=False) > accuracy(own_kernels=True) + 0.03 > chance


@pytest.mark.slow
def test_learned_fits_begin_again_and_report_the_loss_of_test_data(scripts, tasks):
    """The training step is traced, as is the curvature."""
    fits, study = scripts("likelihood_fits"), scripts("learned_classifiers")
    task = study.TASKS["digits, N = 300"]
    network = fits.Network(task, 2, [fits.SHARED_KERNEL, fits.READOUT])
    network.model.jit_compile = False  # which would compile for longer than it trains
    draw = task.draw(0)
    learned = fits.Learned("learned", network)
    (first,), (again,) = learned.fits(draw), learned.fits(draw)
    assert again["error"] == pytest.approx(first["error"], rel=1e-5)
    assert again["found"] == pytest.approx(first["found"], rel=1e-3)
    shares = softmax(network.model.predict(draw.test[0], verbose=0), axis=-1)
    assert again["error"] == pytest.approx(log_loss(draw.test[1], shares), rel=1e-4)
    names = [name.rpartition("/")[2] for name in first["found"]]
    wanted = {"tie_strength", "kernel_strength", "shared_kernel_strength", "log_evidence"}
    assert wanted <= set(names)
    assert first["setting"] is None
    assert np.isnan(first["validation"])


def test_learned_is_divided_by_the_best_of_the_grid(scripts):
    study = scripts("learned_classifiers")
    (task, *_) = study.TASKS
    grid = [
        [{"setting": 1, "validation": 2, "error": 1.0}, {**tuned_fit(), "error": 2.0}],
        [{"setting": 1, "validation": 2, "error": 3.0}, {**tuned_fit(), "error": 2.5}],
    ]
    learned = {study.LEARNED: seeds(2.0, 2.0), study.ALL_LEARNED: seeds(4.0, 4.0)}
    found = {task: {study.GRID: grid, **learned}}
    rows = study.render_learned(found).splitlines()[2:]
    fixed = "2.00 ± 1.00 | 1.75 ± 0.75 | 2.25 ± 0.25"
    assert rows == [
        f"| {task} | none | {fixed} | 2.00 ± 0.00 | 1.000 | 1.143 |",
        f"| {task} | learned | {fixed} | 4.00 ± 0.00 | 2.000 | 2.286 |",
    ]


def tuned_fit():
    """That which validation data choose."""
    return {"setting": 2, "validation": 1}


def test_what_was_found_of_networks_that_fit_their_data_is_shown(scripts):
    study = scripts("learned_classifiers")
    found = {"m/soft/tie_strength": 3.0, "m/soft/tie_effective_weights": 7.0}
    learned = seeds(2.0, 4.0, training=0.5, found={**found, "noise_variance": 0.1})
    grid = seeds(1.0, 3.0, setting=(10.0, 0.0, 0.0, 0.0))
    names = study.GRID, study.FREE_GRID, study.LEARNED, study.FREE
    fits = dict(zip(names, (grid, grid, learned, learned), strict=True))
    rows = study.render_failures({study.REGRESSION: fits}).splitlines()[2:]
    numbers = "2.00 ± 1.00 | 3.00 ± 1.00 | 0.50 ± 0.00 | 10 | 3 | 7 | 0.1 (truth 0.25)"
    assert rows == [
        f"| {study.REGRESSION} | {ridge} | {numbers} |" for ridge in ("no", "learned")
    ]


def test_evidence_is_that_of_the_ridge_subtracted(scripts):
    study = scripts("learned_fused")
    evidences = {study.RIDGE: 1.0, study.FUSED: 4.0, study.SUM: 3.0}
    fits = {
        name: seeds(2.0, 2.0, found={"log_evidence": evidence})
        for name, evidence in evidences.items()
    }
    fits[study.FIXED] = seeds(1.0, 1.0, setting=(1.0, 2.0))
    rows = study.render_evidence({"task": fits}).splitlines()[2:]
    assert [row.split(" | ")[2] for row in rows] == ["0.0 ± 0.0", "3.0 ± 0.0", "2.0 ± 0.0"]
    (row,) = study.render_learned({"task": fits}).splitlines()[2:]
    assert row.endswith("| 2.00 ± 0.00 | 2.00 ± 0.00 | 2.000 | 2.000 |")
