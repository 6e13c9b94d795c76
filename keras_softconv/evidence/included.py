"""The ridges that Keras knows of, with factors that can be learned."""

import warnings
from typing import Any

import numpy as np

from keras_softconv.compat import (
    carry_through_training,
    keras,
    name_of,
    ops,
    regularizer_of,
    type_of_losses,
)
from keras_softconv.diagnostics import layers_by_path, layers_within
from keras_softconv.evidence.curvature import Part
from keras_softconv.evidence.priors import Prior, Strengths
from keras_softconv.regularizers import ridge_terms_of

Tensor = Any
ALL = ("all",)


class MovableRidge(keras.Regularizer):
    """`strength * factor * sum(w^2)`, with a strength that a compiled step reads.

    It takes the place of Keras's `L2` as the regularizer of a weight, not of the layer: the
    config of the layer has an `L2` with the factor of the moment.
    """

    def __init__(self, factor: float, strength: keras.Variable) -> None:
        self.factor, self.strength = factor, strength

    def __call__(self, weight: Tensor) -> Tensor:
        dtype = type_of_losses(weight.dtype)
        strength = ops.cast(ops.convert_to_tensor(self.strength), dtype)
        return strength * self.factor * ops.sum(ops.square(ops.cast(weight, dtype)))


def included_priors(model: keras.Model, names: tuple[str, ...] | None) -> list[Prior]:
    """Priors of the ridges of some layers, which from now on can be moved.

    These are the `L2` regularizers of weights. Ties and off-template weights have priors
    from `priors_of`; of a SoftConv layer the shared kernel and biases can be included. They
    still take the means of families, which as means of n deviations of the same prior would
    cost n times as much.

    The training step is compiled again where a ridge becomes movable. A warning says so if
    the config of a layer cannot have the factor that will be found.

    Args:
        model: compiled.
        names: paths or names of layers, `("all",)`, or None for none.

    Raises:
        ValueError: for a name that no layer has, and layers that have no `L2` regularizer
            of their own weights.
    """
    if names is None:
        return []
    priors, is_new = [], False
    for path, layer in _chosen(model, names).items():
        for variable in _ridged(layer):
            if not isinstance(variable.regularizer, MovableRidge):
                is_new = True
                _warn_if_forgotten(model, path, layer, variable)
            priors.append(_prior(path, layer, variable))
    if is_new:
        model.make_train_function(force=True)
        model.make_test_function(force=True)
    return priors


def _chosen(model: keras.Model, names: tuple[str, ...]) -> dict[str, keras.Layer]:
    """Layers with ridges by path; those that are frozen are left out."""
    with_ridges = layers_by_path(model, lambda one: bool(_ridged(one)))
    known = f"Layers with an L2 regularizer: {list(with_ridges) or 'none'}."
    chosen = with_ridges if names == ALL else {}
    for wanted in () if names == ALL else names:
        found = {p: one for p, one in with_ridges.items() if wanted in (p, one.name)}
        if not found:
            raise ValueError(
                f"AdaptiveStrengths cannot include layer '{wanted}'. Expected a path or "
                "name of a layer with an L2 regularizer of its kernel or bias; ties and "
                f"off-template weights are learned without. {known} Make the layer with "
                "`kernel_regularizer=keras.regularizers.L2(1e-3)`, or correct `include`."
            )
        chosen |= found
    if not chosen:
        raise ValueError(
            f"AdaptiveStrengths found no layer to include. {known} Make layers with "
            "`kernel_regularizer=keras.regularizers.L2(1e-3)`, or leave `include` out."
        )
    return {path: layer for path, layer in chosen.items() if layer.trainable}


def _ridged(layer: keras.Layer) -> list[keras.Variable]:
    """Weights of a layer, but not of layers within it, that have a ridge."""
    inner = list(layers_within(layer))[1:]
    of_inner = {id(weight) for one in inner for weight in one.trainable_weights}
    own = (weight for weight in layer.trainable_weights if id(weight) not in of_inner)
    return [weight for weight in own if _is_ridge(regularizer_of(weight))]


def _is_ridge(regularizer: Any) -> bool:
    return isinstance(regularizer, MovableRidge) or bool(ridge_terms_of(regularizer))


def _prior(path: str, layer: keras.Layer, variable: keras.Variable) -> Prior:
    """That of one weight, whose regularizer becomes a movable one."""
    ridge = variable.regularizer
    argument = _argument_of(layer, variable)
    if not isinstance(ridge, MovableRidge):
        (term,) = ridge_terms_of(ridge)
        strength = keras.Variable(1.0, trainable=False, dtype="float32", name="strength")
        carry_through_training(layer, strength)
        ridge = MovableRidge(term.factor, strength)
        variable.regularizer = ridge
    name = name_of(variable)

    def read() -> np.ndarray:
        return ops.convert_to_numpy(ridge.strength).astype("float64")

    def write(strength: np.ndarray) -> None:
        ridge.strength.assign(strength)
        if argument is not None:  # So that the config of the layer has it.
            learned = keras.regularizers.L2(ridge.factor * float(strength))
            setattr(layer, argument, learned)

    return Prior(
        Strengths(f"{path}/{name}_strength", (), read, write),
        np.array([ridge.factor]),
        np.ones((1, 1, 1)),
        [Part(variable, ops.copy)],
        f"{path}/{name}_effective_weights",
    )


def _argument_of(layer: keras.Layer, variable: keras.Variable) -> str | None:
    """Under which name a layer has the regularizer of a weight.

    It is `kernel_regularizer` for `kernel` and `shared_kernel`, `depthwise_regularizer` for
    the `kernel` of a DepthwiseConv2D or the `depthwise_kernel` of a SeparableConv2D.
    """
    name = name_of(variable).removeprefix("shared_")
    stems = [name, name.removesuffix("_kernel")]
    if name == "kernel":
        stems += ["depthwise"]
    arguments = (f"{stem}_regularizer" for stem in stems)
    return next((one for one in arguments if getattr(layer, one, None)), None)


def _warn_if_forgotten(
    model: keras.Model, path: str, layer: keras.Layer, variable: keras.Variable
) -> None:
    """Warn where no config will have the factor that is learned.

    Layers such as MultiHeadAttention make layers of their own from one regularizer.
    """
    makers = (
        one
        for one in layers_within(model)
        if not isinstance(one, keras.Model)
        and any(within is layer for within in list(layers_within(one))[1:])
    )
    is_made = any(
        name.endswith("kernel_regularizer") and value is not None
        for maker in makers
        for name, value in vars(maker).items()
    )
    if is_made or _argument_of(layer, variable) is None:
        warnings.warn(
            f"AdaptiveStrengths learns the ridge of '{name_of(variable)}' of layer "
            f"'{path}', but the config of the layer cannot have the factor that is found: "
            "a model that is saved and loaded has the old one. Name other layers in "
            "`include`, or note the factor from `history`.",
            stacklevel=6,
        )
