"""How convolutional layers are: data, text, Markdown, HTML and data frames."""

from typing import Any

from keras_softconv.arguments import is_integer
from keras_softconv.compat import keras
from keras_softconv.diagnostics.frames import frame_of
from keras_softconv.diagnostics.layer_numbers import layer_numbers
from keras_softconv.diagnostics.lazy_dict import LazyDict
from keras_softconv.diagnostics.pages import html_of
from keras_softconv.diagnostics.plain_json import json_of
from keras_softconv.diagnostics.search import soft_layers
from keras_softconv.diagnostics.tables import (
    line_of_layer,
    line_of_model,
    markdown_table,
    text_of,
    text_table,
)
from keras_softconv.layers import BaseSoftConv


class LayerReport(LazyDict):
    """What `structure_report` says of one layer: a dict of plain data.

    Keys:
        layer: path of the layer.
        weights, template_weights: how many there are, in all and on the template.
        family_variance, family_variance_min, family_variance_max, off_template_mass,
            convolution_share: see `structure_numbers`.
        energies: dict of the three parts of the sum of squared weights: `convolution`,
            `family`, `off_template`.
        distinct_weights: how many different values the weights have, 0 among them.
        zero_weights: how many are exactly 0.
        families: list of dicts, in the raveled order of the Conv kernel: `family` (tap
            indices in it), `mean`, `variance`, `size`.
        positions: list of dicts: `position` (in the output grid), `deviation_energy` (sum
            of its members' squared distances from their family means),
            `off_template_energy` (sum of its squared off-template weights).
        problem_children: list of dicts, the most deviant first: `family`, `position`,
            `value`, `mean` (of the family), `score` (see `diagnostics.scores`).
        remarkable_children: how many members have a score above 3.5.
        expected_by_chance: how many would if all families were normally distributed with
            the spreads that they have here, and all members independent. Trained weights
            have heavier tails, so that more of them are no proof; fewer mean that nothing
            stands out. See `diagnostics.chance` for the formula.
        remarkable_by_position, remarkable_by_filter: lists of dicts of those output
            positions and filters that have such members, the largest share first:
            `position` or `filter`, `remarkable` and `members` (how many of each).
        effective_weights: only after `AdaptiveStrengths`, a dict by place (`tie`,
            `off_template`, `bias_tie` where biases have strengths of their own, and
            `shared_kernel` and `shared_bias` where their ridges were included) of dicts:
            how many weights the training data had `determined`, of how many `weights`, at
            its last update.
        bias_variance: mean squared distance of the biases from the mean of their filter;
            None without biases.

    `families`, `positions` and the two lists after `expected_by_chance` are made when they
    are read. `print(report)` shows tables, a notebook does as well; `repr(report)` is one
    line.
    """

    def __str__(self) -> str:
        return text_of([self], text_table)

    def __repr__(self) -> str:
        try:
            return line_of_layer(self)
        except (KeyError, TypeError):  # parts of it are taken out, or others are put in
            return f"<LayerReport with {len(self)} keys>"

    def _repr_html_(self) -> str | None:
        return html_of([self]) if "energies" in self else None

    def to_markdown(self) -> str:
        """The report as Markdown."""
        return text_of([self], markdown_table)

    def to_frame(self, table: str | None = None) -> Any:
        """The report, or a table of it, as a `pandas.DataFrame`.

        Args:
            table: `families`, `positions`, `problem_children`, `remarkable_by_position` or
                `remarkable_by_filter`; None for one row of all other numbers.

        Raises:
            ImportError: without pandas, which the package does not require.
            ValueError: for any other table.
        """
        return frame_of([self], table, add_layer=False)

    def to_json(self, indent: int | None = None) -> str:
        """The report as JSON; numbers that are not finite are null, tuples are lists.

        Args:
            indent: as in `json.dumps`.
        """
        return json_of(self, indent)


