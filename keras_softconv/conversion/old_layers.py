"""Layers that load what Keras 2 saved with its locally connected layers.

Until its weights are loaded such a layer looks, to Keras, like the layer that was saved: it
has the same name, arguments and weights. The moment that the last weight is there, the
layer becomes a plain SoftConv layer.
"""

import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from keras_softconv.arguments import is_integer
from keras_softconv.compat import keras, ops
from keras_softconv.conversion.checks import check_old_weights
from keras_softconv.conversion.locally_connected import (
    BASE_ARGUMENTS,
    OLD_ARGUMENTS,
    SHAPE_ARGUMENTS,
    OldLayout,
    standardize_old_padding,
)
from keras_softconv.layers import BaseSoftConv, SoftConv1D, SoftConv2D
from keras_softconv.weight_sharing import in_full_precision

Shape = tuple[int, ...]

# With these the penalty of the kernel becomes a penalty of its deviations.
RIDGE_AND_LASSO = (
    keras.regularizers.L1,
    keras.regularizers.L2,
    keras.regularizers.L1L2,
)


class OldLocallyConnected:
    """What both ranks share; a subclass is also a SoftConv layer, and names its class.

    A regularizer that is L1, L2 or both becomes the `tie_regularizer`. Other regularizers
    and the constraints acted on the weights of every position, where a SoftConv layer has
    none: they are left out, with a warning.
    """

    soft: type[BaseSoftConv]

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        activation: str | Callable | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        implementation: int = 1,
        **kwargs: Any,
    ) -> None:
        ties = keras.regularizers.get(kernel_regularizer)
        left_out = {
            "kernel_regularizer": None if isinstance(ties, RIDGE_AND_LASSO) else ties,
            "bias_regularizer": bias_regularizer,
            "kernel_constraint": kernel_constraint,
            "bias_constraint": bias_constraint,
        }
        if isinstance(ties, RIDGE_AND_LASSO):
            kwargs["tie_regularizer"] = ties
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding,
            data_format,
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            activity_regularizer=activity_regularizer,
            halo=0,
            **kwargs,
        )
        self.implementation = implementation
        self._check_old_arguments()
        self._warn_of([name for name, value in left_out.items() if value is not None])
        self._is_restored = True  # perhaps to predict only
        # The weights of the file, in a namespace so that Keras does not track them.
        self._awaited = SimpleNamespace(weights=[])

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> BaseSoftConv:
        arguments = {k: v for k, v in config.items() if k not in SHAPE_ARGUMENTS}
        dtype = arguments.get("dtype")
        if isinstance(dtype, dict) and dtype.get("class_name") == "Policy":
            arguments["dtype"] = dtype["config"]["name"]
        return cls(**arguments)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config() | {"implementation": self.implementation}
        config["kernel_regularizer"] = config["tie_regularizer"]
        return {name: config[name] for name in BASE_ARGUMENTS + OLD_ARGUMENTS}

    def _padding_for(self, input_grid: Shape) -> Any:
        return standardize_old_padding(
            self.padding, input_grid, self.kernel_size, self.strides
        )

    def _check_old_arguments(self) -> None:
        if not is_integer(self.implementation) or self.implementation not in (1, 2, 3):
            raise ValueError(
                "`implementation` must be 1, 2 or 3, the ways in which a locally connected "
                f"layer keeps its weights. Received: implementation={self.implementation!r}"
                f" in layer '{self.name}'. Take it from the config of the layer that was "
                "saved; if that has none, it is 1."
            )
        paddings = ("valid",) if self.implementation == 1 else ("valid", "same")
        if self.padding not in paddings:
            raise ValueError(
                f"A locally connected layer with implementation={self.implementation} has "
                f"`padding` in {paddings}. Received: padding={self.padding!r} in layer "
                f"'{self.name}'. Take it from the config of the layer that was saved. "
                "For another padding make a new SoftConv layer."
            )

    def _warn_of(self, left_out: list[str]) -> None:
        if left_out:
            warnings.warn(
                f"Layer '{self.name}' is loaded without {', '.join(left_out)}: in a "
                "locally connected layer these act on the weights of every position, in a "
                "SoftConv layer on the shared weights. Its predictions are the same. "
                "Before you train it, choose ties by `layer.tie_strength.assign(...)`.",
                stacklevel=4,
            )

    # The weights of the file.

    @property
    def weights(self) -> list[Any]:
        """The weights that the file has for this layer, until they are there."""
        if self.built and not self._awaited.weights:
            names = ("kernel", "bias")[: 1 + self.use_bias]
            self._awaited.weights = [
                AwaitedWeight(name, shape, self)
                for name, shape in zip(names, self._layout.shapes, strict=True)
            ]
        return list(self._awaited.weights)

    @property
    def _layout(self) -> OldLayout:
        return OldLayout(
            self.weight_sharing.geometry,
            self.implementation,
            self.data_format,
            self.use_bias,
        )

    def load_own_variables(self, store: Any) -> None:
        """Load the weights of an old `.keras` or `.weights.h5` file.

        A layer that was saved before it had loaded any has the weights of a SoftConv layer.
        """
        count = 1 + int(self.use_bias)
        if self.built and len(store.keys()) == count:
            self.load_old_weights([np.asarray(store[f"{n}"]) for n in range(count)])
        else:
            super().load_own_variables(store)
            self._become_soft()

    def load_assigned(self) -> None:
        """Load the weights of an old `.h5` file if all of them have been assigned."""
        weights = self._awaited.weights
        if all(weight.is_loaded for weight in weights):
            self.load_old_weights([weight.value for weight in weights])

    def load_old_weights(self, weights: list[np.ndarray]) -> None:
        """Compute what a locally connected layer computes, and become a SoftConv layer.

        The shared weights are the family means, the deviations are the rest, and the
        strengths are 0.

        Args:
            weights: kernel and bias as the old layer kept them.

        Raises:
            ValueError: if their shapes are not those of the old layer.
        """
        layout, sharing = self._layout, self.weight_sharing
        check_old_weights(weights, layout.shapes, self._title)
        families = (*sharing.geometry.output_grid, sharing.geometry.families)
        template = layout.template(weights[0]).reshape(families)
        template = in_full_precision(ops.convert_to_tensor(template))
        means = sharing.means(template)
        differences = template - ops.reshape(means, (-1,))
        differences = ops.where(sharing.is_member(), differences, 0)
        nothing = ops.zeros(self.deviations.shape, differences.dtype)
        self._assign(self.shared_kernel, means)
        self._assign(self.deviations, sharing.with_template(nothing, differences))
        if self.use_bias:
            biases = layout.biases(weights[1]).astype("float64")
            means = biases.mean(axis=tuple(range(self.rank)))
            self._assign(self.shared_bias, means)
            self._assign(self.bias_deviations, biases - means)
        self.tie_strength.assign(0.0)
        self.off_template_strength.assign(0.0)
        self._become_soft()

    def _assign(self, weight: keras.Variable, value: Any) -> None:
        weight.assign(ops.cast(value, self.variable_dtype))

    def _become_soft(self) -> None:
        self.padding = self.weight_sharing.geometry.padding
        del self.implementation, self._awaited
        self.__class__ = self.soft


