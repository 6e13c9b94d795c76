"""Layers between Dense and Conv: dense weights, softly tied like a convolution's."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import activations, constraints, initializers, ops, regularizers

from keras_softconv import arguments
from keras_softconv.geometry import Geometry
from keras_softconv.regularizers import l1_l2_factors
from keras_softconv.weight_sharing import DenseWeightSharing

Tensor = Any
Shape = tuple[int | None, ...]

# Kernel entries are numbered by 32-bit integers; that many float32 weights, with
# gradient and Adam's two slots, fill 34 GB.
MAX_KERNEL_SIZE = 2**31 - 1


class BaseSoftConv(keras.layers.Layer):
    """What soft convolutions of every rank share; see `SoftConv2D`.

    Args:
        rank: number of spatial axes. The other arguments are `SoftConv2D`'s.
    """

    def __init__(
        self,
        rank: int,
        filters: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...],
        padding: Any,
        data_format: str | None,
        dilation_rate: int | tuple[int, ...],
        groups: int,
        activation: Any,
        use_bias: bool,
        kernel_initializer: Any,
        bias_initializer: Any,
        kernel_regularizer: Any,
        bias_regularizer: Any,
        activity_regularizer: Any,
        kernel_constraint: Any,
        bias_constraint: Any,
        *,
        tie_regularizer: Any,
        off_template_regularizer: Any,
        deviation_initializer: Any,
        halo: None,
        penalty_registration: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        # Passed args.
        self.rank = rank
        self.filters, self.groups = arguments.standardize_filters(filters, groups)
        self.kernel_size = arguments.standardize_tuple(kernel_size, rank, "kernel_size")
        self.strides = arguments.standardize_tuple(strides, rank, "strides")
        self.dilation_rate = arguments.standardize_tuple(
            dilation_rate, rank, "dilation_rate"
        )
        self.padding = arguments.standardize_padding(padding, rank)
        self.data_format = _standardize_data_format(data_format)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.tie_regularizer = regularizers.get(tie_regularizer)
        self.off_template_regularizer = regularizers.get(off_template_regularizer)
        self.deviation_initializer = initializers.get(deviation_initializer or "zeros")
        self.halo = halo
        self.penalty_registration = penalty_registration
        # Other args.
        self.weight_sharing = None
        self.shared_kernel = None
        self.deviations = None
        self.shared_bias = None
        self.bias_deviations = None
        self.tie_strength = None
        self.off_template_strength = None

        arguments.check_strides_and_dilation(self.strides, self.dilation_rate)
        arguments.check_halo(halo)
        arguments.check_penalty_registration(penalty_registration)

    def build(self, input_shape: Shape) -> None:
        geometry = self._geometry(input_shape)
        self._check_kernel_size(geometry)
        self.weight_sharing = DenseWeightSharing(geometry)
        as_regularizer = self.penalty_registration == "regularizer"
        self.shared_kernel = self._add_weight(
            "shared_kernel",
            geometry.shared_kernel_shape,
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.deviations = self._add_weight(
            "deviations",
            geometry.kernel_shape,
            self._initialize_deviations,
            regularizer=self._deviation_penalty if as_regularizer else None,
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
                regularizer=self._bias_deviation_penalty if as_regularizer else None,
            )
        self.tie_strength = self._add_strength("tie_strength")
        self.off_template_strength = self._add_strength("off_template_strength")

    def _add_weight(
        self, name: str, shape: Shape, initializer: Any, **options: Any
    ) -> keras.Variable:
        # Without autocast the penalties see the weights themselves, in full precision.
        return self.add_weight(
            name=name, shape=shape, initializer=initializer, autocast=False, **options
        )

    def _add_strength(self, name: str) -> keras.Variable:
        return self._add_weight(name, (), "ones", dtype="float32", trainable=False)

    def _initialize_deviations(self, shape: Shape, dtype: Any = None) -> Tensor:
        # As a matrix, so that the fans are those of the dense layer that it is: Keras
        # would read the six axes as a convolution's.
        matrix = (int(np.prod(shape[: self.rank + 1])), -1)
        matrix = (matrix[0], int(np.prod(shape)) // matrix[0])
        return ops.reshape(self.deviation_initializer(matrix, dtype=dtype), shape)

    def call(self, inputs: Tensor) -> Tensor:
        self._check_input_shape(inputs.shape)
        if self.penalty_registration == "add_loss":
            self._register_penalties()
        inputs = self._move_channels(ops.cast(inputs, self.compute_dtype), to_last=True)
        outputs = self.weight_sharing.product(
            inputs,
            ops.cast(self.shared_kernel, self.compute_dtype),
            ops.cast(self.deviations, self.compute_dtype),
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
            tie, off_template = self._kernel_penalties(self.deviations)
        if self._is_penalized(self.bias_deviations):
            tie = tie + self._bias_deviation_penalty(self.bias_deviations)
        return {"tie_penalty": tie, "off_template_penalty": off_template}

    def _is_penalized(self, deviations: Any) -> bool:
        # As Keras does with a frozen weight's regularizer.
        return deviations is not None and self.trainable and deviations.trainable

    def _kernel_penalties(self, deviations: Tensor) -> tuple[Tensor, Tensor]:
        deviations = ops.cast(deviations, "float32")
        wanted = (self.tie_regularizer, self.off_template_regularizer)
        factors = [l1_l2_factors(regularizer) for regularizer in wanted]
        penalties = [ops.zeros((), "float32")] * 2
        for power, elementwise in enumerate((ops.absolute, ops.square)):
            shares = [pair[power] if pair else 0.0 for pair in factors]
            if any(shares):
                sums = self.weight_sharing.partition_sums(elementwise, deviations)
                penalties = [
                    p + f * s for p, f, s in zip(penalties, shares, sums, strict=True)
                ]
        if factors[0] is None:
            penalties[0] = self.tie_regularizer(self.weight_sharing.template(deviations))
        if factors[1] is None:
            penalties[1] = self.off_template_regularizer(
                self.weight_sharing.off_template(deviations)
            )
        return (
            self.tie_strength * penalties[0],
            self.off_template_strength * penalties[1],
        )

    def _deviation_penalty(self, deviations: Tensor) -> Tensor:
        tie, off_template = self._kernel_penalties(deviations)
        return tie + off_template

    def _bias_deviation_penalty(self, bias_deviations: Tensor) -> Tensor:
        if self.tie_regularizer is None:
            return ops.zeros((), "float32")
        penalty = self.tie_regularizer(ops.cast(bias_deviations, "float32"))
        return self.tie_strength * penalty

    def _register_penalties(self) -> None:
        if not any(map(self._is_penalized, (self.deviations, self.bias_deviations))):
            return
        regularized = [w for w in self.trainable_weights if w.regularizer is not None]
        if len(self.losses) > len(regularized):
            return  # a shared layer, called again in the same forward pass
        penalties = self.penalties()
        if self.tie_regularizer is not None:
            self.add_loss(penalties["tie_penalty"])
        if self.off_template_regularizer is not None:
            self.add_loss(penalties["off_template_penalty"])

    # What the weights amount to.

    @property
    def kernel(self) -> Tensor:
        """The effective dense kernel, `expand(shared_kernel) + deviations`.

        Shape `(*input_grid, in_channels, *output_grid, filters)`, channels last
        whatever the `data_format`.
        """
        self._check_built("kernel")
        shared = ops.convert_to_tensor(self.shared_kernel)
        return self.weight_sharing.expand(shared) + self.deviations

    @property
    def bias(self) -> Tensor | None:
        """The effective biases, `(*output_grid, filters)`, or None without a bias."""
        self._check_built("bias")
        return self.shared_bias + self.bias_deviations if self.use_bias else None

    def family_ids(self) -> np.ndarray:
        """Index of every kernel entry's tap in the raveled Conv2D kernel.

        Returns:
            int32 array of the kernel's shape, -1 off the template.
        """
        self._check_built("family_ids()")
        return self.weight_sharing.family_ids()

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
        dtype = keras.backend.result_type(self.deviations.dtype, "float32")
        means = ops.reshape(self.shared_kernel, (len(sharing.member_counts), -1))
        means = ops.where(sharing.member_counts > 0, ops.cast(means, dtype), 0)
        means = ops.reshape(means, self.shared_kernel.shape)
        return means + sharing.project(ops.cast(self.deviations, dtype))

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
        grid, in_channels = self._split_shape(input_shape)
        if None in grid or in_channels is None:
            raise ValueError(
                f"The spatial dimensions and channels of the inputs to a "
                f"{type(self).__name__} layer should be fully-defined, because it "
                "holds a weight for every pair of input and output, but layer "
                f"received the inputs shape {tuple(input_shape)}. Give the sizes, as "
                "in `keras.Input((28, 28, 1))`."
            )
        arguments.check_channels(in_channels, self.groups, tuple(input_shape))
        return Geometry(
            grid,
            self.kernel_size,
            self.strides,
            self.dilation_rate,
            self.padding,
            in_channels,
            self.filters,
            self.groups,
        )

    def _check_input_shape(self, shape: Shape) -> None:
        expected = self._join_shape(None, (None,) * self.rank, None)
        if self.weight_sharing is not None:
            geometry = self.weight_sharing.geometry
            expected = self._join_shape(None, geometry.input_grid, geometry.in_channels)
        fits = len(shape) == len(expected) and all(
            None in (size, wanted) or size == wanted
            for size, wanted in zip(shape, expected, strict=True)
        )
        if not fits:
            raise ValueError(
                f"The input of layer '{self.name}' is incompatible with the layer: "
                f"expected shape={expected} ({self.data_format}), found shape="
                f"{tuple(shape)}. A {type(self).__name__} takes a batch of inputs of "
                "the one size that it was built for, since it holds a weight for "
                "every pair of input and output: reshape, resize or crop the input, "
                "or make a new layer."
            )

    def _check_kernel_size(self, geometry: Geometry) -> None:
        size = np.prod([float(n) for n in geometry.kernel_shape])
        if size > MAX_KERNEL_SIZE:
            gigabytes = 4 * size / 1e9
            raise ValueError(
                f"The dense kernel of {type(self).__name__} '{self.name}' would have "
                f"{size:,.0f} weights of shape {geometry.kernel_shape}, which take "
                f"{gigabytes:,.1f} GB in float32 and four times that in training with "
                f"Adam. At most {MAX_KERNEL_SIZE:,} weights are supported. Shrink the "
                "input first (pooling or strides), use fewer filters or larger "
                "`strides`; a `halo=` that keeps only the weights near each "
                "receptive field is planned but not in this version."
            )

    def _check_built(self, name: str) -> None:
        if self.weight_sharing is None:
            raise ValueError(
                f"You must build the layer before accessing `{name}`. Received: an "
                f"unbuilt {type(self).__name__} '{self.name}'. Call it on an input, "
                "or call `layer.build(input_shape)`."
            )

    # Keras's own questions.

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        geometry = self._geometry(input_shape)
        return self._join_shape(input_shape[0], geometry.output_grid, self.filters)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update(
            {
                "filters": self.filters,
                "kernel_size": self.kernel_size,
                "strides": self.strides,
                "padding": self.padding,
                "data_format": self.data_format,
                "dilation_rate": self.dilation_rate,
                "groups": self.groups,
                "activation": activations.serialize(self.activation),
                "use_bias": self.use_bias,
                "kernel_initializer": initializers.serialize(self.kernel_initializer),
                "bias_initializer": initializers.serialize(self.bias_initializer),
                "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
                "bias_regularizer": regularizers.serialize(self.bias_regularizer),
                "activity_regularizer": regularizers.serialize(self.activity_regularizer),
                "kernel_constraint": constraints.serialize(self.kernel_constraint),
                "bias_constraint": constraints.serialize(self.bias_constraint),
                "tie_regularizer": regularizers.serialize(self.tie_regularizer),
                "off_template_regularizer": regularizers.serialize(
                    self.off_template_regularizer
                ),
                "deviation_initializer": initializers.serialize(self.deviation_initializer),
                "halo": self.halo,
                "penalty_registration": self.penalty_registration,
            }
        )
        return config


def _standardize_data_format(data_format: str | None) -> str:
    data_format = data_format or keras.config.image_data_format()
    if data_format not in ("channels_first", "channels_last"):
        raise ValueError(
            "The `data_format` argument must be one of {'channels_first', "
            f"'channels_last'}}. Received: data_format={data_format!r}. Leave it out "
            "to take `keras.config.image_data_format()`."
        )
    return data_format


@keras.saving.register_keras_serializable(package="keras_softconv")
class SoftConv2D(BaseSoftConv):
    """2D convolution whose weight sharing and locality are penalties, not rules.

    outputs = activation(inputs @ kernel + bias), with inputs and outputs raveled and

        kernel = expand(shared_kernel) + deviations
        loss  += tie_strength * tie_regularizer(deviations on the template)
               + off_template_strength * off_template_regularizer(the other deviations)

    The *template* is the set of kernel entries that a `Conv2D` with the same arguments
    would use; it falls into *families*, the entries that this Conv2D would make equal,
    one family for every entry of its kernel. `expand` copies each entry of the shared
    kernel to its family. Where all deviations are zero the layer is that `Conv2D`;
    where nothing is penalised it is a `Dense` layer on the raveled input. Biases, one
    for every output unit, are tied in the same way, a family for every filter.

    Strengths can be changed at any time, without retracing, through the scalar weights
    `layer.tie_strength` and `layer.off_template_strength` (both start at 1): for
    example `layer.tie_strength.assign(0.1)`. For ridge penalties and a mean squared
    error a good first choice of `strength * l2` is `5 / (N * n_out)` for the ties and
    `20 / (N * n_out)` off the template, with N training examples and n_out outputs.

    Args:
        filters: int, number of output channels.
        kernel_size: int or tuple of 2 ints, size of the receptive field.
        strides: int or tuple of 2 ints. Not with `dilation_rate > 1`, as in Conv2D.
        padding: `"valid"`, `"same"` (Keras's rule), `"circular"` (wraps around; output
            as for "same"), or explicit zero padding: an int, or an int or
            `(before, after)` pair for each axis.
        data_format: `"channels_last"`, `"channels_first"` or None, the Keras default.
        dilation_rate: int or tuple of 2 ints.
        groups: int, number of channel groups of the template; weights across groups
            count as off-template.
        activation: activation function, or None.
        use_bias: bool, whether to add biases.
        kernel_initializer: initializer of the shared kernel.
        bias_initializer: initializer of the shared bias.
        kernel_regularizer: regularizer of the shared kernel.
        bias_regularizer: regularizer of the shared bias.
        activity_regularizer: regularizer of the output.
        kernel_constraint: constraint on the shared kernel.
        bias_constraint: constraint on the shared bias.
        tie_regularizer: regularizer of the deviations on the template, or None.
            It is given float32 tensors whose leading axes are the members and whose
            last axis is the families: `(*output_grid, families)` for the kernel, 0
            where a member would see only padding, and `(*output_grid, filters)` for
            the biases.
        off_template_regularizer: regularizer of all other deviations, or None. It is
            given the float32 deviations with 0 on the template.
        deviation_initializer: initializer of the deviations, with the fans of the
            dense layer. Bias deviations start at zero.
        halo: must be None, the dense kernel, in this version.
        penalty_registration: `"add_loss"` adds the penalties in `call`, once in a
            forward pass however often the layer is called. `"regularizer"` makes them
            weight regularizers instead: the same loss, and the choice for models under
            `keras.RematScope` or with synchronized batch normalization, in which Keras
            drops or corrupts losses added in `call`.

    Input shape:
        4D tensor `(batch, rows, cols, channels)`, or `(batch, channels, rows, cols)`
        with `data_format="channels_first"`. All sizes but the batch must be known.

    Output shape:
        4D tensor `(batch, new_rows, new_cols, filters)`, or
        `(batch, filters, new_rows, new_cols)`.

    Raises:
        ValueError: for arguments that Conv2D refuses, unknown input sizes, an input
            that does not fit, or a kernel too large to hold.

    Example:
    >>> layer = keras_softconv.SoftConv2D(filters=1, kernel_size=2)
    >>> layer(np.ones((5, 3, 3, 1))).shape
    (5, 2, 2, 1)
    >>> layer.kernel.shape  # (rows, cols, channels, new_rows, new_cols, filters)
    (3, 3, 1, 2, 2, 1)
    >>> int(layer.template_mask().sum())  # four families of four
    16

    Reference: Cross Validated question 559113, "Milder than a convolutional neural
    network".
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = (1, 1),
        padding: Any = "valid",
        data_format: str | None = None,
        dilation_rate: int | tuple[int, int] = (1, 1),
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
        tie_regularizer: Any = regularizers.L2(1e-3),
        off_template_regularizer: Any = regularizers.L2(1e-3),
        deviation_initializer: Any = "zeros",
        halo: None = None,
        penalty_registration: str = "add_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            2,
            filters,
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            groups,
            activation,
            use_bias,
            kernel_initializer,
            bias_initializer,
            kernel_regularizer,
            bias_regularizer,
            activity_regularizer,
            kernel_constraint,
            bias_constraint,
            tie_regularizer=tie_regularizer,
            off_template_regularizer=off_template_regularizer,
            deviation_initializer=deviation_initializer,
            halo=halo,
            penalty_registration=penalty_registration,
            **kwargs,
        )