class StructureReport(dict):
    """The `LayerReport` of every SoftConv layer of a model, by path.

    `print(report)` shows tables of all layers, and a notebook those of the 50 that are
    least convolutional; `repr(report)` is one line.
    """

    def __missing__(self, path: str) -> LayerReport:
        raise KeyError(f"No SoftConv layer '{path}'. The paths are {list(self)}.")

    def __str__(self) -> str:
        return text_of(self.values(), text_table)

    def __repr__(self) -> str:
        try:
            return line_of_model(list(self.values()))
        except (KeyError, TypeError):  # something else is put into it
            return f"<StructureReport with {len(self)} keys>"

    def _repr_html_(self) -> str:
        return html_of(list(self.values()))

    def copy(self) -> "StructureReport":
        """A report of the same layers."""
        return type(self)(self)

    def to_markdown(self) -> str:
        """The report as Markdown."""
        return text_of(self.values(), markdown_table)

    def to_frame(self, table: str | None = None) -> Any:
        """The report as a `pandas.DataFrame`, one row for each layer.

        Args:
            table: as in `LayerReport.to_frame`: the rows of this table of all layers, with
                the path of the layer as their first column.

        Raises:
            ImportError: without pandas, which the package does not require.
            ValueError: for any other table.
        """
        return frame_of(list(self.values()), table, add_layer=True)

    def to_json(self, indent: int | None = None) -> str:
        """The report as JSON; numbers that are not finite are null, tuples are lists.

        Args:
            indent: as in `json.dumps`.
        """
        return json_of(self, indent)


def structure_report(
    layer_or_model: keras.Layer, *, children: int = 100
) -> LayerReport | StructureReport:
    """How convolutional a layer is, or every layer of a model, and where it is not.

    Takes a few passes over the weights; the dense kernel is never built.

    Args:
        layer_or_model: a SoftConv layer, or a model (or any Keras layer) with some inside.
        children: how many problem children to list for each layer, at most.

    Returns:
        For a SoftConv layer its `LayerReport`, for a model a `StructureReport`, which has
        one for each layer by its path. Both are dicts of plain Python data, which `json`
        takes, and print as tables. A later training does not change them.

    Raises:
        ValueError: for anything but a Keras layer, a model without SoftConv layers, layers
            that are not built, and a number of children that is negative.

    Examples:
        >>> layer = keras_softconv.SoftConv2D(1, 2)
        >>> layer.build((None, 3, 3, 1))
        >>> report = keras_softconv.structure_report(layer)
        >>> report["weights"], report["zero_weights"], report["convolution_share"]
        (36, 20, 1.0)
    """
    if not is_integer(children) or children < 0:
        raise ValueError(
            "`children` must be a whole number, 0 or more. Received: "
            f"children={children!r}. Give the number of problem children to list, say 100."
        )
    layers = soft_layers(layer_or_model) if isinstance(layer_or_model, keras.Layer) else {}
    if not layers:
        raise ValueError(
            "`structure_report` found no SoftConv layer. Expected one, or a Keras model "
            f"with at least one. Received: {layer_or_model!r}. Give a model with a "
            "SoftConv2D layer, or make one with `keras_softconv.soften`."
        )
    unbuilt = [path for path, layer in layers.items() if not layer.built]
    if unbuilt:
        raise ValueError(
            f"`structure_report` needs built layers. Not built: {unbuilt}. Call the model "
            "or layer on an input, or `build(input_shape)`."
        )
    report = report_of_layers(layers, children)
    is_layer = isinstance(layer_or_model, BaseSoftConv)
    return report[layer_or_model.name] if is_layer else report


def report_of_layers(layers: dict[str, BaseSoftConv], children: int) -> StructureReport:
    """The reports of built layers by path; see `structure_report`."""
    return StructureReport(
        {
            path: layer_numbers(LayerReport, path, layer, children)
            for path, layer in layers.items()
        }
    )
