"""A whole model with soft convolutions for its convolutions, and back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from keras_softconv.arguments import WrongSize, wrong_size_behind
from keras_softconv.compat import keras
from keras_softconv.conversion.checks import (
    check_convertible,
    check_kernel,
    check_predicate,
    check_soft_arguments,
)
from keras_softconv.conversion.copies import carry_state, unbuilt_copy_of
from keras_softconv.conversion.lambdas import named_lambdas
from keras_softconv.conversion.of_layers import (
    CONV_OF,
    SOFT_OF,
    Copy,
    carry_to_conv,
    carry_to_soft,
    conv_like,
    soft_like,
)
from keras_softconv.diagnostics import functional_class, layers_within

Predicate = Callable[[keras.Layer], bool]
Replace = Callable[[keras.Layer, Copy], keras.Layer]
Carry = Callable[[keras.Layer, keras.Layer], None]


def soften(
    model: keras.Model, predicate: Predicate | None = None, **soft_arguments: Any
) -> keras.Model:
    """A copy of a model in which soft convolutions stand for its convolutions.

    The copy predicts what the model predicts; its weights are its own. Names stay, layers
    that were shared are shared, in nested models and within `TimeDistributed` too. Other
    composite layers, subclassed models among them, are copied with all they hold. A
    compiled model gives a compiled copy, with an optimizer that has yet to make its first
    step, as by `keras.models.clone_model`. Lambda functions are the same in the copy.

    Args:
        model: a built Sequential or functional model. It is not changed.
        predicate: asked for every `Conv1D`, `Conv2D` and `Conv3D` whether to soften it;
            None softens all. Call `soften` again to treat others differently.
        **soft_arguments: of `from_conv`.

    Returns:
        A model.

    Raises:
        ValueError: for a subclassed or unbuilt model, one without a convolution that the
            predicate chooses, a chosen one that cannot be converted, inputs of unknown
            size or of several sizes for one convolution, what Keras cannot copy, or other
            arguments.

    Examples:
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3)])
        >>> soft = keras_softconv.soften(model, halo=1)
        >>> [type(layer).__name__ for layer in soft.layers]
        ['SoftConv2D']
    """
    check_soft_arguments(soft_arguments)
    return _converted(
        model,
        SOFT_OF,
        predicate,
        lambda conv, copy: soft_like(conv, soft_arguments, copy),
        carry_to_soft,
    )


def harden(
    model: keras.Model, predicate: Predicate | None = None, kernel: str = "family_means"
) -> keras.Model:
    """A copy of a model in which the nearest convolutions stand for its soft ones.

    `harden(soften(model))` is `model` again, layer by layer and weight by weight. What
    each convolution lacks is told by its attribute `dropped_energy`, see `to_conv`.

    Args:
        model: a built Sequential or functional model. It is not changed.
        predicate: asked for every SoftConv layer whether to harden it; None hardens all.
        kernel: as in `to_conv`.

    Returns:
        A model of Keras's own layers, as far as `model` has been one.

    Raises:
        ValueError: for a subclassed or unbuilt model, one without a SoftConv layer that
            the predicate chooses, a chosen one that cannot be converted, what Keras
            cannot copy, or another `kernel`.
    """
    check_kernel(kernel)
    return _converted(
        model,
        CONV_OF,
        predicate,
        conv_like,
        lambda soft, conv: carry_to_conv(soft, conv, kernel),
    )


def _converted(
    model: keras.Model,
    kinds: dict[type, type],
    predicate: Predicate | None,
    replace: Replace,
    carry: Carry,
) -> keras.Model:
    _check_model(model)
    check_predicate(predicate)
    cloning = _Cloning(kinds, predicate, replace)
    with _copying(model):
        clone = cloning.clone(model)
    if not cloning.replaced:
        raise ValueError(
            f"Found no layer to convert in model '{model.name}'. Expected at least one "
            f"{' or '.join(kind.__name__ for kind in kinds)}"
            f"{' that `predicate` chooses' if predicate else ''}. Received the layers "
            f"{[layer.name for layer in model.layers]}. Layers within a subclassed layer "
            "or model are not looked for: convert them by `from_conv` and `to_conv`."
        )
    cloning.finish(carry)
    if getattr(model, "optimizer", None):
        with _copying(model):  # anew, now that it is known which weights are frozen
            clone.compile_from_config(model.get_compile_config())
    return clone


@contextmanager
def _copying(model: keras.Model) -> Iterator[None]:
    """Say what to do about it if Keras cannot."""
    try:
        with named_lambdas(model):
            yield
    except (TypeError, NotImplementedError) as error:
        raise _not_copied(model, error) from error
    except ValueError as error:
        behind = wrong_size_behind(error)
        if behind is not None:
            raise _not_one_size(model, *behind) from error
        if "safe_mode" in str(error):
            raise _not_copied(model, error) from error
        raise


def _not_copied(model: keras.Model, error: Exception) -> ValueError:
    return ValueError(
        f"Keras cannot copy model '{model.name}': {error} Register your classes and "
        "functions by `keras.saving.register_keras_serializable`; if only `compile` "
        "was given such, convert the model before it is compiled."
    )


def _not_one_size(model: keras.Model, wrong: WrongSize, message: str) -> ValueError:
    name = wrong.layer.name
    sizes = f"of different sizes, shapes {wrong.expected} and {wrong.found}"
    if wrong.expected is None:
        sizes = f"of unknown size, shape {wrong.found}"
    return ValueError(
        f"Cannot soften convolution '{name}' of model '{model.name}', which is called on "
        f"feature maps {sizes}. A soft convolution has weights for every position, so it "
        "takes inputs of one size. Leave this one as it is by `predicate=lambda layer: "
        f"layer.name != '{name}'`. The layer's own error: {message}"
    )


class _Cloning:
    """Which layer of a model became which layer of its clone.

    Args:
        kinds: classes of the layers that may be replaced.
        predicate: which of them are; None for all.
        replace: makes the unbuilt layer that stands for one.
    """

    def __init__(
        self, kinds: dict[type, type], predicate: Predicate | None, replace: Replace
    ) -> None:
        self._kinds = kinds
        self._predicate = predicate
        self._replace = replace
        self._clones: dict[int, tuple[keras.Layer, keras.Layer]] = {}
        self.replaced: set[int] = set()

    def clone(self, layer: keras.Layer) -> keras.Layer:
        """The clone of a layer or model, the same one each time."""
        if id(layer) not in self._clones:
            self._clones[id(layer)] = layer, self._new_clone(layer)
        return self._clones[id(layer)][1]

    def _new_clone(self, layer: keras.Layer) -> keras.Layer:
        if _is_graph(layer):
            inputs = None if isinstance(layer, keras.Sequential) else _new_inputs(layer)
            return keras.models.clone_model(layer, inputs, clone_function=self.clone)
        if _is_time_distributed(layer):
            config = layer.get_config()
            return type(layer)(**config | {"layer": self.clone(layer.layer)})
        if not isinstance(layer, tuple(self._kinds)):
            return unbuilt_copy_of(layer)
        if self._predicate is not None and not self._predicate(layer):
            return unbuilt_copy_of(layer)
        check_convertible(layer, self._kinds)
        self.replaced.add(id(layer))
        return self._replace(layer, self.clone)

    def finish(self, carry: Carry) -> None:
        """Carry over weights and what is trainable, once the clones are built."""
        pairs = [pair for pair in self._clones.values() if isinstance(pair[0], keras.Layer)]
        whole = [pair for pair in pairs if self._is_copied_whole(pair[0])]
        self._check_shared([layer for layer, _ in whole])
        for layer, clone in reversed(pairs):  # outer models first: they pass it on
            clone.trainable = layer.trainable
        for layer, clone in whole:
            carry_state(layer, clone)
        for layer, clone in pairs:
            if id(layer) in self.replaced:
                carry(layer, clone)

    def _is_copied_whole(self, layer: keras.Layer) -> bool:
        is_replaced = id(layer) in self.replaced
        return not (is_replaced or _is_graph(layer) or _is_time_distributed(layer))

    def _check_shared(self, whole: list[keras.Layer]) -> None:
        """Raise `ValueError` if a layer that is copied whole holds one of another."""
        seen = set(self._clones)
        for layer in whole:
            for inner in list(layers_within(layer))[1:]:
                if id(inner) in seen:
                    raise ValueError(
                        f"Layer '{inner.name}' is used within {type(layer).__name__} "
                        f"'{layer.name}', which is copied whole, and elsewhere in the "
                        "model too. Its copies would not share their weights. Use each "
                        "layer in one place, or convert by `from_conv` and `to_conv`."
                    )
                seen.add(id(inner))


def _new_inputs(model: keras.Model) -> Any:
    """Inputs like a functional model's; those that `clone_model` makes lose their names."""
    layers = (layer for layer in model.layers if isinstance(layer, keras.layers.InputLayer))
    new = {id(layer.output): unbuilt_copy_of(layer).output for layer in layers}
    return keras.tree.map_structure(lambda tensor: new[id(tensor)], model.input)


def _is_graph(layer: Any) -> bool:
    """Whether `clone_model` can go through a model layer by layer, and nothing is lost.

    A subclass may compute or train otherwise, which a clone would not.
    """
    return type(layer) in (keras.Sequential, functional_class())


def _is_time_distributed(layer: Any) -> bool:
    return type(layer) is keras.layers.TimeDistributed


def _check_model(model: Any) -> None:
    if not _is_graph(model) or not model.built:
        title = f"{type(model).__name__} '{getattr(model, 'name', model)}'"
        raise ValueError(
            "Expected a Sequential or functional model that is built, not a subclass, "
            f"whose own `call` or `train_step` would be lost. Received: {title}. Begin a "
            "Sequential model with `keras.Input(shape)`, or call it on an input. Of a "
            "subclass that has `inputs` and `outputs` convert `keras.Model(model.inputs, "
            "model.outputs)`; in any other convert the layers by `from_conv` and `to_conv`."
        )
