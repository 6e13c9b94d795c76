"""The drawing of the question that began this project: a line for each weight."""

from typing import Any

import numpy as np

from keras_softconv.diagnostics import readable
from keras_softconv.layers import BaseSoftConv
from keras_softconv.plots.checks import check_index, refuse
from keras_softconv.plots.colours import (
    INK,
    PAPER,
    relative,
    weight_colours,
)
from keras_softconv.plots.drawing import (
    LEGEND_WIDTH,
    SMALL,
    Picture,
    alone,
    axes_with_legend,
    draw_legend,
    library,
)
from keras_softconv.plots.view import Reach, Shape, View, reach_of

MOST_LINES, MOST_NODES, MOST_CHILDREN, MOST_LABELS = 1500, 400, 5, 40
REMEDY = "Draw `shades` or `off_template` instead, or `kernel_matrix` of a smaller layer."


def connections(layer: BaseSoftConv, *, channel: int = 0, filter: int = 0) -> Any:
    """A line for each weight between the inputs of one channel and the outputs of a filter.

    Lines on the template have the colour of their tap, lighter where the weight is below
    its family's mean and darker where it is above. All others lie beneath and fade to
    white, which is zero. No line: no weight. Problem children, which score above 3.5, are
    thick and numbered.

    Args:
        layer: a built SoftConv layer.
        channel: input channel.
        filter: output channel.

    Returns:
        A `matplotlib.figure.Figure`, which a notebook shows: `.savefig(path)`.

    Raises:
        ValueError: for anything but a built SoftConv layer, for a channel or filter that
            it does not have, and for more than 1500 lines or 400 nodes a side.
        ImportError: without matplotlib, which the package does not require.

    Examples:
        ```python
        connections(model.get_layer("soft")).savefig("connections.png")
        ```
    """
    return alone(Connections(layer, channel, filter))


