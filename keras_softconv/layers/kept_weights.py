"""Deviations that were found to be zero, and are kept there."""

import warnings
from typing import Any

from keras_softconv.compat import keras, ops
from keras_softconv.penalties import Reading

Tensor = Any


class KeptWeights(keras.constraints.Constraint):
    """A constraint that holds some weights at zero.

    Args:
        mask: variable of the weights' shape, 1 where a weight is free and 0 where it is
            held at zero. A compiled update that is given neither the mask nor a forward
            pass takes it for a constant: after `freeze_structure` compile it again.
    """

    def __init__(self, mask: keras.Variable) -> None:
        self.mask = Reading(mask, may_change=False)

    def __call__(self, weights: Tensor) -> Tensor:
        return self.without_held(weights, self.mask.last())

    def without_held(self, weights: Tensor, mask: Tensor) -> Tensor:
        """The weights with zeros where the mask holds them."""
        weights = ops.convert_to_tensor(weights)  # from a variable, maybe
        return ops.where(ops.cast(mask, "bool"), weights, ops.zeros_like(weights))


class KeepsZeros:
    """What a SoftConv layer does to keep zeros and ties that were found."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._is_frozen = False  # its weights include the masks, once it is built
        self.deviation_mask = None
        self.bias_deviation_mask = None

    def freeze_structure(self) -> None:
        """Keep zeros and ties as they are, and retrain the rest without shrinkage.

        Deviations that are exactly zero now stay so, whatever the optimizer: off the
        template weights that are not there, on it ties to the shared kernel. (Shades that
        `PairwiseL1` has made equal at another value are not held together.) The strengths
        are set to 0. Which weights are kept is saved with the layer, in
        `deviation_mask` and `bias_deviation_mask`, 1 where a deviation is free. Compile the
        model again before it is trained on, as after loading such weights into a model
        that was trained; `keras_softconv.freeze_structure(model)` sees to that. Configs of
        the layer say that its structure is frozen, so that copies have the masks, too.
        """
        self._check_built("freeze_structure()")
        self._add_masks()
        for deviations, mask in self._masked():
            mask.assign(ops.not_equal(deviations, 0))
        if bool(ops.all(ops.not_equal(self.deviations, 0))):
            warnings.warn(
                f"Layer '{self.name}' has no deviation that is exactly zero, so that there "
                "is nothing to keep, and its penalties are dropped all the same. Train "
                "with ProximalAdam and a lasso or group penalty until zeros appear.",
                stacklevel=2,
            )
        self.tie_strength.assign(0.0)
        self.off_template_strength.assign(0.0)

    def _add_masks(self) -> None:
        """Make the masks, in which every weight is free, and the constraints with them."""
        if self.deviation_mask is not None:
            return
        was_locked = self._tracker.locked  # a layer that is being built is not
        self._tracker.unlock()  # as Keras's own `enable_lora` does
        self._is_frozen = True
        self.deviation_mask = self._add_mask("deviation_mask", self.deviations)
        if self.use_bias:
            self.bias_deviation_mask = self._add_mask(
                "bias_deviation_mask", self.bias_deviations
            )
        if was_locked:
            self._tracker.lock()
        for deviations, mask in self._masked():
            deviations.constraint = KeptWeights(mask)

    def _add_mask(self, name: str, deviations: keras.Variable) -> keras.Variable:
        options = {"dtype": "uint8", "trainable": False}
        return self._add_weight(name, deviations.shape, "ones", **options)

    def _masked(self) -> list[tuple[keras.Variable, keras.Variable]]:
        """Deviations with their masks, if there are any."""
        pairs = (
            (self.deviations, self.deviation_mask),
            (self.bias_deviations, self.bias_deviation_mask),
        )
        return [pair for pair in pairs if pair[1] is not None]

    def _held(self, deviations: keras.Variable) -> Tensor:
        """The deviations, without a gradient where they are held at zero.

        Not left to the constraint alone: averages (`use_ema`) are taken before it.
        """
        constraint = deviations.constraint
        if not isinstance(constraint, KeptWeights):
            return deviations
        return constraint.without_held(deviations, constraint.mask.now())

    # Saving.

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        if self._is_frozen:
            config["is_frozen"] = True
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> keras.Layer:
        config = dict(config)
        is_frozen = config.pop("is_frozen", False)
        layer = super().from_config(config)
        layer._is_frozen = is_frozen
        return layer

    def get_build_config(self) -> dict[str, Any] | None:
        config = super().get_build_config()
        if config is not None and self.deviation_mask is not None:
            config["is_frozen"] = True
        return config

    def build_from_config(self, config: dict[str, Any]) -> None:
        super().build_from_config(config)
        if config.get("is_frozen"):
            self._add_masks()

    def load_own_variables(self, store: Any) -> None:
        own = len(self._trainable_variables + self._non_trainable_variables)
        is_unfrozen = self.built and self.deviation_mask is None
        has_more = len(store.keys()) == own + 1 + int(self.use_bias)
        if is_unfrozen and has_more:
            # The masks of a layer whose structure was frozen come last.
            shape = store[str(own)].shape
            if tuple(shape) == tuple(self.deviations.shape):
                self._add_masks()
        super().load_own_variables(store)
