"""The benchmarks run and print what they should; how long anything takes is not tested."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest

NO_KERAS2 = Path("no-such-environment")
NUMBER = re.compile(r"\d+\.?\d*")


@pytest.fixture(scope="module")
def laboratory(scripts):
    """One whose workers serve all tests, since each takes seconds to start."""
    laboratory = scripts("laboratory").Laboratory(NO_KERAS2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(laboratory, "end_workers", lambda: None)
        yield laboratory
    laboratory.end_workers()


def cells(text: str) -> list[list[str]]:
    """The cells of all rows of the markdown tables in a text, heads left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    heads = {i - 1 for i, line in enumerate(lines) if set(line) <= set("| -")}
    rows = [line for i, line in enumerate(lines) if i not in heads | {i + 1 for i in heads}]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


# How many cells of a row name things.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "names"),
    [("steps", 2), ("first_steps", 3), ("memory", 3), ("roofline", 3)],
)
def test_quick_scripts_print_a_table_of_positive_numbers(
    script, names, scripts, laboratory
):
    module = scripts(script)
    _, text = scripts("reports").section(laboratory, module.measure, module.render, True)
    assert re.match(r"\*20\d\d-.*cores.*Python 3.*Keras 3.*tensorflow 2", text)
    assert "failed" not in text.lower()
    rows = cells(text)
    assert rows
    for row in rows:
        numbers = [NUMBER.match(cell) for cell in row[names:] if cell != "-"]
        assert numbers
        assert all(numbers)
        assert all(float(number[0]) >= 0 for number in numbers)


