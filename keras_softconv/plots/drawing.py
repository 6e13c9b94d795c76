"""What the pictures have in common: a figure, grids of numbers, a legend of shades."""

from importlib import import_module
from typing import Any

import numpy as np

from keras_softconv.diagnostics import readable
from keras_softconv.plots.colours import (
    HATCHING,
    INK,
    family_colours,
    off_template_colours,
)
from keras_softconv.plots.view import Reach, Shape, View

SMALL, SMALLEST = 8, 6.5  # points
LISTED_TAPS = 12
LEGEND_WIDTH = 3.2  # inches
ROW_HEIGHT = 0.27


class Picture:
    """A picture that is read from a layer, and can then be drawn in any figure.

    Attributes:
        options: what to read another state of the same layer with, for the same picture.
        size: width and height in inches.
        title: of the figure.
        reach: the scales that the picture has when it stands alone.
    """

    options: dict[str, Any]
    size: tuple[float, float]
    title: str
    reach: Reach

    def draw(self, figure: Any, reach: Reach) -> None:
        """Draw in a figure or subfigure, with the scales of `reach`."""
        raise NotImplementedError


def alone(picture: Picture) -> Any:
    """The figure of one picture."""
    figure = new_figure(picture.size)
    picture.draw(figure, picture.reach)
    figure.suptitle(picture.title, fontsize="medium")
    return figure


def new_figure(size: tuple[float, float]) -> Any:
    """A figure of which pyplot, which would keep it open, does not know.

    Raises:
        ImportError: without matplotlib, which the package does not require.
    """
    library("figure")  # the error without matplotlib is that of all pictures
    module = import_module("keras_softconv.plots.notebook_figure")
    return module.NotebookFigure(figsize=size, layout="constrained")


def library(module: str) -> Any:
    """A module of matplotlib, imported when it is needed."""
    try:
        import_module("matplotlib")
        return import_module(f"matplotlib.{module}")
    except ImportError as error:
        raise ImportError(
            "The pictures of `keras_softconv.plots` are drawn with matplotlib, which is "
            "not installed. `pip install matplotlib`, or "
            "`print(keras_softconv.structure_report(layer))` for the numbers."
        ) from error


# Grids of one to three axes as images.


def image_of(values: np.ndarray) -> np.ndarray:
    """A strip of one row, the image itself, or slices side by side with a gap (NaN)."""
    if values.ndim < 3:
        return np.atleast_2d(values)
    gap = np.full((*values.shape[:2], 1), np.nan)
    slices = np.concatenate([values, gap], axis=2)  # [depth, rows, columns + 1]
    return np.concatenate(list(slices), axis=1)[:, :-1]


def place_in_image(index: Shape, grid: Shape) -> Shape:
    """Row and column at which `image_of` shows an index of the grid."""
    if len(index) < 3:
        return (0, *index)[-2:]
    depth, row, column = index
    return row, depth * (grid[2] + 1) + column


def draw_grid(axes: Any, values: np.ndarray, **options: Any) -> Any:
    """Show values over a grid, transparent where they are NaN; matplotlib's image."""
    image = image_of(values)
    aspect = "auto" if values.ndim == 1 else "equal"
    shown = axes.imshow(image, interpolation="nearest", aspect=aspect, **options)
    axes.set(xticks=[], yticks=[])
    if values.ndim == 3:
        depth, _, columns = values.shape
        for gap in range(1, depth):
            left = gap * (columns + 1) - 1.5
            axes.axvspan(left, left + 1, color="white", lw=0, zorder=2)
    return shown


def panel_size(grid: Shape) -> tuple[float, float]:
    """Inches for the image of a grid."""
    rows, columns = image_of(np.zeros(grid)).shape
    width, height = np.sqrt(2.6 * columns / rows), np.sqrt(2.6 * rows / columns)
    return float(np.clip(width, 1.1, 4.5)), float(np.clip(height, 0.3, 3.0))


def frame(axes: Any, row: int, column: int) -> None:
    """Draw a frame around one cell of an image, to be seen on any colour."""
    patches, effects = library("patches"), library("patheffects")
    corner = column - 0.5, row - 0.5
    cell = patches.Rectangle(corner, 1, 1, fill=False, edgecolor=INK, lw=1.4, zorder=4)
    cell.set_path_effects([effects.withStroke(linewidth=3.2, foreground="white")])
    axes.add_patch(cell)


def hatch(axes: Any, colour: str) -> None:
    """Hatch what an image leaves blank."""
    axes.patch.set(facecolor=colour, hatch="/////", edgecolor=HATCHING, lw=0)


# The legend: a bar of shades for each tap.


def axes_with_legend(
    figure: Any, size: tuple[float, float], taps: int
) -> tuple[Any, Any, Any]:
    """Axes for the picture, for the bars of its taps and for that of all other weights.

    Args:
        figure: to divide.
        size: of the picture without legend, in inches.
        taps: how many there are.
    """
    width, height = size
    rows = (min(taps, LISTED_TAPS) + (taps > LISTED_TAPS)) * ROW_HEIGHT
    heights = (max(rows, 0.01), ROW_HEIGHT, max(height - rows - 2 * ROW_HEIGHT, 0.01))
    grid = figure.add_gridspec(3, 2, height_ratios=heights, width_ratios=(width, 1))
    return tuple(figure.add_subplot(at) for at in (grid[:, 0], grid[0, 1], grid[1, 1]))


def draw_legend(
    bars: Any, rest: Any, view: View, families: np.ndarray, reach: Reach
) -> None:
    """Say what the colours of the taps mean, and those off the template."""
    listed = families.ravel()[:LISTED_TAPS]
    labels = [f"{view.tap(family)}  mean {view.mean(family)}" for family in listed]
    labels += ["…"] if families.size > len(listed) else []
    numbers = view.colour_number(listed)[:, None]
    shades = family_colours(numbers, np.linspace(-1, 1, 101)[None])
    ends = [f"-{readable(reach.shade)}", "mean", f"+{readable(reach.shade)}"]
    _bars(bars, shades, labels, (-1, 0, 1), ends)
    bars.set_title("on the template: a family for each tap", loc="left", fontsize=SMALL)
    sizes = off_template_colours(np.linspace(0, 1, 101)[None])
    _bars(rest, sizes, [""], (-1, 1), ["0", readable(reach.weight)])
    rest.set_title("off the template: |weight|", loc="left", fontsize=SMALL)


def _bars(axes: Any, colours: np.ndarray, labels: list[str], at: Any, ends: Any) -> None:
    rows = len(colours)
    if not rows:
        axes.set_axis_off()
        return
    axes.imshow(colours, aspect="auto", extent=(-1, 1, rows - 0.5, -0.5))
    axes.hlines(np.arange(rows - 1) + 0.5, -1, 1, color="white", lw=3)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_yticks(range(len(labels)), labels, fontsize=SMALL)
    axes.set_xticks(at, ends, fontsize=SMALLEST)
    axes.tick_params(length=0, left=False, labelleft=False, labelright=True)
    axes.spines[:].set_visible(False)
