"""How convolutional the layers of a model are, computed from their weights.

The energy of a dense kernel W splits into three parts (analysis of variance), with
m_f the mean and n_f the size of family f:

    ||W||^2 = sum_f n_f m_f^2 + sum_template (w - m_f)^2 + sum_off_template w^2
"""

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_softconv.layers import BaseSoftConv
from keras_softconv.weight_sharing import ABSOLUTE, SQUARE, total

Tensor = Any


def soft_layers(model: keras.Layer) -> dict[str, BaseSoftConv]:
    """Every SoftConv layer inside a model, built or not, by its path.

    Layers are found in nested models, in wrappers and in composite layers, and once
    however often they are used. A path is Keras's `layer.path`; where several
    layers have the same path, the later ones are numbered: `encoder/soft_1`.
    """
    found: dict[str, BaseSoftConv] = {}
    for layer in _walk(model, set()):
        if isinstance(layer, BaseSoftConv):
            path = unnumbered = layer.path or layer.name
            number = 0
            while path in found:
                number += 1
                path = f"{unnumbered}_{number}"
            found[path] = layer
    return found


def _walk(layer: keras.Layer, seen: set[int]) -> Iterator[keras.Layer]:
    """The layer and those below it, each once, in the order of their making."""
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield layer
    for attribute in list(vars(layer).values()):
        for child in _elements(attribute):
            if isinstance(child, keras.Layer):
                yield from _walk(child, seen)


def _elements(attribute: Any) -> list:
    if isinstance(attribute, dict):
        return list(attribute.values())
    return list(attribute) if isinstance(attribute, (list, tuple)) else [attribute]


def structure_numbers(layer: BaseSoftConv) -> dict[str, Tensor]:
    """The structure of one layer's effective kernel in three numbers.

        family_variance   = sum_template (w - m_f)^2 / (number of template entries)
        off_template_mass = sum_off_template |w| / sum |w|       (0 if all w are 0)
        convolution_share = sum_f n_f m_f^2 / ||W||^2            (1 if all w are 0)

    The dense kernel is never built: the sums are taken over the deviations, on the
    device, in float32 or better.

    Args:
        layer: a built SoftConv layer.

    Returns:
        Dict of scalar tensors.
    """
    sharing = layer.weight_sharing
    means = layer.family_means()
    shared_kernel = ops.cast(layer.shared_kernel, means.dtype)
    deviations = ops.cast(layer.deviations, means.dtype)
    members = sharing.members(deviations)
    # The shared kernel cancels; subtracting it last would leave only rounding errors
    # of families that are nearly tied.
    shades = members - sharing.copies(sharing.project(deviations))
    weights = members + sharing.copies(shared_kernel)
    _, off_template_mass = sharing.partition_sums(ABSOLUTE, deviations)
    _, off_template_energy = sharing.partition_sums(SQUARE, deviations)

    counts = sharing.geometry.member_counts[..., None, None]
    counts = ops.convert_to_tensor(counts, means.dtype)
    convolution_energy = ops.sum(counts * ops.square(means))
    family_energy = total(ops.square(shades))
    energy = convolution_energy + family_energy + off_template_energy
    mass = total(ops.absolute(weights)) + off_template_mass
    return {
        "family_variance": family_energy / max(sharing.geometry.template_size, 1),
        "off_template_mass": _share(off_template_mass, mass, of_nothing=0),
        "convolution_share": _share(convolution_energy, energy, of_nothing=1),
    }


def _share(part: Tensor, whole: Tensor, of_nothing: float) -> Tensor:
    """`part / whole`, and NaN where the weights are."""
    nothing = ops.equal(whole, 0)
    return ops.where(nothing, of_nothing, part / ops.where(nothing, 1, whole))
