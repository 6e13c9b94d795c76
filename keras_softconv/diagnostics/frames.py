"""Reports as data frames of pandas, which is imported when somebody asks for one."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from keras_softconv.diagnostics.lazy_dict import LazyDict

TABLES = (
    "families",
    "positions",
    "problem_children",
    "remarkable_by_position",
    "remarkable_by_filter",
)

# Where a table has no rows, it has its columns nevertheless.
COLUMNS = {"problem_children": ["family", "position", "value", "mean", "score"]}


def frame_of(reports: Sequence[LazyDict], table: str | None, add_layer: bool) -> Any:
    """A `pandas.DataFrame` of the reports of some layers.

    Args:
        reports: of the layers.
        table: one of `TABLES`, of which the frame has the rows; None for one row a layer.
        add_layer: whether the first column is the layer's path.

    Raises:
        ImportError: without pandas, which the package does not require.
        ValueError: for any other table.
    """
    if table is not None and table not in TABLES:
        raise ValueError(
            f"`table` must be one of {list(TABLES)}, or None for one row for each layer. "
            f"Received: table={table!r}."
        )
    pandas = _pandas()
    if table is None:
        rows = [_row(report) for report in reports]
        return pandas.DataFrame(rows).set_index("layer")
    frames = []
    for report in reports:
        frame = pandas.DataFrame(_columns(report, table), columns=COLUMNS.get(table))
        if add_layer:
            frame.insert(0, "layer", report["layer"])
        frames.append(frame)
    return pandas.concat(frames, ignore_index=True)


def _row(report: LazyDict) -> dict[str, Any]:
    """The numbers of a report, those in dicts by names of their own."""
    row = {}
    for name in report:
        if name == "energies":
            row |= {f"{part}_energy": energy for part, energy in report[name].items()}
        elif name == "effective_weights":
            for place, count in report[name].items():
                row[f"{place}_effective_weights"] = count["determined"]
        elif name not in TABLES:
            row[name] = report[name]
    return row


def _columns(report: LazyDict, table: str) -> Any:
    maker = report.maker(table)
    return report[table] if maker is None else maker.as_lists()


def _pandas() -> Any:
    try:
        return import_module("pandas")
    except ImportError as error:
        raise ImportError(
            "`to_frame` makes a data frame of pandas, which is not installed. "
            "`pip install pandas`, or take the plain data of the report: "
            "`report['families']`, `report.to_json()`."
        ) from error
