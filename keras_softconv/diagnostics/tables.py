"""Reports as text, as Markdown and in a line."""

from collections.abc import Callable, Iterable
from math import isnan
from numbers import Integral
from textwrap import fill

from keras_softconv.diagnostics.problem_children import REMARKABLE

Report = dict
Rows = list[list[str]]

SHOWN_CHILDREN, SHOWN_GROUPS, SHOWN_WORST = 10, 5, 3
WIDTH = 88
LONGEST_NAME = 60
# What the deviations at a place of a layer are called.
PLACES = {
    "tie": "deviations on the template",
    "bias_tie": "deviations of biases",
    "off_template": "off-template weights",
    "shared_kernel": "weights of the shared kernel",
    "shared_bias": "shared biases",
}
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


def shortened(name: str) -> str:
    """A name of any length, without its middle if it is long."""
    if len(name) <= LONGEST_NAME:
        return name
    half = (LONGEST_NAME - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


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
    shares, numbers = share_rows(reports, str), number_rows(reports, str)
    parts = [table(shares), fill(LEGEND, WIDTH), table(numbers)]
    for report in reports:
        children = child_rows(report, SHOWN_CHILDREN)
        has_children = len(children) > 1
        if "effective_weights" in report:
            parts.append(fill(effective_weights_of(report, str), WIDTH))
        parts.append(fill(title_of(report) + (":" if has_children else "."), WIDTH))
        if has_children:
            parts += [fill(line, WIDTH) for line in _groups(report)]
            parts.append(table(children))
    return "\n\n".join(parts)


def title_of(report: Report, name: Callable[[str], str] = str) -> str:
    """How many problem children a layer has, and how many chance would give."""
    found, members = report["remarkable_children"], report["template_weights"]
    said = (
        f"Problem children of {name(report['layer'])}: {found:,} of {members:,} members "
        f"score above {REMARKABLE}"
    )
    if "expected_by_chance" not in report:  # a report of an earlier version
        return said
    return f"{said}; chance would give {_rounded(report['expected_by_chance'])}"


def effective_weights_of(report: Report, name: Callable[[str], str] = shortened) -> str:
    """How many weights of a layer the training data determine."""
    counts = []
    for place, count in report["effective_weights"].items():
        kind = PLACES[place]
        if place == "tie" and count["weights"] > report["template_weights"]:
            kind += " and of biases"
        counts.append(f"{readable(count['determined'])} of {count['weights']:,} {kind}")
    return f"In {name(report['layer'])} the training data determine {', '.join(counts)}."


def _rounded(expected: float) -> str:
    return f"{expected:,.1f}" if expected < 100 else f"{expected:,.0f}"


def _groups(report: Report) -> list[str]:
    """Where the problem children are: the outputs and filters with the most of them."""
    groups = [
        ("By output", position_rows(report, SHOWN_GROUPS), ""),
        ("By filter", filter_rows(report, SHOWN_GROUPS), "filter "),
    ]
    return [_listed(*group) for group in groups if len(group[1]) > 1]


def _listed(title: str, rows: Rows, name: str) -> str:
    entries = [f"{name}{entry}: {n} of {size} members" for entry, n, size in rows[1:]]
    return f"{title}, the largest shares first: {'; '.join(entries)}."


# Rows of tables, heads first.


def share_rows(reports: list[Report], name: Callable[[str], str] = shortened) -> Rows:
    """How the energy of each layer is divided."""
    rows = [["layer", "convolution", "within families", "off template"]]
    for report in reports:
        cells = (f"{share:.2%}" for share in shares_of(report))
        rows.append([name(report["layer"]), *cells])
    return rows


def shares_of(report: Report) -> list[float]:
    """Of the convolution, within the families and off the template."""
    parts = report["energies"]
    whole = sum(parts.values()) or 1.0
    others = [parts[part] / whole for part in ("family", "off_template")]
    return [report["convolution_share"], *others]


def number_rows(reports: list[Report], name: Callable[[str], str] = shortened) -> Rows:
    """Other numbers of each layer."""
    keys = [
        "family_variance",
        "off_template_mass",
        "weights",
        "distinct_weights",
        "zero_weights",
    ]
    rows = [["layer", *(key.replace("_", " ") for key in keys)]]
    for report in reports:
        cells = (readable(report[key]) for key in keys)
        rows.append([name(report["layer"]), *cells])
    return rows


def child_rows(report: Report, limit: int) -> Rows:
    """The remarkable ones of the problem children that are listed."""
    rows = [["output", "tap", "value", "family mean", "score"]]
    children = [c for c in report["problem_children"] if c["score"] > REMARKABLE]
    for child in children[:limit]:
        places = [str(child[name]) for name in ("position", "family")]
        numbers = [readable(child[name]) for name in ("value", "mean")]
        rows.append([*places, *numbers, f"{child['score']:.1f}"])
    return rows


def position_rows(report: Report, limit: int) -> Rows:
    """The outputs with problem children."""
    return _group_rows(report, "position", "output", limit)


def filter_rows(report: Report, limit: int) -> Rows:
    """The filters with problem children."""
    return _group_rows(report, "filter", "filter", limit)


def _group_rows(report: Report, key: str, head: str, limit: int) -> Rows:
    rows = [[head, "problem children", "members"]]
    for group in report.get(f"remarkable_by_{key}", [])[:limit]:
        counts = [f"{group[name]:,}" for name in ("remarkable", "members")]
        rows.append([str(group[key]), *counts])
    return rows


# These functions put a report into one line.


def line_of_layer(report: Report) -> str:
    """The most telling numbers of a layer."""
    convolution, family, off_template = shares_of(report)
    return (
        f"<LayerReport of '{shortened(report['layer'])}': {report['weights']:,} weights; "
        f"convolution {convolution:.2%}, within families {family:.2%}, off template "
        f"{off_template:.2%}; {report['remarkable_children']:,} problem children>"
    )


def line_of_model(reports: list[Report]) -> str:
    """The size of a model, and its layers that are least convolutional."""
    if not reports:
        return "<StructureReport of no layers>"
    weights = sum(report["weights"] for report in reports)
    worst = ", ".join(
        f"'{shortened(report['layer'])}' {report['convolution_share']:.2%}"
        for report in worst_first(reports)[:SHOWN_WORST]
    )
    layers = "1 layer" if len(reports) == 1 else f"{len(reports):,} layers"
    return (
        f"<StructureReport of {layers} with {weights:,} weights; least convolutional: "
        f"{worst}>"
    )


def worst_first(reports: list[Report]) -> list[Report]:
    """The layers that are least convolutional first, diverged ones before them."""

    def key(report: Report) -> float:
        share = report["convolution_share"]
        return -1.0 if isnan(share) else share

    return sorted(reports, key=key)
