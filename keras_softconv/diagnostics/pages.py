"""Reports as HTML, for notebooks: small tables, of which most are folded.

There are no colours and no scripts, so that a light or dark notebook shows its own.
"""

from collections.abc import Callable
from html import escape

from keras_softconv.diagnostics.tables import (
    Report,
    Rows,
    child_rows,
    effective_weights_of,
    filter_rows,
    number_rows,
    position_rows,
    readable,
    share_rows,
    shortened,
    title_of,
    worst_first,
)

# How many rows a table has at most, and how many layers have tables of their own.
SHOWN_LAYERS, SHOWN_ROWS, DETAILED_LAYERS = 50, 5, 10


def html_of(reports: list[Report]) -> str:
    """The reports of some layers."""
    shown = worst_first(reports)[:SHOWN_LAYERS]
    numbers = _folded("Numbers", html_table(number_rows(shown)))
    parts = [html_table(share_rows(shown)), numbers]
    if len(shown) < len(reports):
        left_out = len(reports) - len(shown)
        parts.append(f"<p>{left_out:,} more layers, which are nearer to convolutions.</p>")
    parts += [_of_layer(report) for report in shown[:DETAILED_LAYERS]]
    return f"<div>{''.join(parts)}</div>"


def html_table(rows: Rows) -> str:
    """Rows of cells, the first row their heads."""
    head, *others = rows
    body = "".join(_row(row, "td") for row in others)
    return f"<table><thead>{_row(head, 'th')}</thead><tbody>{body}</tbody></table>"


def _row(row: list[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in row)}</tr>"


def _of_layer(report: Report) -> str:
    tables: list[tuple[str, Callable[[Report, int], Rows]]] = [
        ("The most deviant", child_rows),
        ("By output", position_rows),
        ("By filter", filter_rows),
    ]
    found = [(title, rows(report, SHOWN_ROWS)) for title, rows in tables]
    content = [
        f"<p>{title}</p>{html_table(rows)}" for title, rows in found if len(rows) > 1
    ]
    if "effective_weights" in report:
        content.append(f"<p>{escape(effective_weights_of(report))}</p>")
    content.append(f"<p>{escape(_sizes(report))}</p>")
    return _folded(title_of(report, shortened), "".join(content))


def _sizes(report: Report) -> str:
    ends = report["family_variance_min"], report["family_variance_max"]
    return (
        f"Variances within single families: {readable(ends[0])} to {readable(ends[1])}. "
        "All families and positions: report['families'], report['positions'], or "
        "report.to_frame('families')."
    )


def _folded(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"
