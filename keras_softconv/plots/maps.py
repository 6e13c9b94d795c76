"""Families over the output grid, and a unit's off-template weights over the input grid."""

from typing import Any

import numpy as np

from keras_softconv.diagnostics import readable
from keras_softconv.layers import BaseSoftConv
from keras_softconv.plots.checks import check_index, check_position, refuse
from keras_softconv.plots.colours import DIVERGING, INK, NO_WEIGHT, PAPER
from keras_softconv.plots.drawing import (
    SMALL,
    SMALLEST,
    Picture,
    alone,
    draw_grid,
    frame,
    hatch,
    library,
    panel_size,
    place_in_image,
)
from keras_softconv.plots.view import SHADES_REACH, Reach, Shape, View, largest, reach_of

MOST_PANELS, MOST_ALONG, MOST_FRAMES, MOST_CHANNELS = 121, 16, 50, 16
LARGEST_SIDE = 15.0  # inches


def shades(layer: BaseSoftConv, *, channel: int = 0, filter: int = 0) -> Any:
    """The families of one channel and filter: a panel for each tap, laid out as the kernel.

    A panel shows the members of one family, each at the place of its output, as weight
    minus family mean, in one scale for all panels. Hatched: no member, since the tap only
    sees padding there. Framed: problem children, which score above 3.5.

    Args:
        layer: a built SoftConv layer.
        channel: input channel, of the filter's group.
        filter: output channel.

    Returns:
        A `matplotlib.figure.Figure`, which a notebook shows: `.savefig(path)`.

    Raises:
        ValueError: for anything but a built SoftConv layer, for a channel or filter that
            it does not have or that are of different groups, and for more than 121 taps.
        ImportError: without matplotlib, which the package does not require.

    Examples:
        ```python
        shades(model.get_layer("soft"), filter=2).savefig("shades.png")
        ```
    """
    return alone(Shades(layer, channel, filter))


def off_template(
    layer: BaseSoftConv,
    *,
    position: tuple[int, ...] | None = None,
    filter: int | None = None,
) -> Any:
    """The off-template weights of one unit: a panel for each input channel.

    A panel shows the weights over the input grid, in one scale for all panels that is
    symmetrical around 0. Hatched: the unit's template. Grey: no weight. Of more than 16
    channels the first 16 are shown.

    Args:
        layer: a built SoftConv layer.
        position: of the unit in the output grid; None for the one with the largest
            off-template energy, the sum of the squared off-template weights of all filters.
        filter: output channel of the unit; None for the one whose off-template weights
            are largest there, by the sum of their squares.

    Returns:
        A `matplotlib.figure.Figure`, which a notebook shows: `.savefig(path)`.

    Raises:
        ValueError: for anything but a built SoftConv layer, and for a position or filter
            that it does not have.
        ImportError: without matplotlib, which the package does not require.

    Examples:
        ```python
        off_template(model.get_layer("soft"), position=(0, 3)).savefig("off_template.png")
        ```
    """
    return alone(OffTemplate(layer, position, filter))


class Shades(Picture):
    """What `shades` draws."""

    def __init__(self, layer: BaseSoftConv, channel: int = 0, filter: int = 0) -> None:
        self.view = view = View(layer)
        geometry = view.geometry
        self.check_size(geometry)
        channel = check_index("channel", channel, geometry.in_channels)
        filter = check_index("filter", filter, geometry.filters)
        self.options = {"channel": channel, "filter": filter}
        taps = view.taps_of(channel, filter)
        if not taps.size:
            raise ValueError(_of_other_group(geometry, channel, filter))
        self.families = taps.ravel()
        self.children = view.remarkable(taps, MOST_FRAMES)
        drawn = (..., self.families)
        self.reach = reach_of(view.shades[drawn], view.weights[drawn])
        self._layout = layout(geometry.kernel_size)
        self.size = _figure_size(self._layout, panel_size(geometry.output_grid))
        framed = "; framed: problem children" if self.children else ""
        self.title = (
            f"{view.title}, channel {channel}, filter {filter}\n"
            f"a panel for each tap, laid out over the outputs{framed}"
        )

    @staticmethod
    def check_size(geometry: Any) -> None:
        """Raise `ValueError` if there are too many panels."""
        size = geometry.kernel_size
        remedy = (
            f"The kernel_size is {size}. Draw `off_template` of single outputs instead, or "
            "take the families from `keras_softconv.diagnostics.Members(layer).shades`."
        )
        refuse("panels, one for each tap,", int(np.prod(size)), MOST_PANELS, remedy)
        refuse("panels in a row or column", max(layout(size)), MOST_ALONG, remedy)

    def draw(self, figure: Any, reach: Reach) -> None:
        view, geometry = self.view, self.view.geometry
        panels = figure.subplots(*self._layout, squeeze=False)
        scale = {"cmap": DIVERGING, "vmin": -reach.shade or -1, "vmax": reach.shade or 1}
        fontsize = SMALL if self.size[0] / self._layout[1] > 1.1 else SMALLEST - 1
        image = None
        for axes, family in zip(panels.flat, self.families, strict=False):
            image = draw_grid(axes, view.shades[..., family], **scale)
            hatch(axes, PAPER)
            title = f"{view.tap(family)}\nmean {view.mean(family)}"
            axes.set_title(title, fontsize=fontsize, pad=3)
        for axes in panels.flat[len(self.families) :]:
            axes.set_axis_off()
        for child in self.children:
            (panel,) = np.flatnonzero(self.families == view.family_of(child))
            axes = panels.flat[panel]
            frame(axes, *place_in_image(child["position"], geometry.output_grid))
        _colour_bar(figure, image, panels, "weight minus family mean")


