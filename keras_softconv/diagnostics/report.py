"""The structure of a layer or model as plain data, as text and as Markdown."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_softconv.diagnostics.problem_children import (
    REMARKABLE,
    as_tuple,
    problem_children,
    scores,
)
from keras_softconv.diagnostics.search import soft_layers
from keras_softconv.diagnostics.structure import Members, energies, structure_numbers
from keras_softconv.diagnostics.tables import markdown_table, readable, text_table
from keras_softconv.layers import BaseSoftConv
from keras_softconv.weight_sharing import SQUARE, in_full_precision

SHOWN_CHILDREN = 10

LEGEND = (
    "Shares of the squared weights: what the nearest convolution explains, what is left "
    "within its families, what is off its template. 100 % in the first is a Conv layer, in "
    "the first two a locally connected one."
)


class LayerReport(dict):
    """What `structure_report` says of one layer, a dict of plain data.

    | key | |
    |---|---|
    | `layer` | path of the layer |
    | `weights`, `template_weights` | how many there are, in all and on the template |
    | `family_variance`, `family_variance_min`, `family_variance_max`, `off_template_mass`, \
`convolution_share` | see `structure_numbers` |
    | `energies` | dict of the three parts of the squared weights: `convolution`, `family`, \
`off_template` |
    | `distinct_weights` | how many different values the weights have, 0 among them |
    | `zero_weights` | how many are exactly 0 |
    | `families` | list of dicts: `family` (tap indices, in a Conv kernel), `mean`, \
