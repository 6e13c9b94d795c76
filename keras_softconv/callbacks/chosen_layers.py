"""The layers of a model whose strengths a callback moves."""

from keras_softconv.compat import keras
from keras_softconv.diagnostics import soft_layers
from keras_softconv.layers import BaseSoftConv


def chosen_layers(
    model: keras.Model, names: tuple[str, ...] | None, of: object
) -> dict[str, BaseSoftConv]:
    """Built SoftConv layers by path, those that are named or all.

    Args:
        model: where they are.
        names: paths, as `soft_layers` has them, or names; None for all.
        of: the callback, for the messages.

    Raises:
        ValueError: for a model without SoftConv layers, a name that none has, and layers
            that are not built.
    """
    layers = soft_layers(model)
    known = f"SoftConv layers of model '{model.name}': {list(layers) or 'none'}."
    chosen = {}
    for wanted in layers if names is None else names:
        found = {p: one for p, one in layers.items() if wanted in (p, one.name)}
        if not found:
            raise ValueError(
                f"{type(of).__name__} found no SoftConv layer '{wanted}'. Expected a path "
                f"or name among the {known} Correct `layers`."
            )
        chosen |= found
    if not chosen:
        raise ValueError(
            f"{type(of).__name__} moves the strengths of SoftConv layers. {known} Add a "
            "SoftConv2D layer, or leave the callback out."
        )
    unbuilt = [path for path, layer in chosen.items() if not layer.built]
    if unbuilt:
        raise ValueError(
            f"{type(of).__name__} needs built layers. Not built: {unbuilt}. Begin the "
            "model with `keras.Input`, or call `model.build(input_shape)`."
        )
    return chosen


def standardize_layers(
    layers: str | list[str] | None, argument: str = "layers"
) -> tuple[str, ...] | None:
    """One name or several, as a tuple; None stays."""
    names = (layers,) if isinstance(layers, str) else layers
    if names is None:
        return None
    are_names = isinstance(names, (list, tuple)) and all(isinstance(n, str) for n in names)
    if not are_names or not names:
        raise ValueError(
            f"`{argument}` must be a name or path of a layer, a list of them, or None. "
            f"Received: {argument}={layers!r}. Give names such as 'soft'."
        )
    return tuple(names)
