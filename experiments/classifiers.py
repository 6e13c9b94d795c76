"""What the studies of classification compare, and how their tables are made.

A table has a row for each method, and below for each difference of two methods, which is
taken draw by draw.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from classification import (
    ROUNDS,
    Draw,
    Network,
    Setting,
    convolution,
    dense,
    soft,
    without_sharing,
)
from comparison import Found, best_of, errors, mean_and_error, standard_error, tuned
from scipy import stats
from study import powers
from training import release

from keras_softconv.diagnostics.tables import markdown_table

DENSE, DECAYED = "Dense", "Dense + weight decay"
CONVOLUTION = "Conv2D + weight decay"
LOCAL = "Locally connected + weight decay"
SOFT = "SoftConv2D"
RELEASED = "Conv2D, released without penalties"
RELEASED_TIED = "Conv2D, released with penalties"
BASELINES = (DENSE, DECAYED, CONVOLUTION, LOCAL)
# By its name in the table, among which methods validation data choose, on either side.
Differences = dict[str, tuple[Sequence[str], Sequence[str]]]


class Trained:
    """A network trained with each setting of a grid."""

    def __init__(self, name: str, network: Network, settings: Sequence[Setting]) -> None:
        self.name, self.network, self.settings = name, network, settings
        self._best: tuple[Draw, list[np.ndarray]] | None = None

    def fits(self, draw: Draw) -> list[dict]:
        fits = []
        for setting in self.settings:
            fits.append(self.fit(draw, setting))
            if tuned([fits])[0] is fits[-1]:
                self._best = draw, self.network.model.get_weights()
        return fits

    def fit(self, draw: Draw, setting: Setting) -> dict[str, Any]:
        self.network.begin(draw.seed)
        return self.network.train(draw, setting)

    def best_weights(self, draw: Draw) -> list[np.ndarray]:
        """Those of the setting that is best on validation images."""
        if self._best is None or self._best[0] is not draw:
            self.fits(draw)
        return self._best[1]


class Released(Trained):
    """First trained as a convolution, the best on validation images, then as SoftConv2D.

    Without penalties this is a warm start of a dense layer and no more.
    """

    def __init__(
        self, name: str, network: Network, settings: Sequence[Setting], before: Trained
    ) -> None:
        super().__init__(name, network, settings)
        self.before = before

    def fit(self, draw: Draw, setting: Setting) -> dict[str, Any]:
        self.network.begin(draw.seed)
        release(self.before.best_weights(draw), self.network.model)
        return self.network.train(draw, setting)


@dataclass(frozen=True)
class Grids:
    """Strengths in units of 1 / examples.

    Args:
        decays: of Dense and Conv2D; the locally connected layer has them and 0.
        pairs: of SoftConv2D, tie and off-template strengths.
    """

    decays: tuple[float, ...]
    pairs: tuple[Setting, ...]


@cache
def compared(grids: Grids, pooled: bool, quick: bool) -> list[Trained]:
    """The baselines, SoftConv2D that begins as a convolution, and the warm starts."""
    rounds = 3 if quick else ROUNDS
    of_dense, of_convolution, of_local, of_soft = (
        Network(hidden, pooled, rounds)
        for hidden in (dense, convolution, without_sharing(halo=0), soft())
    )
    decays = [(decay,) for decay in grids.decays]
    with_none = [(0.0,), *decays]
    before = Trained(CONVOLUTION, of_convolution, with_none)
    return [
        Trained(DENSE, of_dense, [(0.0,)]),
        Trained(DECAYED, of_dense, decays),
        before,
        Trained(LOCAL, of_local, with_none),
        Trained(SOFT, of_soft, grids.pairs),
        Released(RELEASED, of_soft, [(0.0, 0.0)], before),
        Released(RELEASED_TIED, of_soft, grids.pairs, before),
    ]


def strengths(begin: float, end: float, per_decade: int = 1) -> tuple[float, ...]:
    """Powers of ten, hashable."""
    return tuple(powers(begin, end, per_decade))


def minus(
    mine: str, theirs: str, chosen_among: Sequence[str] = ()
) -> tuple[str, tuple[Sequence[str], Sequence[str]]]:
    """An item of `Differences`; mine may be the name of several methods."""
    return f"{mine} minus {theirs}", (chosen_among or (mine,), (theirs,))


def table(
    found: Found,
    differences: Differences,
    chosen: dict[str, Sequence[str]] | None = None,
    last: dict[str, Sequence[str]] | None = None,
) -> str:
    """Errors, and differences of errors in percentage points.

    Args:
        found: all fits.
        differences: what is taken from what.
        chosen: by name, methods among which validation data choose.
        last: rows that stand at the end, their cells by name.
    """
    methods = {name: (name,) for name in next(iter(found.values()))}
    rows = [["% mistaken", *found]]
    for name, names in {**methods, **(chosen or {})}.items():
        of_each = (errors(best_of(of_task, names)) for of_task in found.values())
        rows.append([name, *(mean_and_error(error, 2) for error in of_each)])
    for name, sides in differences.items():
        rows.append([name, *(cell(paired(fits, *sides)) for fits in found.values())])
    rows += [[name, *cells] for name, cells in (last or {}).items()]
    return markdown_table(rows)


def paired(
    of_task: dict[str, list], mine: Sequence[str], theirs: Sequence[str]
) -> np.ndarray:
    """My errors less theirs, draw by draw."""
    return errors(best_of(of_task, mine)) - errors(best_of(of_task, theirs))


def cell(values: np.ndarray) -> str:
    """Mean and standard error, in bold if it is beyond the noise of the draws."""
    text = mean_and_error(values)
    return f"**{text}**" if is_beyond_noise(values) else text


def is_beyond_noise(values: np.ndarray) -> bool:
    """By Student's t, two-sided, at 5 %."""
    limit = stats.t.ppf(0.975, len(values) - 1) * standard_error(values)
    return bool(abs(values.mean()) > limit)
