"""Fused ties learned from the training data, and penalties compared by their evidence.

    python experiments/learned_fused.py [--quick] [--seeds 5] [--write]

One linear 3x3 layer with `halo=0`: noisy digits as in digits.py, with N images, and two of
the tasks of departures.py, with 50. A penalty on the ties is trained with each strength of
a grid, half a decade apart, stopped early by the validation error; *best fixed* is the
strength with the least mean test error, which nobody can know. What is learned takes as
many steps with the same rate, and neither validation data nor early stopping.
"""

import argparse
from typing import Any

import denoising
import numpy as np
import synthetic
from comparison import Found, errors, mean_and_error, tuned
from strengths import best_fixed
from study import Method, Study, powers, search
from trained_methods import L2, STRONG, soft
from training import Learned, soft_layers

from keras_softconv.compat import keras
from keras_softconv.diagnostics.tables import markdown_table
from keras_softconv.regularizers import FusedTies, SumOfPenalties

RIDGE, FUSED, SUM = "L2", "FusedTies(L2)", "SumOfPenalties"
FIXED = "FusedTies(L2), fixed"
FIRST = 10.0  # strength before learning
TASKS: dict[str, Any] = {
    **{f"digits, N = {n}": denoising.Task("digits", n) for n in (50, 200, 1000)},
    "problem children": synthetic.Task("children", 0.1, examples=50),
    "slow drift": synthetic.Task("drift", 0.3, examples=50),
}


def draw(task: Any, seed: int) -> Any:
    script = denoising if isinstance(task, denoising.Task) else synthetic
    return script.Draw(task, seed)


def penalties() -> dict[str, keras.Regularizer]:
    fused = FusedTies(L2(1.0))
    return {RIDGE: L2(1.0), FUSED: fused, SUM: SumOfPenalties([L2(1.0), fused])}


def methods(quick: bool) -> list[Method]:
    """A grid of fused ties, and all penalties learned."""
    rounds, fine = (2, 1) if quick else (24, 2)
    grid = powers(-0.5, 2.5, fine)
    return [
        soft(FIXED, FusedTies(L2(1.0)), grid, [STRONG], rounds, halo=0),
        *(
            Learned(name, soft_layers(tie, halo=0), [(FIRST, STRONG)], rounds)
            for name, tie in penalties().items()
        ),
    ]


def measure(options: argparse.Namespace) -> Found:
    tasks = dict(list(TASKS.items())[: 1 if options.quick else None])
    return search(tasks, draw, methods(options.quick), options.seeds)


def render(found: Found) -> dict[str, str]:
    return {
        "learned fused ties": render_learned(found),
        "evidence of penalties": render_evidence(found),
    }


def render_learned(found: Found) -> str:
    """Test errors of fixed and learned strengths."""
    learned = [f"{name} learned" for name in (FUSED, SUM)]
    rows = [["task", "best fixed", "tuned", *learned, *(f"{n} / best" for n in learned)]]
    for task, fits in found.items():
        fixed = errors(tuned(best_fixed(fits[FIXED])))
        of_learned = [errors(tuned(fits[name])) for name in (FUSED, SUM)]
        columns = [fixed, errors(tuned(fits[FIXED])), *of_learned]
        ratios = [f"{some.mean() / fixed.mean():.3f}" for some in of_learned]
        rows.append([task, *map(mean_and_error, columns), *ratios])
    return markdown_table(rows)


def render_evidence(found: Found) -> str:
    """What evidence and test error say of the learned penalties."""
    rows = [["task", "ties", "log evidence, minus that of L2", "test error"]]
    for task, fits in found.items():
        learned = {name: tuned(fits[name]) for name in penalties()}
        for name, some in learned.items():
            more = evidences(some) - evidences(learned[RIDGE])
            cells = mean_and_error(more, 1), mean_and_error(errors(some))
            rows.append([task, name, *cells])
    return markdown_table(rows)


def evidences(fits: list[dict]) -> np.ndarray:
    """At the last updates."""
    return np.array([fit["found"]["log_evidence"] for fit in fits])


if __name__ == "__main__":
    Study("learned_fused", __doc__, measure, render).main()
