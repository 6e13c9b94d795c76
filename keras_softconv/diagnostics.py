"""How convolutional the layers of a model are, computed from their weights.

The energy of a dense kernel W splits into three parts (analysis of variance), with
m_f the mean and n_f the size of family f:

    ||W||^2 = sum_f n_f m_f^2 + sum_template (w - m_f)^2 + sum_off_template w^2
"""

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_softconv.geometry import VOID
from keras_softconv.layers import BaseSoftConv

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
    by_tap = (*sharing.geometry.inputs.shape, -1)  # (positions, taps, the rest)
    is_member = sharing.geometry.inputs[:, :, None] != VOID
    means = ops.reshape(layer.family_means(), by_tap[1:])
    deviations = ops.cast(layer.deviations, means.dtype)
    weights = ops.reshape(ops.cast(layer.shared_kernel, means.dtype), by_tap[1:])
    weights = weights + ops.reshape(sharing.template(deviations), by_tap)
    weights = ops.where(is_member, weights, 0)
    shades = ops.where(is_member, weights - means, 0)
    _, off_template_mass = sharing.partition_sums(ops.absolute, deviations)
    _, off_template_energy = sharing.partition_sums(ops.square, deviations)

    convolution_energy = ops.sum(sharing.member_counts * ops.square(means))
    family_energy = ops.sum(ops.square(shades))
    energy = convolution_energy + family_energy + off_template_energy
    mass = ops.sum(ops.absolute(weights)) + off_template_mass
    return {
        "family_variance": family_energy / max(sharing.template_size, 1),
        "off_template_mass": ops.divide_no_nan(off_template_mass, mass),
        "convolution_share": ops.where(
            energy > 0, ops.divide_no_nan(convolution_energy, energy), 1
        ),
    }
