"""Tables as text and as Markdown."""


def readable(number: float) -> str:
    """A number as reports, pictures and TensorBoard show it: four digits."""
    if isinstance(number, int):
        return f"{number:,}"
    return f"{number:.4g}"


def text_table(rows: list[list[str]]) -> str:
    """Rows of cells, the first the head, in columns: the first to the left, others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * len(widths) - 2), *lines[1:]])


def markdown_table(rows: list[list[str]]) -> str:
    """The same in Markdown."""
    rule = ["---", *["---:"] * (len(rows[0]) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], rule, *rows[1:]])