class OffTemplate(Picture):
    """What `off_template` draws."""

    def __init__(
        self,
        layer: BaseSoftConv,
        position: Shape | None = None,
        filter: int | None = None,
    ) -> None:
        self.view = view = View(layer)
        geometry = view.geometry
        energies = view.off_template_energies()
        if position is None:
            position = np.unravel_index(np.argmax(energies), energies.shape)
            position = tuple(map(int, position))
        position = check_position(position, geometry.output_grid)
        weights, families = view.units(position)
        if filter is None:
            counts = (families < 0) & np.isfinite(weights)
            off_template = np.where(counts, weights, 0)
            others = tuple(range(off_template.ndim - 1))
            filter = np.argmax((off_template**2).sum(axis=others))
        filter = check_index("filter", filter, geometry.filters)
        self.options = {"position": position, "filter": filter}
        weights, self.is_template = weights[..., filter], families[..., filter] >= 0
        self.weights = np.where(self.is_template, np.nan, weights)
        self.has_no_weight = np.isnan(weights)
        self.shown = min(geometry.in_channels, MOST_CHANNELS)
        # As far as shades do beside weights: what is all but zero is to look so.
        on_template = largest(np.where(self.is_template, weights, np.nan))
        off_template = largest(self.weights[..., : self.shown])
        self.reach = Reach(0.0, max(off_template, SHADES_REACH * on_template))
        columns = min(self.shown, 4)
        self._layout = (-(-self.shown // columns), columns)
        width, height = panel_size(geometry.input_grid)
        self.size = _figure_size(self._layout, (1.5 * width, 1.5 * height))
        some = f"the first {self.shown} of {geometry.in_channels} channels; "
        self.title = (
            f"{view.title}\noff-template weights of output {position}, filter {filter}\n"
            f"off-template energy of this output, all filters: "
            f"{readable(float(energies[position]))}\n"
            f"{some if self.shown < geometry.in_channels else ''}hatched: its template"
            f"{'; grey: no weight' if self.has_no_weight.any() else ''}"
        )

    @staticmethod
    def check_size(geometry: Any) -> None:
        """Refuse nothing: of many channels some are shown."""

    def draw(self, figure: Any, reach: Reach) -> None:
        panels = figure.subplots(*self._layout, squeeze=False)
        scale = {"cmap": DIVERGING, "vmin": -reach.weight or -1, "vmax": reach.weight or 1}
        image = None
        for channel, axes in enumerate(panels.flat):
            if channel >= self.shown:
                axes.set_axis_off()
                continue
            image = draw_grid(axes, self.weights[..., channel], **scale)
            axes.set_facecolor(NO_WEIGHT)
            axes.set_title(f"channel {channel}", fontsize=SMALL, pad=3)
            self._hatch_template(axes, self.is_template[..., channel])
        _colour_bar(figure, image, panels, "off-template weight")

    def _hatch_template(self, axes: Any, is_template: np.ndarray) -> None:
        patches, collections = library("patches"), library("collections")
        cells = []
        for index in np.argwhere(is_template):
            row, column = place_in_image(tuple(map(int, index)), is_template.shape)
            cells.append(patches.Rectangle((column - 0.5, row - 0.5), 1, 1))
        style = {"facecolor": "white", "edgecolor": INK, "linewidth": 0.8, "hatch": "////"}
        if cells:
            axes.add_collection(collections.PatchCollection(cells, zorder=3, **style))


def layout(kernel_size: Shape) -> Shape:
    """Rows and columns of panels."""
    if len(kernel_size) == 1:
        (taps,) = kernel_size
        columns = -(-taps // 11)
        return -(-taps // columns), columns
    *others, columns = kernel_size
    return int(np.prod(others)), columns


def _figure_size(panels: Shape, panel: tuple[float, float]) -> tuple[float, float]:
    rows, columns = panels
    width, height = columns * panel[0], rows * (panel[1] + 0.4)
    shrink = min(1.0, LARGEST_SIDE / width, LARGEST_SIDE / height)
    return max(width * shrink, 4.2) + 1.3, max(height * shrink, 1.6) + 0.8


def _colour_bar(figure: Any, image: Any, panels: np.ndarray, label: str) -> None:
    bar = figure.colorbar(image, ax=list(panels.flat), fraction=0.05, aspect=25)
    bar.set_label(label, fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)


def _of_other_group(geometry: Any, channel: int, filter: int) -> str:
    channels = geometry.in_channels // geometry.groups
    first = filter // (geometry.filters // geometry.groups) * channels
    return (
        f"No tap joins channel {channel} to filter {filter}, which are of different "
        f"groups. Expected a channel from {first} to {first + channels - 1}, of the "
        f"filter's group. Received: channel={channel}, filter={filter}, of a layer with "
        f"groups={geometry.groups}. Draw `off_template` for what joins groups."
    )