@pytest.mark.slow
def test_quick_scaling_fits_and_draws(scripts, laboratory, tmp_path):
    pytest.importorskip("matplotlib")
    scaling = scripts("scaling")
    contests = scaling.measure(laboratory, quick=True)
    assert [len(curve.points) for curve in scaling.curves(contests[0])] == [2, 2, 2, 2, 5]
    assert all(len(row) == 6 for row in cells(scaling.render(contests)))
    scaling.draw(contests, tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").stat().st_size > 10_000


@pytest.mark.parametrize("power", [0.0, 1.5, 4.0])
def test_the_exponent_of_a_power_law_is_found(power, scripts):
    sides = np.array([8, 16, 32, 128])
    found = scripts("scaling").exponent(sides, 0.3 * sides**power)
    assert found == pytest.approx(power)


def test_ratios_are_taken_round_by_round(scripts):
    found = scripts("reports").ratio([2, 30, 400, 8, 10], [1, 10, 100, 1, 1])
    assert (found.low, found.median, found.high) == (3, 4, 8)
    assert str(found) == "4.00 (3.00 to 8.00)"


def test_bytes_and_operations_of_a_tiny_dense_layer(scripts):
    cases, roofline = scripts("cases"), scripts("roofline")
    case = cases.Case(2, 1, 3, batch=5)  # 4 inputs, 12 outputs, 48 weights
    dense = cases.Entry(cases.DENSE, case)
    assert dense.weights == 48
    images = 5 * (2 * 4 + 5 * 12)
    assert roofline.bytes_to_move(dense) == 4 * (9 * 48 + images)
    assert roofline.operations(dense) == 2 * (2 * 5 * 48)
    penalised = cases.Entry(cases.DENSE_L2, case)
    assert roofline.bytes_to_move(penalised) == 4 * (11 * 48 + images)


def test_operations_of_tiny_convolutions(scripts):
    cases, roofline = scripts("cases"), scripts("roofline")
    case = cases.Case(6, 1, 2, padding="valid", batch=1)  # 4x4 outputs of 2 filters
    conv = cases.Entry(cases.CONV, case)
    assert conv.weights == 9 * 2
    assert roofline.operations(conv) == 2 * 2 * (4 * 4 * 2 * 9)
    with_halo = cases.Entry(cases.HALOS[1], case)
    assert with_halo.weights == 25 * 4 * 4 * 2
    assert roofline.operations(with_halo) == 2 * 2 * 25 * 32
    assert cases.Entry(cases.HALOS[4], case).weights == 36 * 4 * 4 * 2  # reaches all


def test_the_bound_is_the_longer_of_moving_and_computing(scripts):
    cases, roofline = scripts("cases"), scripts("roofline")
    entry = cases.Entry(cases.DENSE, cases.Case(2, 1, 3, batch=5))
    moving, computing = roofline.bytes_to_move(entry), roofline.operations(entry)
    assert roofline.bound(entry, roofline.Machine(1.0, 1e9)) == moving
    assert roofline.bound(entry, roofline.Machine(1e9, 1.0)) == computing


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_all_contenders_have_as_many_outputs(padding, scripts):
    cases, contenders = scripts("cases"), scripts("contenders")
    case = cases.Case(5, 2, 3, padding=padding)
    x = np.zeros((2, 5, 5, 2), "float32")
    for name, make in contenders.CONTENDERS.items():
        model = make(case)
        assert np.prod(model(x).shape[1:]) == case.n_out, name
        kernels = [w for w in model.trainable_weights if "bias" not in w.name]
        kernels = [w for w in kernels if w.name != "shared_kernel"]
        assert sum(np.prod(w.shape) for w in kernels) == cases.Entry(name, case).weights


def test_a_padding_that_contenders_lack_is_refused(scripts):
    with pytest.raises(ValueError, match="'same' or 'valid'"):
        scripts("cases").Case(5, 2, 3, padding="circular")


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kernel_size", [2, 3])
def test_the_naive_families_are_those_of_the_layer(padding, kernel_size, scripts):
    cases, contenders = scripts("cases"), scripts("contenders")
    case = cases.Case(5, 2, 3, kernel_size, padding)
    model = contenders.soft_conv(case)
    expected = model.layers[0].family_ids()
    ids = contenders.family_ids(case)
    np.testing.assert_array_equal(np.where(ids == expected.max() + 1, -1, ids), expected)


def test_the_naive_penalty_is_that_of_its_definition(scripts, rng):
    cases, contenders = scripts("cases"), scripts("contenders")
    case = cases.Case(5, 2, 3)
    layer = contenders.NaiveSoftConv2D(case)
    layer(np.zeros((1, 5, 5, 2), "float32"))
    kernel = rng.normal(size=layer.kernel.shape).astype("float32")
    layer.kernel.assign(kernel)
    ids = contenders.family_ids(case).reshape(kernel.shape)
    families = [kernel[ids == family] for family in range(ids.max())]
    within = sum(((family - family.mean()) ** 2).sum() for family in families)
    expected = within + (kernel[ids == ids.max()] ** 2).sum()
    penalty = keras.ops.convert_to_numpy(layer.penalty())
    assert penalty == pytest.approx(expected, rel=1e-4)


def test_large_layers_and_missing_implementations_are_left_out(scripts, laboratory):
    cases, names = scripts("cases"), scripts("cases").LOCAL.values()
    plain, jax = cases.Setting(), cases.Setting("jax")
    valid, same = cases.Case(32, 3, 16, padding="valid"), cases.Case(32, 3, 16)
    assert cases.Entry(cases.SOFT, same).is_left_out(plain)
    assert not cases.Entry(cases.HALOS[0], same).is_left_out(plain)
    for name in names:
        assert not cases.Entry(name, valid).is_left_out(plain)
        assert cases.Entry(name, same).is_left_out(plain)
        assert cases.Entry(name, valid).is_left_out(jax)
        assert not laboratory.has(cases.Entry(name, valid), plain)  # no Keras 2 here


@pytest.mark.slow
def test_what_a_worker_cannot_do_is_reported(scripts, laboratory):
    cases, module = scripts("cases"), scripts("laboratory")
    unknown = cases.Entry("no such contender", cases.Case(4, 1, 1, batch=2))
    contest = module.hold_contest(laboratory, cases.Setting(), [unknown], module.QUICK)
    assert "KeyError" in contest.problems[unknown]
    assert "no such contender" in scripts("reports").problem_notes([contest])


def test_a_missed_claim_is_shown_as_a_miss(scripts):
    Claim, Setting = scripts("claims").Claim, scripts("cases").Setting
    verdicts = [
        Claim("step", "layer", Setting(), 2, value, "steps.py", at_least).verdict
        for value, at_least in [(1, False), (3, False), (1, True), (3, True), (None, True)]
    ]
    assert verdicts == ["met", "**missed**", "**missed**", "met", "not measured"]


def test_claims_take_ratios_the_right_way_round(scripts):
    cases, steps = scripts("cases"), scripts("steps")
    Contest, Entry = scripts("laboratory").Contest, cases.Entry
    Start, Peak = scripts("first_steps").Start, scripts("memory").Peak
    here, soft, local = cases.Setting(), cases.SOFT, cases.LOCAL
    halo = cases.HALOS

    def contest(case, **seconds):
        names = {"conv": cases.CONV, "halo0": halo[0], "halo2": halo[2], "soft": soft,
                 "dense": cases.DENSE, "l2": cases.DENSE_L2, "naive": cases.NAIVE,
                 "local1": local[1], "local2": local[2]}  # fmt: skip
        times = {Entry(names[name], case): [t, t] for name, t in seconds.items()}
        return Contest(here, steps=times)

    large, many = scripts("first_steps").LARGE, scripts("memory").LARGE_IMAGES
    sides = {16: 1.0, 32: 2.0, 64: 16.0}
    curve = {Entry(halo[0], cases.Case(n, 3, 8)): [t] for n, t in sides.items()}
    found = scripts("claims").Findings(
        steps={
            steps.AGAINST_DENSE: [
                contest(steps.AGAINST_DENSE, dense=1, l2=2, soft=3, naive=12)
            ],
            steps.AGAINST_CONV: [contest(steps.AGAINST_CONV, conv=2, halo0=3, halo2=11)],
            steps.AGAINST_LOCAL: [
                contest(steps.AGAINST_LOCAL, conv=2, halo0=4, local1=6, local2=90)
            ],
        },
        first_steps=[
            Start(here, Entry(halo[0], steps.AGAINST_LOCAL), first=[1, 2, 3]),
            Start(here, Entry(local[1], steps.AGAINST_LOCAL), first=[30, 30]),
            Start(here, Entry(soft, large), first=[5.0]),
            Start(here, Entry(cases.DENSE_L2, large), first=[4.0]),
        ],
        memory=[
            Peak(here, Entry(soft, steps.AGAINST_DENSE), 900, 110),
            Peak(here, Entry(cases.DENSE, steps.AGAINST_DENSE), 800, 100),
            Peak(here, Entry(halo[1], many), 5000, 4000),
        ],
        scaling=[Contest(here, steps=curve)],
    )
    values = {
        claim.text: claim.value
        for claim in scripts("claims").claims(found)
        if claim.setting == here and claim.value is not None
    }
    assert values == pytest.approx(
        {
            "A. step / Dense": 3,
            "A. step / Dense + L2": 1.5,
            "A. naive step / step": 4,
            "A. peak memory / Dense": 1.1,
            "B. halo 0: step / Conv2D": 1.5,
            "B. halo 2: step / Conv2D": 5.5,
            "B. step of LocallyConnected2D 1 / halo 0": 1.5,
            "B. first step of LocallyConnected2D 1 / halo 0": 15,
            "C. halo 0: exponent of the side": 3,  # of the last two sides
            "C. halo 1: peak of the whole process, GB": 5,
            "D. first step less that of Dense + L2, s": 1,
        }
    )
    assert "not measured" in scripts("claims").render(found)


def test_those_whose_process_died_are_not_said_to_have_failed_themselves(
    scripts, monkeypatch
):
    cases, module = scripts("cases"), scripts("laboratory")
    case = cases.Case(4, 1, 1, padding="valid")
    entries = [
        cases.Entry(name, case)
        for name in (cases.CONV, cases.SOFT, cases.CONV_KERAS2, cases.DENSE)
    ]
    deadly, rounds = entries[1], []

    def run(laboratory, setting, entry, count):
        rounds.append(entry)
        if entry == deadly and len(rounds) > 2 * len(entries):
            raise module.WorkerDied("its process ended with code -9: silently")
        return 0.001 * count

    monkeypatch.setattr(module, "make", lambda *arguments: 1.0)
    monkeypatch.setattr(module, "run", run)
    ended_after = []
    with module.Laboratory(NO_KERAS2) as laboratory:
        monkeypatch.setattr(
            laboratory, "end_workers", lambda: ended_after.append(len(rounds))
        )
        contest = module.hold_contest(
            laboratory, cases.Setting(), entries, module.Effort(rounds=3)
        )
        assert ended_after == [len(rounds)]
    assert contest.steps == {entries[2]: pytest.approx([0.001] * 3)}
    assert contest.problems[deadly] == "its process ended with code -9: silently"
    for other in (entries[0], entries[3]):
        assert contest.problems[other] == "its process was ended by SoftConv2D"
    # Before it died, another entry began each round.
    assert rounds[2 * len(entries)] == entries[0]
    assert rounds[-2:] == [entries[2]] * 2


def test_every_table_has_its_place_in_the_document(scripts):
    run_all, reports = scripts("run_all"), scripts("reports")
    document = run_all.DOCUMENT.read_text(encoding="utf-8")
    for name in (*run_all.SCRIPTS, "claims"):
        changed = reports.replace_between_markers(document, name, f"| {name} |")
        assert f"| {name} |" in changed
    with pytest.raises(ValueError, match="once each"):
        reports.replace_between_markers(document, "no such table", "")


def test_the_prose_around_a_table_stays(scripts):
    replace = scripts("reports").replace_between_markers
    document = "Before.\n<!-- begin: x -->\nold \\1\n<!-- end: x -->\nAfter."
    once = replace(document, "x", "new \\1")
    assert once == "Before.\n<!-- begin: x -->\n\nnew \\1\n\n<!-- end: x -->\nAfter."
    assert replace(once, "x", "new \\1") == once


@pytest.mark.slow
def test_updates_of_strengths_are_timed_beside_epochs(scripts, monkeypatch, capsys):
    """Trains two networks for some epochs."""
    updates = scripts("updates")
    monkeypatch.setattr(updates, "ROUNDS", 1)
    monkeypatch.setattr("sys.argv", ["updates.py", "--probes", "2"])
    updates.main()
    rows = re.findall(r"\| (\d+) ms \| (\d+) ms \| ([\d.]+) \|", capsys.readouterr().out)
    assert len(rows) == 2
    for epoch, update, ratio in rows:
        assert float(ratio) == pytest.approx(int(update) / int(epoch), rel=0.2, abs=0.1)