`variance`, `size`, in the order of the Conv kernel |
    | `positions` | list of dicts: `position` (in the output grid), `deviation_energy` (sum \
of its members' squared distances from their family means), `off_template_energy` (sum of \
its squared off-template weights) |
    | `problem_children` | list of dicts: `family`, `position`, `value`, `mean`, `score`, \
the most deviant first |
    | `remarkable_children` | how many members have a score above 3.5 |
    | `bias_variance` | mean squared distance of the biases from the mean of their filter; \
None without biases |

    `print` shows it as a text table, `to_markdown()` as Markdown.
    """

    def __str__(self) -> str:
        return StructureReport({self["layer"]: self}).as_text(text_table)

    def to_markdown(self) -> str:
        """The report as Markdown."""
        return StructureReport({self["layer"]: self}).to_markdown()


class StructureReport(dict):
    """The `LayerReport` of every layer of a model, by path.

    `print` shows them as a text table, `to_markdown()` as Markdown.
    """

    def __str__(self) -> str:
        return self.as_text(text_table)

    def to_markdown(self) -> str:
        """The report as Markdown."""
        return self.as_text(markdown_table)

    def as_text(self, table: Callable) -> str:
        """The report, with tables by a function of rows of cells."""
        parts = [table(_shares(self.values())), LEGEND, table(_numbers(self.values()))]
        for path, report in self.items():
            found = report["problem_children"][:SHOWN_CHILDREN]
            many = report["remarkable_children"]
            title = (
                f"Problem children of {path}: {many:,} of {report['template_weights']:,} "
                f"members score above {REMARKABLE}"
            )
            parts.append(f"{title}." if not found else f"{title}; the most deviant are")
            if found:
                parts.append(table(_children(found)))
        return "\n\n".join(parts)


def _shares(reports: Any) -> list[list[str]]:
    rows = [["layer", "convolution", "within families", "off template"]]
    for report in reports:
        parts = list(report["energies"].values())
        whole = sum(parts)
        # An all-zero kernel is a convolution.
        shares = [part / whole for part in parts] if whole else [1.0, 0.0, 0.0]
        rows.append([report["layer"], *(f"{share:.2%}" for share in shares)])
    return rows


def _numbers(reports: Any) -> list[list[str]]:
    names = [
        "family_variance",
        "off_template_mass",
        "convolution_share",
        "weights",
        "distinct_weights",
        "zero_weights",
    ]
    rows = [["layer", *(name.replace("_", " ") for name in names)]]
    for report in reports:
        rows.append([report["layer"], *(readable(report[name]) for name in names)])
    return rows


def _children(found: list[dict]) -> list[list[str]]:
    rows = [["output", "tap", "value", "mean", "score"]]
    for child in found:
        numbers = [readable(child[name]) for name in ("value", "mean")]
        places = [str(child[name]) for name in ("position", "family")]
        rows.append([*places, *numbers, f"{child['score']:.1f}"])
    return rows


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
        takes, and print as tables.

    Raises:
        ValueError: for anything but a Keras layer, a model without SoftConv layers, layers
            that are not built, and a number of children that is negative.

    Example:
        >>> layer = keras_softconv.SoftConv2D(1, 2)
        >>> layer.build((None, 3, 3, 1))
        >>> report = keras_softconv.structure_report(layer)
        >>> report["weights"], report["zero_weights"], report["convolution_share"]
        (36, 20, 1.0)
    """
    if not isinstance(children, int) or isinstance(children, bool) or children < 0:
        raise ValueError(
            "`children` must be a whole number, 0 or more. Received: "
            f"children={children!r}. Give the number of problem children to list, say 100."
        )
    if isinstance(layer_or_model, BaseSoftConv):
        return _report(layer_or_model.name, layer_or_model, children)
    layers = soft_layers(layer_or_model) if isinstance(layer_or_model, keras.Layer) else {}
    if not layers:
        raise ValueError(
            "`structure_report` found no SoftConv layer. Expected one, or a Keras model "
            f"with at least one. Received: {layer_or_model!r}. Give a model with a "
            "SoftConv2D layer, or make one with `keras_softconv.soften`."
        )
    return StructureReport({p: _report(p, one, children) for p, one in layers.items()})


def _report(path: str, layer: BaseSoftConv, children: int) -> LayerReport:
    if not layer.built:
        raise ValueError(
            f"`structure_report` needs built layers. Received: '{path}', which is not. "
            "Call the model on an input, or `build(input_shape)`."
        )
    members = Members(layer)
    geometry = members.geometry
    numbers = {name: _as_float(x) for name, x in structure_numbers(layer, members).items()}
    parts = zip(("convolution", "family", "off_template"), energies(layer, members))
    found = scores(members)
    return LayerReport(
        layer=path,
        weights=geometry.size,
        template_weights=geometry.template_size,
        **numbers,
        energies={name: _as_float(part) for name, part in parts},
        **_counts(layer, members),
        families=_families(members),
        positions=_positions(layer, members),
        problem_children=problem_children(members, found, children),
        remarkable_children=int((found > REMARKABLE).sum()),
        bias_variance=_bias_variance(layer),
    )


def _as_float(tensor: Any) -> float:
    return float(ops.convert_to_numpy(tensor))


def _counts(layer: BaseSoftConv, members: Members) -> dict[str, int]:
    """Distinct and zero weights, without those that there are not."""
    deviations = in_full_precision(layer.deviations)
    off_template = ops.convert_to_numpy(members.sharing.off_template(deviations)).ravel()
    weights = ops.convert_to_numpy(members.weights).ravel()
    values = np.concatenate([part[part != 0] for part in (weights, off_template)])
    zeros = members.geometry.size - len(values)
    distinct = len(np.unique(values)) + (zeros > 0)
    return {"distinct_weights": int(distinct), "zero_weights": int(zeros)}


def _families(members: Members) -> list[dict]:
    shape = members.geometry.shared_kernel_shape
    means, variances = map(ops.convert_to_numpy, (members.means, members.variances))
    return [
        {
            "family": as_tuple(np.unravel_index(number, shape)),
            "mean": float(mean),
            "variance": float(variance),
            "size": int(size),
        }
        for number, (mean, variance, size) in enumerate(
            zip(means, variances, members.geometry.family_sizes, strict=True)
        )
    ]


def _positions(layer: BaseSoftConv, members: Members) -> list[dict]:
    deviations = in_full_precision(layer.deviations)
    within = ops.sum(ops.square(members.shades), axis=-1)
    off_template = members.sharing.off_template_by_position(SQUARE, deviations)
    within, off_template = map(ops.convert_to_numpy, (within, off_template))
    return [
        {
            "position": position,
            "deviation_energy": float(within[position]),
            "off_template_energy": float(off_template[position]),
        }
        for position in np.ndindex(within.shape)
    ]


def _bias_variance(layer: BaseSoftConv) -> float | None:
    if not layer.use_bias:
        return None
    deviations = ops.convert_to_numpy(in_full_precision(layer.bias_deviations))
    axes = tuple(range(deviations.ndim - 1))
    return float(deviations.astype("float64").var(axis=axes).mean())
