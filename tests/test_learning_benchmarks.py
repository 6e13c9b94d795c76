"""The tasks, the risk and the tables of benchmarks/departures.py and strengths.py."""

import keras
import numpy as np
import pytest

DEPARTURES = ["children", "dense", "families", "drift", "regions"]


class Truth(keras.layers.Layer):
    """Knows the kernel."""

    def __init__(self, kernel, shape):
        super().__init__()
        self.kernel, self.shape = kernel.astype("float32"), shape

    def call(self, x):
        outputs = keras.ops.reshape(x, (-1, len(self.kernel))) @ self.kernel
        return keras.ops.reshape(outputs, (-1, *self.shape))


@pytest.mark.parametrize("departure", DEPARTURES)
def test_risk_is_that_of_new_images(departure, scripts, rng):
    synthetic = scripts("synthetic")
    task = synthetic.Task(departure, 0.3, examples=20)
    draw = synthetic.Draw(task, seed=1)
    assert [part.shape for part in draw.train] == [(20, 8, 8, 1), (20, 6, 6, 2)]
    assert len(draw.validation[0]) == 50
    wrong = draw.kernel + 0.1 * rng.normal(size=draw.kernel.shape)
    risks = []
    for kernel in (draw.kernel, wrong):
        model = keras.Sequential([keras.Input((8, 8, 1)), Truth(kernel, (6, 6, 2))])
        risks.append(draw.risk(model))
    images = rng.normal(size=(4000, 64))
    error = (images @ (wrong - draw.kernel)).var() / (images @ draw.kernel).var()
    assert risks[0] < 1e-8
    np.testing.assert_allclose(risks[1], 100 * error, rtol=0.05)


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


def test_every_method_starts_anew_and_learns(scripts):
    synthetic, methods = scripts("synthetic"), scripts("methods")
    draw = synthetic.Draw(synthetic.Task("children", 0.1, examples=50), 0)
    one = methods.soft("L2", methods.L2(1.0), [10.0], [100.0], rounds=2)
    first = one.fits(draw)[0]
    one.fits(synthetic.Draw(synthetic.Task("children", 0.1, 50, side=6), 0))
    second = one.fits(draw)[0]
    assert first == second
    assert first["risk"] < 60
    local = methods.locally_connected(2, [3.0])
    assert local.fits(draw)[0]["pair"] == (3.0, 1.0)
    ((model, _),) = local._models.values()
    (layer,) = model.layers
    assert not keras.ops.any(layer.shared_kernel)
    assert keras.ops.any(layer.deviations)
    (learnt,) = methods.learned("learned", methods.L2(1.0), rounds=2).fits(draw)
    assert learnt["pair"] is None
    assert learnt["risk"] < 60


def test_tables(scripts):
    departures, strengths = scripts("departures"), scripts("strengths")

    def seeds(*numbers):
        return [[{"validation": 0, "risk": number}] for number in numbers]

    found = {
        "few": {"L2": seeds(3.0, 5.0), "L1": seeds(1.0, 1.0)},
        "none": {"L2": seeds(1.0, 1.0), "L1": seeds(20.0, 20.0)},
    }
    assert departures.render(found).splitlines()[2:] == [
        "| L2 | 4.00 ± 1.00 | **1.00 ± 0.00** |",
        "| L1 | **1.00 ± 0.00** | 20.0 ± 0.0 |",
    ]
    fits = [
        [{"validation": 1, "risk": 4.0}, {"validation": 2, "risk": 2.0}],
        [{"validation": 2, "risk": 3.0}, {"validation": 1, "risk": 3.0}],
    ]
    learned = [[{"validation": np.nan, "risk": 5.0}]] * 2
    tasks = {"task": {strengths.RIDGE: fits, strengths.LEARNED: learned}}
    assert strengths.render_learned(tasks).splitlines()[2:] == [
        "| task | 2.50 ± 0.50 | 3.50 ± 0.50 | 5.00 ± 0.00 | 2.00 |"
    ]
    assert strengths.render_baselines(tasks).splitlines()[2:] == ["| task | 3.50 ± 0.50 |"]
    scaling = {(8, 2, 50): np.array([3.0, 2.0, 2.5])}
    assert strengths.render_scaling(scaling, [0.1, 1.0, 10.0]).splitlines()[2:] == [
        "| 8 | 2 | 50 | 3.0 | 2.0 | 2.5 | 1 |"
    ]


def test_every_table_has_its_place_in_the_document(scripts):
    departures, reports = scripts("departures"), scripts("reports")
    document = departures.DOCUMENT.read_text(encoding="utf-8")
    for name in ("departures", "baselines", "learned", "scaling"):
        assert "| new |" in reports.replace_between_markers(document, name, "| new |")
