"""Arrays of a report, of which lists of dicts are made when somebody reads them."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Records:
    """Rows of a table over the entries of an array.

    Args:
        name: of the column of indices: `family`, `position` or `filter`.
        shape: of the array that they are indices of.
        columns: by name, arrays that broadcast to `shape`.
        rows: raveled indices of the entries; None for all, in their order.
        unpack: whether the indices are numbers instead of tuples, for one axis.
    """

    name: str
    shape: tuple[int, ...]
    columns: dict[str, np.ndarray]
    rows: np.ndarray | None = None
    unpack: bool = False

    def __call__(self) -> list[dict[str, Any]]:
        """The rows as dicts of plain data."""
        columns = self.as_lists()
        rows = zip(*columns.values(), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def as_lists(self) -> dict[str, list]:
        """The columns as lists of plain data."""
        rows = np.arange(np.prod(self.shape)) if self.rows is None else self.rows
        axes = [axis.tolist() for axis in np.unravel_index(rows, self.shape)]
        indices = axes[0] if self.unpack else list(zip(*axes, strict=True))
        values = {
            name: np.broadcast_to(column, self.shape).ravel()[rows].tolist()
            for name, column in self.columns.items()
        }
        return {self.name: indices, **values}


def most_remarkable(
    name: str, remarkable: np.ndarray, members: np.ndarray, unpack: bool = False
) -> Records:
    """The entries with remarkable members, those of the largest share first.

    Args:
        name: of the column of indices.
        remarkable: how many remarkable members an entry has.
        members: how many members it has.
        unpack: as in `Records`.
    """
    columns = {"remarkable": remarkable, "members": members}
    counts, sizes = remarkable.ravel(), members.ravel()
    rows = np.flatnonzero(counts)
    shares = counts[rows] / sizes[rows]
    rows = rows[np.lexsort((rows, -counts[rows], -shares))]
    return Records(name, remarkable.shape, columns, rows, unpack)
