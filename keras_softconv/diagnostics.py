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
from keras_softconv.weight_sharing import ABSOLUTE, SQUARE, in_full_precision, total

Tensor = Any


def soft_layers(model: keras.Layer) -> dict[str, BaseSoftConv]:
    """Every SoftConv layer inside a model, built or not, by its path.

    Layers are found in nested models, in wrappers and in composite layers, and once
    however often they are used. A path is Keras's `layer.path`; where several
    layers have the same path, the later ones are numbered: `encoder/soft_1`.
    """
    found: dict[str, BaseSoftConv] = {}
    for layer in layers_within(model):
        if isinstance(layer, BaseSoftConv):
            path = unnumbered = layer.path or layer.name
            number = 0
            while path in found:
                number += 1
                path = f"{unnumbered}_{number}"
            found[path] = layer
    return found


def layers_within(
    layer: keras.Layer, seen: set[int] | None = None
) -> Iterator[keras.Layer]:
    """The layer and those below it, each once, in the order of their making."""
    seen = set() if seen is None else seen
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield layer
    for attribute in list(vars(layer).values()):
        for child in _elements(attribute):
            if isinstance(child, keras.Layer):
                yield from layers_within(child, seen)


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
    deviations = in_full_precision(layer.deviations)
    shared_kernel = ops.cast(layer.shared_kernel, deviations.dtype)
    weights = sharing.members(deviations) + sharing.copies(shared_kernel)
    _, off_template_mass = sharing.partition_sums(ABSOLUTE, deviations)
    mass = total(ops.absolute(weights)) + off_template_mass
    convolution, family, off_template = energies(layer)
    energy = convolution + family + off_template
    return {
        "family_variance": family / max(sharing.geometry.template_size, 1),
        "off_template_mass": share(off_template_mass, mass, of_nothing=0),
        "convolution_share": share(convolution, energy, of_nothing=1),
    }


def energies(layer: BaseSoftConv) -> tuple[Tensor, Tensor, Tensor]:
    """The three parts of the energy `||W||^2` of a layer's effective kernel.

    Returns:
        What the nearest convolution explains, what is left within the families, and what
        is off the template, as scalar tensors.
    """
    sharing = layer.weight_sharing
    deviations = in_full_precision(layer.deviations)
    # The shared kernel cancels; subtracting it last would leave only rounding errors
    # of families that are nearly tied.
    means_of_members = sharing.copies(sharing.project(deviations))
    shades = sharing.members(deviations) - means_of_members
    counts = sharing.geometry.member_counts[..., None, None]
    counts = ops.convert_to_tensor(counts, deviations.dtype)
    convolution = ops.sum(counts * ops.square(layer.family_means()))
    _, off_template = sharing.partition_sums(SQUARE, deviations)
    return convolution, total(ops.square(shades)), off_template


def share(part: Tensor, whole: Tensor, of_nothing: float) -> Tensor:
    """`part / whole`, and NaN where the weights are."""
    nothing = ops.equal(whole, 0)
    return ops.where(nothing, of_nothing, part / ops.where(nothing, 1, whole))