class AwaitedWeight:
    """A weight of a file for which a SoftConv layer has others.

    It has what Keras asks of a layer's weights while it loads a file and counts parameters.

    Args:
        name: 'kernel' or 'bias'.
        shape: in the file.
        layer: loads its weights when the last value is assigned.
    """

    trainable = True
    regularizer = None

    def __init__(self, name: str, shape: Shape, layer: OldLocallyConnected) -> None:
        self.name = name
        self.path = f"{layer.name}/{name}"
        self.shape = shape
        self.dtype = layer.variable_dtype
        self._value = None
        self._layer = layer

    @property
    def is_loaded(self) -> bool:
        return self._value is not None

    @property
    def value(self) -> np.ndarray:
        if self._value is None:
            raise ValueError(
                f"The {self.name} of layer '{self._layer.name}' has no value yet. Expected "
                "the weights of an old file before the layer is trained or its weights are "
                "read. Load them by `load_weights` or `set_weights`. To train a new layer "
                f"use {self._layer.soft.__name__} with `halo=0`."
            )
        return self._value

    def numpy(self) -> np.ndarray:
        return self.value

    def assign(self, value: Any) -> None:
        self._value = np.asarray(value)
        self._layer.load_assigned()


# Keras finds the weights of a `.keras` file by the names of these classes.


class LocallyConnected1D(OldLocallyConnected, SoftConv1D):
    """Becomes a SoftConv1D layer when its weights are loaded."""

    soft = SoftConv1D


class LocallyConnected2D(OldLocallyConnected, SoftConv2D):
    """Becomes a SoftConv2D layer when its weights are loaded."""

    soft = SoftConv2D
