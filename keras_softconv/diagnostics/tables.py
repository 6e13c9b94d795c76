"""Reports as text and as Markdown."""

from collections.abc import Callable, Iterable
from numbers import Integral
from textwrap import fill

from keras_softconv.diagnostics.problem_children import REMARKABLE

Report = dict
Rows = list[list[str]]

SHOWN_CHILDREN = 10
WIDTH = 88
LEGEND = (
    "Shares of the squared weights: what the nearest convolution explains, what is left "
    "within its families, and what is off its template. A Conv layer has 100 % in the "
    "first column, a locally connected layer in the first two together. Off template mass: "
    "share of the absolute weights. Tap: place in the Conv kernel, channel, filter."
)


def readable(number: float) -> str:
    """A number as reports, pictures and tables show it: four digits, integers in full."""
    if isinstance(number, Integral):
        return f"{number:,}"
    return f"{number + 0.0:.4g}"  # no negative zero


def text_table(rows: Rows) -> str:
    """Rows of cells in columns, the first row their heads, the first column to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        cells += [o.rjust(width) for o, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * len(widths) - 2), *lines[1:]])


def markdown_table(rows: Rows) -> str:
    """The same in Markdown."""
    rule = ["---", *["---:"] * (len(rows[0]) - 1)]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [cells[0], rule, *cells[1:]])


def text_of(reports: Iterable[Report], table: Callable[[Rows], str]) -> str:
    """What the reports of some layers say, with tables as `table` makes them."""
    reports = list(reports)
    parts = [table(_shares(reports)), fill(LEGEND, WIDTH), table(_numbers(reports))]
    for report in reports:
        children = [c for c in report["problem_children"] if c["score"] > REMARKABLE]
        parts.append(fill(_title(report), WIDTH) + (":" if children else "."))
        if children:
            parts.append(table(_children(children[:SHOWN_CHILDREN])))
    return "\n\n".join(parts)


def _shares(reports: list[Report]) -> Rows:
    rows = [["layer", "convolution", "within families", "off template"]]
    for report in reports:
        parts = report["energies"]
        whole = sum(parts.values()) or 1.0
        shares = [report["convolution_share"]]
        shares += [parts[name] / whole for name in ("family", "off_template")]
        rows.append([report["layer"], *(f"{share:.2%}" for share in shares)])
    return rows


def _numbers(reports: list[Report]) -> Rows:
    names = [
        "family_variance",
        "off_template_mass",
        "weights",
        "distinct_weights",
        "zero_weights",
    ]
    rows = [["layer", *(name.replace("_", " ") for name in names)]]
    for report in reports:
        rows.append([report["layer"], *(readable(report[name]) for name in names)])
    return rows


def _title(report: Report) -> str:
    return (
        f"Problem children of {report['layer']}: {report['remarkable_children']:,} of "
        f"{report['template_weights']:,} members score above {REMARKABLE}"
    )


def _children(found: list[dict]) -> Rows:
    rows = [["output", "tap", "value", "family mean", "score"]]
    for child in found:
        places = [str(child[name]) for name in ("position", "family")]
        numbers = [readable(child[name]) for name in ("value", "mean")]
        rows.append([*places, *numbers, f"{child['score']:.1f}"])
    return rows
