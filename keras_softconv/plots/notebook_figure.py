"""A matplotlib figure that notebooks show; imported when a picture is drawn."""

from io import BytesIO

from matplotlib.figure import Figure

DOTS_PER_INCH = 100


class NotebookFigure(Figure):
    """A figure that is shown where it is the last value of a notebook's cell.

    Pyplot does not know of it, so that no figure is left open. After `%matplotlib inline`
    the notebook draws figures of all kinds by itself, this one too, and does not ask for
    `_repr_png_`: the picture is there once.
    """

    def png(self) -> bytes:
        """The figure as the content of a PNG file."""
        content = BytesIO()
        self.savefig(content, format="png", dpi=DOTS_PER_INCH)
        return content.getvalue()

    _repr_png_ = png
