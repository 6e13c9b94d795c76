"""All that a report says of one layer, as plain Python data."""

from typing import Any

import numpy as np

from keras_softconv.compat import ops
from keras_softconv.diagnostics.problem_children import (
    REMARKABLE,
    as_tuple,
    problem_children,
    scores,
)
from keras_softconv.diagnostics.structure import Members, energies, structure_numbers
from keras_softconv.layers import BaseSoftConv
from keras_softconv.weight_sharing import SQUARE, in_full_precision

PARTS = ("convolution", "family", "off_template")


def layer_numbers(path: str, layer: BaseSoftConv, children: int) -> dict[str, Any]:
    """What `LayerReport` documents.

    Args:
        path: of the layer.
        layer: a SoftConv layer.
        children: how many problem children to list, at most.
    """
    members = Members(layer)
    geometry = members.geometry
    numbers = {name: _as_float(x) for name, x in structure_numbers(layer, members).items()}
    found = scores(members)
    return dict(
        layer=path,
        weights=geometry.size,
        template_weights=geometry.template_size,
        **numbers,
        energies=dict(zip(PARTS, map(_as_float, energies(layer, members)), strict=True)),
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
    zeros = max(members.geometry.size - len(values), 0)  # void slots can be NaN
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
