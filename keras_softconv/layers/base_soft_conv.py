"""What soft convolutions of every rank share."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from keras_softconv import arguments
from keras_softconv.arguments import Shape
from keras_softconv.compat import keras, ops, registration_of
from keras_softconv.geometry import Geometry
from keras_softconv.initializers import InitialDeviations
from keras_softconv.layers.kept_weights import KeepsZeros
from keras_softconv.layers.layer_penalties import LayerPenalties
from keras_softconv.memory import Demand, check_dense_form_fits, check_fits
from keras_softconv.weight_sharing import (
    DenseWeightSharing,
    in_full_precision,
    weight_sharing_of,
)

Tensor = Any
Function = TypeVar("Function", bound=Callable)

# Arguments whose names end so are Keras objects.
KINDS = {
    "activation": keras.activations,
    "initializer": keras.initializers,
    "regularizer": keras.regularizers,
    "constraint": keras.constraints,
}


class BaseSoftConv(KeepsZeros, keras.layers.Layer):
    """Dense weights, softly tied like a convolution's; see `SoftConv2D`.

    A subclass sets `rank`, the number of spatial axes.
    """

    rank: int

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] = 1,
        padding: Any = "valid",
        data_format: str | None = None,
        dilation_rate: int | tuple[int, ...] = 1,
        groups: int = 1,
        activation: str | Callable | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        *,
        tie_regularizer: Any = keras.regularizers.L2(3.0),
        off_template_regularizer: Any = keras.regularizers.L2(3.0),
        deviation_initializer: Any = "zeros",
        halo: int | None = None,
        penalty_registration: str = "add_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        # Passed args.
        rank = self.rank
        self.filters, self.groups = arguments.standardize_filters(filters, groups)
        self.kernel_size = arguments.standardize_tuple(kernel_size, rank, "kernel_size")
        self.strides = arguments.standardize_tuple(strides, rank, "strides")
        self.dilation_rate = arguments.standardize_tuple(
            dilation_rate, rank, "dilation_rate"
        )
        self.padding = arguments.standardize_padding(padding, rank)
        self.data_format = _standardize_data_format(data_format)
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.tie_regularizer = keras.regularizers.get(tie_regularizer)
        self.off_template_regularizer = keras.regularizers.get(off_template_regularizer)
        if deviation_initializer is None:
            deviation_initializer = "zeros"
        self.deviation_initializer = keras.initializers.get(deviation_initializer)
        self.halo = arguments.standardize_halo(halo)
        self.penalty_registration = penalty_registration
        # Other args.
        self.weight_sharing = None
        self.shared_kernel = None
        self.deviations = None
        self.shared_bias = None
        self.bias_deviations = None
        self.tie_strength = None
        self.off_template_strength = None
        self._penalties = None
        self._is_restored = False

        arguments.check_strides_and_dilation(self.strides, self.dilation_rate)
        arguments.check_penalty_registration(penalty_registration)

    def build(self, input_shape: Shape) -> None:
        geometry = self._geometry(input_shape)
        demand = Demand(self._title, geometry, self.variable_dtype, self.trainable)
        check_fits(demand, may_refuse=not self._is_restored)
        self.weight_sharing = weight_sharing_of(geometry)
        self.shared_kernel = self._add_weight(
            "shared_kernel",
            geometry.shared_kernel_shape,
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.deviations = self._add_weight(
            "deviations",
            geometry.deviations_shape,
            InitialDeviations(self.deviation_initializer, self.weight_sharing),
        )
        if self.use_bias:
            self.shared_bias = self._add_weight(
                "shared_bias",
                (self.filters,),
                self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
            self.bias_deviations = self._add_weight(
                "bias_deviations",
                (*geometry.output_grid, self.filters),
                "zeros",
            )
        self._add_penalties()
        if self._is_frozen:
            # The config is that of a layer whose structure was frozen.
            self._add_masks()

    def _add_penalties(self) -> None:
        self._penalties = LayerPenalties(
            self.weight_sharing,
            self.tie_regularizer,
            self.off_template_regularizer,
            self._add_weight,
            self.use_bias,
        )
        self.tie_strength = self._penalties.tie_strength.variable
        self.off_template_strength = self._penalties.off_template_strength.variable
        deviations = self.deviations, self.bias_deviations
        self._penalties.attach_to(*deviations)
        if registration_of(self.penalty_registration) == "regularizer":
            self._penalties.register_as_regularizers(*deviations)

    def _add_weight(
        self, name: str, shape: Shape, initializer: Any, **options: Any
    ) -> keras.Variable:
        # Without autocast the penalties see the weights themselves, in full precision.
        return self.add_weight(
            name=name, shape=shape, initializer=initializer, autocast=False, **options
        )

    def call(self, inputs: Tensor) -> Tensor:
        self._check_input_shape(tuple(getattr(inputs, "shape", ())))
        if self.penalty_registration == "add_loss":
            self._register_penalties()
        inputs = self._move_channels(ops.cast(inputs, self.compute_dtype), to_last=True)
        outputs = self.weight_sharing.product(
            inputs,
            ops.cast(self.shared_kernel, self.compute_dtype),
            ops.cast(self._held(self.deviations), self.compute_dtype),
        )  # [batch, *output_grid, filters]
        if self.use_bias:
            outputs = outputs + ops.cast(self.bias, self.compute_dtype)
        outputs = self._move_channels(outputs, to_last=False)
        return outputs if self.activation is None else self.activation(outputs)

    # Penalties.

    def penalties(self) -> dict[str, Tensor]:
        """What the two penalties add to the loss, as float32 scalars.

            tie_penalty = tie_strength * R_tie(deviations on the template)
                        + tie_strength * R_tie(bias deviations)
            off_template_penalty = off_template_strength * R_off(deviations off it)

        Returns:
            A dict with these two keys; frozen deviations add nothing.
        """
        self._check_built("penalties()")
        tie, off_template = ops.zeros((), "float32"), ops.zeros((), "float32")
        if self._is_penalized(self.deviations):
            tie, off_template = self._penalties.of_kernel(self.deviations)
        if self._is_penalized(self.bias_deviations):
            tie = tie + self._penalties.of_biases(self.bias_deviations)
        return {"tie_penalty": tie, "off_template_penalty": off_template}

    @property
    def effective_weights(self) -> dict[str, float]:
        """How many weights the training data determine, as `AdaptiveStrengths` found.

        By their place: `"tie"`, `"off_template"`, `"bias_tie"` where the biases have
        strengths of their own, and `"shared_kernel"` and `"shared_bias"` where their ridges
        were included. Empty before that; not saved.
        """
        self._check_built("effective_weights")
        return dict(self._penalties.effective_weights)

    @effective_weights.setter
    def effective_weights(self, found: dict[str, float]) -> None:
        self._check_built("effective_weights")
        self._penalties.effective_weights = dict(found)

    def _is_penalized(self, deviations: Any) -> bool:
        # As Keras does with a frozen weight's regularizer.
        return deviations is not None and self.trainable and deviations.trainable

    def _register_penalties(self) -> None:
        deviations = self.deviations, self.bias_deviations
        if registration_of("add_loss") == "regularizer":
            self._penalties.register_as_regularizers(*deviations)
        elif any(map(self._is_penalized, deviations)):
            self._penalties.register_once(self, self.penalties, *deviations)

    def _clear_losses(self) -> None:
        # Keras calls this method, which is not public, where a forward pass begins.
        super()._clear_losses()
        is_added = registration_of(self.penalty_registration) == "add_loss"
        if is_added and self._penalties is not None:
            self._penalties.begin_forward_pass()

    # What the weights amount to.

    @property
    def kernel(self) -> Tensor:
        """The effective dense kernel, `expand(shared_kernel) + deviations`.

        Shape `(*input_grid, in_channels, *output_grid, filters)`, channels last
        whatever the `data_format`; 0 beyond the halo.
        """
        self._check_dense_form("kernel")
        shared = ops.convert_to_tensor(self.shared_kernel)
        deviations = ops.convert_to_tensor(self.deviations)
        return self.weight_sharing.kernel(shared, deviations)

    @property
    def bias(self) -> Tensor | None:
        """The effective biases, `(*output_grid, filters)`, or None without a bias."""
        self._check_built("bias")
        if not self.use_bias:
            return None
        return self.shared_bias + self._held(self.bias_deviations)

    def family_ids(self) -> np.ndarray:
        """Index of every kernel entry's tap in the raveled Conv2D kernel.

        Returns:
            int32 array of the kernel's shape, -1 off the template.
        """
        self._check_dense_form("family_ids()")
        return DenseWeightSharing(self.weight_sharing.geometry).family_ids()

    def template_mask(self) -> np.ndarray:
        """Boolean array of the kernel's shape: which entries a Conv2D would use."""
        return self.family_ids() >= 0

    def family_means(self) -> Tensor:
        """The nearest convolution: the mean effective weight of every family.

        Returns:
            Tensor of Conv2D's kernel shape, in float32 or better; 0 for a tap with no
            member.
        """
        self._check_built("family_means()")
        sharing = self.weight_sharing
        template = sharing.template(in_full_precision(self.deviations))
        return sharing.family_means(in_full_precision(self.shared_kernel), template)

    # Shapes and checks.

    def _split_shape(self, shape: Shape) -> tuple[Shape, int | None]:
        """Spatial sizes and channels of an input or output shape with batch."""
        if self.data_format == "channels_last":
            return tuple(shape[1:-1]), shape[-1]
        return tuple(shape[2:]), shape[1]

    def _join_shape(self, batch: int | None, grid: Shape, channels: int) -> Shape:
        if self.data_format == "channels_last":
            return (batch, *grid, channels)
        return (batch, channels, *grid)

    def _move_channels(self, tensor: Tensor, *, to_last: bool) -> Tensor:
        if self.data_format == "channels_last":
            return tensor
        return ops.moveaxis(tensor, *((1, -1) if to_last else (-1, 1)))

    def _geometry(self, input_shape: Shape) -> Geometry:
        self._check_input_shape(input_shape)
        arguments.check_defined(self, tuple(input_shape))
        grid, in_channels = self._split_shape(input_shape)
        arguments.check_channels(in_channels, self.groups, tuple(input_shape))
        return Geometry(
            grid,
            self.kernel_size,
            self.strides,
            self.dilation_rate,
            self._padding_for(grid),
            in_channels,
            self.filters,
            self.groups,
            self.halo,
        )

    def _padding_for(self, input_grid: Shape) -> Any:
        """The padding of inputs of this size, which a subclass may count differently."""
        return self.padding

    def _check_input_shape(self, shape: Shape) -> None:
        expected = self._join_shape(None, (None,) * self.rank, None)
        if self.weight_sharing is not None:
            geometry = self.weight_sharing.geometry
            expected = self._join_shape(None, geometry.input_grid, geometry.in_channels)
        arguments.check_input_shape(self, shape, expected)

    def _check_built(self, name: str) -> None:
        if self.weight_sharing is None:
            raise ValueError(
                f"You must build the layer before accessing `{name}`. Received: an "
                f"unbuilt {type(self).__name__} '{self.name}'. Call it on an input, "
                "or call `layer.build(input_shape)`."
            )

    def _check_dense_form(self, name: str) -> None:
        self._check_built(name)
        check_dense_form_fits(self._title, self.weight_sharing.geometry)

    @property
    def _title(self) -> str:
        return f"{type(self).__name__} '{self.name}'"

    # Keras's own questions.

    def build_from_config(self, config: dict[str, Any]) -> None:
        self._is_restored = True  # by `load_model`, perhaps to predict only
        super().build_from_config(config)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        geometry = self._geometry(input_shape)
        return self._join_shape(input_shape[0], geometry.output_grid, self.filters)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in CONV_ARGUMENTS + SOFT_ARGUMENTS:
            value, kind = getattr(self, name), name.rpartition("_")[2]
            config[name] = KINDS[kind].serialize(value) if kind in KINDS else value
        return config


