"""Methods against each other: tuned on validation data, compared draw by draw.

Every method has a grid of its own and is tuned, for each seed, by the error on validation
data. The methods see the same draws, so that their differences are taken seed by seed.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_softconv.diagnostics.tables import markdown_table

# `setting`, error on `validation` data, test `error`.
Fit = dict[str, Any]
# By task and method, for each seed all fits.
Found = dict[str, dict[str, list[list[Fit]]]]
# A convolution that is trained on without penalties: a control.
RELEASED, RELEASED_1D = "Conv2D, released", "Conv1D, released"


def tuned(seeds: list[list[Fit]]) -> list[Fit]:
    """The fit of each seed with the least validation error."""
    return [min(fits, key=lambda fit: fit["validation"]) for fits in seeds]


def errors(fits: list[Fit]) -> np.ndarray:
    """Their test errors."""
    return np.array([fit["error"] for fit in fits])


def best_of(of_task: dict[str, list[list[Fit]]], names: Iterable[str]) -> list[Fit]:
    """The fit of each seed that is best on validation data, whatever the method."""
    together = zip(*(of_task[name] for name in names), strict=True)
    return tuned([[fit for fits in seed for fit in fits] for seed in together])


def gains(mine: list[Fit], theirs: list[Fit]) -> np.ndarray:
    """Seed by seed, by how many % the error is less than theirs."""
    return 100 * (1 - errors(mine) / errors(theirs))


def standard_error(values: Sequence[float] | np.ndarray) -> float:
    """Of the mean of independent values; nan for one alone."""
    values = np.asarray(values)
    return values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan


def mean_and_error(values: Sequence[float] | np.ndarray, digits: int | None = None) -> str:
    """Mean and standard error."""
    mean = np.mean(values)
    if digits is None:
        digits = 2 if abs(mean) < 10 else 1
    return f"{mean:.{digits}f} ± {standard_error(values):.{digits}f}"


def gain_and_worst(mine: list[Fit], theirs: list[Fit]) -> str:
    """Mean and standard error of the gains, the worst seed in brackets."""
    gain = gains(mine, theirs)
    return f"{mean_and_error(gain, 1)} % ({gain.min():.1f} %)"


def comparison_table(
    found: Found,
    mine: tuple[str, Sequence[str]],
    rivals: dict[str, Sequence[str]],
    methods: Sequence[str] | None = None,
) -> str:
    """Errors, and what is gained on rivals: mean ± standard error (worst seed).

    Args:
        found: all fits.
        mine: a name, and the methods among which validation data choose; it has a column
            unless it is the name of a method.
        rivals: by name, methods among which validation data choose the rival.
        methods: that have a column; None for all.
    """
    name, chosen_among = mine
    methods = methods or list(next(iter(found.values())))
    column = [] if name in methods else [name]
    rows = [["task", *methods, *column, *(f"gain on {rival}" for rival in rivals)]]
    for task, fits in found.items():
        best = best_of(fits, chosen_among)
        shown = [*(tuned(fits[method]) for method in methods), *([best] if column else [])]
        row = [task, *(mean_and_error(errors(some)) for some in shown)]
        row += [gain_and_worst(best, best_of(fits, names)) for names in rivals.values()]
        rows.append(row)
    return markdown_table(rows)


def at_an_end(found: Found) -> list[str]:
    """Where the best of a setting is an end of its grid, more often than not.

    Of settings with several values: the name of the task, the method's, and which setting.
    """
    told = []
    for task, of_task in found.items():
        for name, seeds in of_task.items():
            if seeds[0][0]["setting"] is None:
                continue
            best, tried = (
                np.array([np.ravel(fit["setting"]) for fit in fits])
                for fits in (tuned(seeds), seeds[0])
            )
            ends = (best == tried.min(axis=0)) | (best == tried.max(axis=0))
            is_varied = tried.min(axis=0) < tried.max(axis=0)
            for place in np.flatnonzero(is_varied & (ends.mean(axis=0) > 0.5)):
                told.append(f"{task}, {name}, setting {place + 1}")
    return told
