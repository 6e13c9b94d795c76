"""The priors of a SoftConv layer: its ties, and its off-template weights."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from keras_softconv.compat import keras, name_of, ops
from keras_softconv.diagnostics import layers_within
from keras_softconv.evidence.curvature import Part
from keras_softconv.evidence.priors import Prior, strengths_in
from keras_softconv.layers import BaseSoftConv
from keras_softconv.penalties import bias_layout, tie_layout
from keras_softconv.regularizers import (
    DriftBasis,
    Layout,
    RidgeTerm,
    StructuredRegularizer,
    ridge_terms_of,
)

Tensor = Any
Shape = tuple[int, ...]


def check_ridges(path: str, layer: BaseSoftConv) -> None:
    """Raise `ValueError` for penalties that are not ridges."""
    for name in ("tie_regularizer", "off_template_regularizer"):
        regularizer = getattr(layer, name)
        if ridge_terms_of(regularizer) is None:
            raise ValueError(
                f"AdaptiveStrengths finds the strengths of ridges. Expected `{name}` of "
                f"layer '{path}' to be Keras's L2, FamilyStrengths of it, FusedTies of it, "
                f"SumOfPenalties of these, or None. Received: {regularizer!r}. Use "
                "`keras.regularizers.L2(1e-3)`, or compare strengths by "
                "`keras_softconv.regularization_path`."
            )


def priors_of(path: str, layer: BaseSoftConv) -> list[Prior]:
    """Of one layer, as far as its weights are penalised.

    Args:
        path: of the layer, for the names.
        layer: with ridges.
    """
    ties = layer.tie_regularizer, layer.tie_strength, _places_of_ties(layer)
    off_template = (
        layer.off_template_regularizer,
        layer.off_template_strength,
        [_place_off_template(layer)],
    )
    return _priors(path, layer, *ties) + _priors(path, layer, *off_template)


def free_weights(model: keras.Model, priors: list[Prior]) -> int:
    """How many trainable weights have no ridge.

    Ridges of deviations count whether or not their strengths are learned, those of all
    other weights only where they are.

    Args:
        model: all of whose weights count.
        priors: of the weights whose strengths are learned.
    """
    soft = [one for one in layers_within(model) if isinstance(one, BaseSoftConv)]
    learned = {id(part.variable) for prior in priors for part in prior.parts}
    elsewhere = {id(v) for layer in soft for v in layer.trainable_variables} | learned
    others = (v for v in model.trainable_variables if id(v) not in elsewhere)
    of_soft = (_free_weights(layer, learned) for layer in soft if layer.trainable)
    return sum(of_soft) + sum(prod(v.shape) for v in others)


def _free_weights(layer: BaseSoftConv, learned: set[int]) -> int:
    """How many weights of a SoftConv layer have no ridge.

    Args:
        layer: that is trained.
        learned: the identities of weights whose ridges are learned.
    """
    geometry = layer.weight_sharing.geometry
    free = sum(
        prod(shared.shape)
        for shared in (layer.shared_kernel, layer.shared_bias)
        if shared is not None and _is_free(shared) and id(shared) not in learned
    )
    outputs = prod(geometry.output_grid) * geometry.filters
    if layer.tie_regularizer is None:
        free += geometry.template_size + (outputs if layer.use_bias else 0)
    if layer.off_template_regularizer is None:
        free += geometry.size - geometry.template_size
    return free


def _is_free(weight: keras.Variable) -> bool:
    """Whether a shared kernel or bias can take the means of families."""
    return weight.trainable and getattr(weight, "constraint", None) is None


@dataclass(frozen=True)
class _Place:
    """Some weights of a layer, as its regularizer is given them.

    Args:
        name: of the place, which the names of strengths begin with.
        variable: where the weights are stored.
        penalized: linear; from the stored weights to the tensor for the regularizer.
        shape: of this tensor.
        layout: of this tensor; None off the template.
        family_sizes: how many members each family has; None off the template, and where
            the means of families are not left to a free kernel or bias.
    """

    name: str
    variable: keras.Variable
    penalized: Callable[[Tensor], Tensor]
    shape: Shape
    layout: Layout | None
    family_sizes: np.ndarray | None = None

    def without_means(self, weights: np.ndarray) -> np.ndarray:
        """Weights minus the mean of their family, which the shared kernel will take."""
        axes = self.layout.position_axes
        means = weights.sum(axis=axes) / np.maximum(self.family_sizes, 1)
        if self.layout.is_weight is None:
            return weights - means
        return weights - means * ops.convert_to_numpy(self.layout.is_weight())


def _places_of_ties(layer: BaseSoftConv) -> list[_Place]:
    sharing = layer.weight_sharing
    geometry = sharing.geometry
    grid = geometry.output_grid
    shape = (*grid, geometry.families)
    places = [
        _Place(
            "tie",
            layer.deviations,
            sharing.template,
            shape,
            tie_layout(sharing),
            geometry.family_sizes if _is_free(layer.shared_kernel) else None,
        )
    ]
    if layer.use_bias:
        shape = (*grid, geometry.filters)
        layout = bias_layout(sharing)
        variable = layer.bias_deviations
        sizes = (
            np.full(geometry.filters, prod(grid)) if _is_free(layer.shared_bias) else None
        )
        place = _Place("bias_tie", variable, ops.copy, shape, layout, sizes)
        places.append(place)
    return places


def _place_off_template(layer: BaseSoftConv) -> _Place:
    sharing = layer.weight_sharing
    shape = sharing.geometry.deviations_shape
    return _Place("off_template", layer.deviations, sharing.off_template, shape, None)


def _priors(
    path: str,
    layer: BaseSoftConv,
    regularizer: Callable | None,
    strength: keras.Variable,
    places: list[_Place],
) -> list[Prior]:
    """One for all places, or one for each where the regularizer has own strengths."""
    terms = ridge_terms_of(regularizer)
    if not terms:
        return []
    names = []
    if isinstance(regularizer, StructuredRegularizer):
        names = list(regularizer.state(places[0].shape[-1]))
    if not names:
        return [_prior(path, strength, terms, places)]
    (name,) = names
    weights = {name_of(weight): weight for weight in layer.weights}
    return [
        _prior(path, weights[f"{place.name}_{name}"], terms, [place], outer=strength)
        for place in places
    ]


def _prior(
    path: str,
    strength: keras.Variable,
    terms: list[RidgeTerm],
    places: list[_Place],
    outer: keras.Variable | None = None,
) -> Prior:
    """That of the weights at some places.

    Args:
        path: of the layer.
        strength: variable of the strengths.
        terms: of the regularizer.
        places: where the weights are.
        outer: a strength that multiplies these and is not learned, or None.
    """
    is_drift = any(term.of_differences for term in terms)
    found = [_part(place, is_drift) for place in places]
    eigenvalues = np.ones((len(terms), 1, 1))
    if is_drift:
        of_differences = np.concatenate([basis.eigenvalues for _, basis in found])
        # Means of families cost nothing, also of a ridge, if the shared kernel takes them.
        is_left = [
            (basis.eigenvalues == 0) & (place.family_sizes is not None)
            for place, (_, basis) in zip(places, found, strict=True)
        ]
        is_mean = np.concatenate(is_left)
        rows = [
            of_differences if term.of_differences else np.where(is_mean, 0.0, 1.0)
            for term in terms
        ]
        eigenvalues = np.stack(rows)[..., None]
    return Prior(
        strengths_in(f"{path}/{name_of(strength)}", strength),
        np.array([term.factor for term in terms]),
        eigenvalues,
        [part for part, _ in found],
        f"{path}/{places[0].name}_effective_weights",
        outer,
        1.0 if is_drift else _shares(places, strength),
    )


def _shares(places: list[_Place], strength: keras.Variable) -> np.ndarray | float:
    """See `Prior.shares`."""
    if all(place.family_sizes is None for place in places):
        return 1.0
    columns = prod(strength.shape)
    shares = []
    for place in places:
        sizes = place.family_sizes
        of_families = 1.0 if sizes is None else 1 - 1 / np.maximum(sizes, 1)
        shares.append(np.broadcast_to(of_families, place.shape).reshape(-1, columns))
    return np.concatenate(shares)


def _part(place: _Place, is_drift: bool) -> tuple[Part, DriftBasis | None]:
    """The numbers that a prior takes for independent, and the basis that they are of."""
    if not is_drift:
        without_means = None if place.family_sizes is None else place.without_means
        return Part(place.variable, place.penalized, without_means), None
    basis = DriftBasis(place.layout, place.shape)

    def coefficients(weights: Tensor) -> Tensor:
        return basis.coefficients(place.penalized(weights))

    return Part(place.variable, coefficients), basis