_PARAMETERS = list(inspect.signature(BaseSoftConv).parameters.values())[:-1]  # no kwargs
SOFT_ARGUMENTS = tuple(p.name for p in _PARAMETERS if p.kind is p.KEYWORD_ONLY)
CONV_ARGUMENTS = tuple(p.name for p in _PARAMETERS if p.kind is not p.KEYWORD_ONLY)


def with_steps_along(rank: int, initialize: Function) -> Function:
    """The same constructor, with Keras's own defaults: a stride for every axis."""

    @wraps(initialize)
    def __init__(self: BaseSoftConv, *args: Any, **kwargs: Any) -> None:
        initialize(self, *args, **kwargs)

    signature = inspect.signature(initialize)
    steps = {
        name: parameter.replace(default=(1,) * rank)
        for name, parameter in signature.parameters.items()
        if name in ("strides", "dilation_rate")
    }
    parameters = (signature.parameters | steps).values()
    __init__.__signature__ = signature.replace(parameters=parameters)
    return __init__


def _standardize_data_format(data_format: str | None) -> str:
    if data_format is None:
        return keras.config.image_data_format()
    if str(data_format).lower() not in ("channels_first", "channels_last"):
        raise ValueError(
            "The `data_format` argument must be one of {'channels_first', "
            f"'channels_last'}}. Received: data_format={data_format!r}. Leave it out "
            "to take `keras.config.image_data_format()`."
        )
    return data_format.lower()
