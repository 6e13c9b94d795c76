"""Gaussian priors whose widths are found together with the weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_softconv.compat import ops
from keras_softconv.evidence.curvature import Part


@dataclass(frozen=True)
class Strengths:
    """Strengths that are learned, wherever they are stored.

    Args:
        name: of the strengths, such as `<layer path>/tie_strength`.
        shape: `()`, or `(strengths,)`.
        read: returns them as a NumPy array of this shape.
        write: takes such an array.
    """

    name: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    write: Callable[[np.ndarray], None]


def strengths_in(name: str, variable: Any) -> Strengths:
    """Those in a variable."""
    return Strengths(
        name,
        tuple(variable.shape),
        lambda: ops.convert_to_numpy(variable).astype("float64"),
        variable.assign,
    )


@dataclass(frozen=True)
class Prior:
    """A Gaussian prior of some weights, with one or several strengths.

    The weights are numbers d, `(members, columns)`. Each column has the precisions

        a = sum_t 2 M * strength_t * factor_t * eigenvalue_t

    in units of `M * loss`. There is one term with a strength for each column, or there are
    several terms and one column.

    Args:
        strengths: what is learned.
        factors: of the penalties, one for each term.
        eigenvalues: `(terms, members or 1, 1)`.
        parts: of the weights, in the order of the members.
        effective_name: of the number of weights that the data determine.
        outer: a strength that multiplies these and is not learned, or None.
        shares: of each number that is not left to free weights, broadcasts to
            `(members, columns)`. The shared kernel takes the mean of a family of n
            deviations, so that n - 1 are left.
    """

    strengths: Strengths
    factors: np.ndarray
    eigenvalues: np.ndarray
    parts: list[Part]
    effective_name: str
    outer: Any = None
    shares: Any = 1.0

    @property
    def outer_strength(self) -> float:
        return 1.0 if self.outer is None else float(ops.convert_to_numpy(self.outer))

    def values(self) -> np.ndarray:
        return self.columns([part.values() for part in self.parts])

    def columns(self, arrays: list[np.ndarray]) -> np.ndarray:
        """Arrays of the parts as `(members, columns)`."""
        columns = 1 if len(self.factors) > 1 else max(1, int(np.prod(self.strengths.shape)))
        return np.concatenate([array.reshape(-1, columns) for array in arrays])
