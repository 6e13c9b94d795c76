"""The dense kernel as a matrix, where a convolution has diagonals."""

from math import ceil
from typing import Any

import numpy as np

from keras_softconv.layers import BaseSoftConv
from keras_softconv.plots.checks import refuse
from keras_softconv.plots.colours import (
    INK,
    NO_WEIGHT,
    relative,
    weight_colours,
)
from keras_softconv.plots.drawing import (
    LEGEND_WIDTH,
    SMALL,
    SMALLEST,
    Picture,
    alone,
    axes_with_legend,
    draw_legend,
    frame,
    hatch,
)
from keras_softconv.plots.view import Reach, Shape, View, reach_of

LABEL_HEIGHT = 0.13  # inches
MOST_CELLS, MOST_LABELS, MOST_BLOCKS, MOST_CHILDREN = 1024, 36, 16, 5


def kernel_matrix(layer: BaseSoftConv) -> Any:
    """The dense kernel: a row for each input, a column for each output.

    Rows run over the input grid, channel after channel, and columns over the output grid,
    filter after filter. Weights on the template have the colour of their tap, lighter
    where they are below their family's mean and darker where they are above; all others
    fade to white, which is zero. Hatched: no weight. Framed: the worst problem children.

    Args:
        layer: a built SoftConv layer.

    Returns:
        A `matplotlib.figure.Figure`, which a notebook shows: `.savefig(path)`.

    Raises:
        ValueError: for anything but a built SoftConv layer, and for more than 1024 rows
            or columns.
        ImportError: without matplotlib, which the package does not require.

    Examples:
        ```python
        kernel_matrix(model.get_layer("soft")).savefig("kernel.png")
        ```
    """
    return alone(KernelMatrix(layer))


class KernelMatrix(Picture):
    """What `kernel_matrix` draws."""

    def __init__(self, layer: BaseSoftConv) -> None:
        self.options = {}
        self.view = view = View(layer, every_position=True)
        self.check_size(view.geometry)
        units = [view.units(position) for position in view.positions]
        weights, families = (np.stack(arrays, -2) for arrays in zip(*units, strict=True))
        self.weights, self.families = map(self._as_matrix, (weights, families))
        shades = np.moveaxis(view.shades.reshape(len(units), -1), 0, 1)
        columns = np.arange(self.families.shape[1]) % len(units)
        self.shades = np.where(self.families >= 0, shades[self.families, columns], 0)
        self.children = view.remarkable(np.arange(len(view.means)), MOST_CHILDREN)
        self.reach = reach_of(self.shades, self.weights)
        rows, columns = self.families.shape
        cell = min(0.42, 9 / max(rows, columns))  # inches
        self._picture_size = max(cell * columns, 1.5), max(cell * rows, 2.6)
        self._room = self._picture_size[1] / rows, self._picture_size[0] / columns
        width, height = self._picture_size
        self.size = (width + LEGEND_WIDTH + 1, height + 1.5)
        self.title = (
            f"{view.title}\nthe dense kernel, {rows:,} inputs by {columns:,} outputs"
        )

    @staticmethod
    def check_size(geometry: Any) -> None:
        """Raise `ValueError` if the matrix is too large."""
        rows = int(np.prod(geometry.input_grid)) * geometry.in_channels
        columns = int(np.prod(geometry.output_grid)) * geometry.filters
        remedy = "Draw `shades` and `off_template` instead, which show parts of the kernel."
        refuse("rows and columns", (rows, columns), MOST_CELLS, remedy)

    def _as_matrix(self, kernel: np.ndarray) -> np.ndarray:
        """From `(*input_grid, in_channels, positions, filters)`."""
        geometry = self.view.geometry
        kernel = kernel.reshape(-1, geometry.in_channels, *kernel.shape[-2:])
        kernel = kernel.transpose(1, 0, 3, 2)  # [in_channels, inputs, filters, positions]
        return kernel.reshape(kernel.shape[0] * kernel.shape[1], -1)

    def draw(self, figure: Any, reach: Reach) -> None:
        view, geometry = self.view, self.view.geometry
        taps = view.taps_of(0, 0)
        axes, bars, rest = axes_with_legend(figure, self._picture_size, taps.size)
        rows, columns = self.families.shape
        aspect = "equal" if 0.25 < rows / columns < 4 else "auto"
        axes.imshow(self._colours(reach), interpolation="nearest", aspect=aspect)
        hatch(axes, NO_WEIGHT)
        for child in self.children:
            frame(axes, *self._cell_of(child))
        channels, filters = geometry.in_channels, geometry.filters
        high, wide = self._room
        _label(axes.yaxis, axes.axhline, geometry.input_grid, "channel", channels, high)
        _label(axes.xaxis, axes.axvline, geometry.output_grid, "filter", filters, wide)
        axes.tick_params(length=2, labelsize=SMALLEST)
        axes.xaxis.set_tick_params(rotation=90 if columns <= MOST_LABELS else 0)
        axes.set_ylabel(f"inputs{_by('channel', channels)}", fontsize=SMALL)
        axes.set_xlabel(f"outputs{_by('filter', filters)}", fontsize=SMALL)
        draw_legend(bars, rest, view, taps, reach)
        if channels * filters > 1:
            bars.set_title(
                "a colour for each tap; of channel 0, filter 0:", loc="left", fontsize=SMALL
            )

    def _colours(self, reach: Reach) -> np.ndarray:
        """RGBA, transparent where there is no weight."""
        has_weight = ~np.isnan(self.weights)
        colours = weight_colours(
            self.view.colour_number(self.families),
            self.families >= 0,
            relative(self.shades, reach.shade),
            relative(np.abs(np.where(has_weight, self.weights, 0)), reach.weight),
        )
        return np.concatenate([colours, has_weight[..., None]], axis=-1)

    def _cell_of(self, child: dict[str, Any]) -> Shape:
        *_, filter = child["family"]
        column = filter * len(self.view.positions) + self.view.place_of(child)
        (rows,) = np.nonzero(self.families[:, column] == self.view.family_of(child))
        return int(rows[0]), column


def _label(axis: Any, line: Any, grid: Shape, name: str, blocks: int, room: float) -> None:
    """Ticks along one side of the matrix, and separators between its blocks.

    Args:
        axis: to label.
        line: draws a separator.
        grid: along this side.
        name: of its blocks.
        blocks: how many there are.
        room: inches of each cell.
    """
    cells = int(np.prod(grid))
    for block in range(1, blocks):
        line(block * cells - 0.5, color=INK, lw=0.9)
    if blocks > 1 and cells * blocks > MOST_LABELS:
        shown = range(0, blocks, -(-blocks // MOST_BLOCKS))
        at = [(block + 0.5) * cells - 0.5 for block in shown]
        axis.set_ticks(at, [f"{name} {block}" for block in shown])
        return
    step = max(-(-cells * blocks // MOST_LABELS), ceil(LABEL_HEIGHT / room))
    labels = [str(index[0] if len(grid) == 1 else index) for index in np.ndindex(grid)]
    axis.set_ticks(range(0, cells * blocks, step), (labels * blocks)[::step])


def _by(name: str, blocks: int) -> str:
    return f", {name} after {name}" if blocks > 1 else ""