class Connections(Picture):
    """What `connections` draws."""

    def __init__(self, layer: BaseSoftConv, channel: int = 0, filter: int = 0) -> None:
        self.view = view = View(layer, every_position=True)
        geometry = view.geometry
        self.check_size(geometry)
        channel = check_index("channel", channel, geometry.in_channels)
        filter = check_index("filter", filter, geometry.filters)
        self.options = {"channel": channel, "filter": filter}
        self._taps = view.taps_of(channel, filter)
        self._read_lines(channel, filter)
        self.children = view.remarkable(self._taps, MOST_CHILDREN)
        self.reach = reach_of(self.shades, self.weights)
        inputs, outputs = (
            int(np.prod(g)) for g in (geometry.input_grid, geometry.output_grid)
        )
        self._height = float(np.clip(0.5 * max(inputs, outputs), 3.8, 10))
        below = 0.2 * len(self.children)
        self.size = (6 + LEGEND_WIDTH, self._height + 1 + below)
        template = int((self.families >= 0).sum())
        self.title = (
            f"{view.title}, channel {channel}, filter {filter}\n"
            f"{len(self.weights):,} weights: {template:,} on the template, "
            f"{len(self.weights) - template:,} off it"
        )

    @staticmethod
    def check_size(geometry: Any) -> None:
        """Raise `ValueError` if there are too many lines or nodes."""
        lines = geometry.size // (geometry.in_channels * geometry.filters)
        refuse("lines", lines, MOST_LINES, REMEDY)
        nodes = [int(np.prod(g)) for g in (geometry.input_grid, geometry.output_grid)]
        refuse("nodes", nodes, MOST_NODES, REMEDY)

    def _read_lines(self, channel: int, filter: int) -> None:
        """One entry for each line: its ends (raveled), weight, family and shade."""
        lines = []
        for output, position in enumerate(self.view.positions):
            weights, families = (
                array[..., channel, filter].ravel() for array in self.view.units(position)
            )
            shades = np.where(families >= 0, self.view.shades[position][families], 0)
            (inputs,) = np.nonzero(~np.isnan(weights))
            outputs = np.full(inputs.shape, output)
            lines.append(
                (inputs, outputs, weights[inputs], families[inputs], shades[inputs])
            )
        columns = map(np.concatenate, zip(*lines, strict=True))
        self.inputs, self.outputs, self.weights, self.families, self.shades = columns

    def draw(self, figure: Any, reach: Reach) -> None:
        axes, bars, rest = axes_with_legend(figure, (6, self._height), self._taps.size)
        self._draw_lines(axes, reach)
        grids = self.view.geometry.input_grid, self.view.geometry.output_grid
        names = [f"{name} {number}" for name, number in self.options.items()]
        self._draw_nodes(axes, 0, grids[0], f"inputs, {names[0]}")
        self._draw_nodes(axes, 1, grids[1], f"outputs, {names[1]}")
        self._draw_children(axes, reach)
        margin = 0.25 / self._height
        axes.set(xlim=(-0.16, 1.16), ylim=(1 + margin, -2.2 * margin), xticks=[], yticks=[])
        axes.set_facecolor(PAPER)
        axes.spines[:].set_visible(False)
        draw_legend(bars, rest, self.view, self._taps, reach)

    def _colours(self, reach: Reach) -> np.ndarray:
        return weight_colours(
            self.view.colour_number(self.families),
            self.families >= 0,
            relative(self.shades, reach.shade),
            relative(np.abs(self.weights), reach.weight),
        )

    def _ends(self) -> np.ndarray:
        """`(lines, 2 ends, 2 coordinates)`."""
        geometry = self.view.geometry
        left = heights(geometry.input_grid)[self.inputs]
        right = heights(geometry.output_grid)[self.outputs]
        sides = np.zeros_like(left), np.ones_like(right)
        return np.stack([np.stack([sides[0], left], 1), np.stack([sides[1], right], 1)], 1)

    def _draw_lines(self, axes: Any, reach: Reach) -> None:
        collections = library("collections")
        thickness = np.clip(np.sqrt(60 / max(len(self.weights), 1)), 0.25, 1)
        sizes = np.clip(relative(np.abs(self.weights), reach.weight), 0, 1)
        widths = thickness * (1.3 + 2.2 * sizes)
        ends, colours = self._ends(), self._colours(reach)
        by_size = np.argsort(sizes, kind="stable")
        for name, is_part, order in (
            ("off the template", self.families < 0, 1),
            ("on the template", self.families >= 0, 2),
        ):
            part = by_size[is_part[by_size]]
            lines = collections.LineCollection(
                ends[part],
                colors=colours[part],
                linewidths=widths[part],
                zorder=order,
                label=name,
                capstyle="round",
            )
            axes.add_collection(lines, autolim=False)

    def _draw_nodes(self, axes: Any, side: int, grid: Shape, head: str) -> None:
        at = heights(grid)
        size = float(np.clip(1100 / len(at), 6, 70))
        style = {"color": "white", "edgecolors": INK, "linewidths": 0.9, "zorder": 5}
        axes.scatter(np.full(len(at), side), at, size, clip_on=False, **style)
        align = ("right", "left")[side]
        outside = side + (-0.03, 0.03)[side]
        step = -(-len(at) // MOST_LABELS)
        for number, index in enumerate(np.ndindex(grid)):
            if number % step == 0:
                text = str(index[0] if len(grid) == 1 else index)
                options = {"ha": align, "va": "center", "fontsize": SMALL, "color": INK}
                axes.text(outside, at[number], text, **options)
        axes.text(
            side, -0.34 / self._height, head, ha="center", va="center", fontsize=SMALL + 1
        )

    def _draw_children(self, axes: Any, reach: Reach) -> None:
        colours, ends, said = self._colours(reach), self._ends(), []
        for number, child in enumerate(self.children, start=1):
            line = self._line_of(child)
            self._thicken(axes, ends[line], colours[line])
            self._mark(axes, ends[line], number)
            value, mean = readable(child["value"]), readable(child["mean"])
            said.append(
                f"problem child {number}: {value} at output {child['position']}, tap "
                f"{child['family']}, whose mean is {mean}; score {child['score']:.1f}"
            )
        axes.set_xlabel("\n".join(said), fontsize=SMALL, loc="left")

    def _line_of(self, child: dict[str, Any]) -> int:
        is_output = self.outputs == self.view.place_of(child)
        (line,) = np.flatnonzero(is_output & (self.families == self.view.family_of(child)))
        return int(line)

    def _thicken(self, axes: Any, ends: np.ndarray, colour: np.ndarray) -> None:
        width = 5.5 if len(self.weights) < 200 else 3.0
        for extra, shown, order in ((2.4, INK, 3), (0, colour, 3.1)):
            style = {"color": shown, "lw": width + extra, "zorder": order}
            axes.plot(*ends.T, solid_capstyle="round", **style)

    def _mark(self, axes: Any, ends: np.ndarray, number: int) -> None:
        begin, end = ends
        at = begin + (end - begin) * (0.72 - 0.1 * (number - 1))
        box = {"boxstyle": "circle,pad=0.25", "facecolor": "white", "edgecolor": INK}
        options = {"ha": "center", "va": "center", "fontsize": SMALL, "zorder": 6}
        axes.text(*at, str(number), bbox=box, fontweight="bold", **options)


def heights(grid: Shape) -> np.ndarray:
    """Where the nodes of a grid stand, from 0 to 1, with gaps between its rows."""
    at = np.arange(int(np.prod(grid)), dtype="float64")
    for axis in range(1, len(grid)):
        at += 0.7 * (np.arange(len(at)) // int(np.prod(grid[axis:])))
    return at / at[-1] if at[-1] else at + 0.5
