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

    def _repr_png_(self) -> bytes:
        png = BytesIO()
        self.savefig(png, format="png", dpi=DOTS_PER_INCH)
        return png.getvalue()
