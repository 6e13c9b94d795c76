"""Strengths that the training data choose."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from keras_softconv.arguments import is_integer
from keras_softconv.callbacks.chosen_layers import chosen_layers, standardize_layers
from keras_softconv.callbacks.compiled_numbers import are_same
from keras_softconv.callbacks.curvature import Curvature
from keras_softconv.callbacks.fresh_copies import FreshCopies
from keras_softconv.compat import keras, name_of, ops
from keras_softconv.diagnostics import layers_within
from keras_softconv.layers import BaseSoftConv
from keras_softconv.regularizers import FamilyStrengths, l1_l2_factors

SQUARED_ERRORS = ("mse", "mean_squared_error", "MeanSquaredError")


@dataclass
class _Groups:
    """Groups of deviations, each with a strength of its own in one variable.

    Args:
        strengths: variable of the strengths, a scalar or one for each group.
        factor: of the penalty, without those strengths.
        deviations, curvatures: `(members, groups)`.
    """

    strengths: keras.Variable
    factor: float
    deviations: np.ndarray
    curvatures: np.ndarray

    @property
    def values(self) -> np.ndarray:
        return np.ravel(ops.convert_to_numpy(self.strengths)).astype("float64")

    def gammas(self, number: int) -> np.ndarray:
        """How many of the weights of each group the data determine."""
        # Both terms in units of one over twice the noise variance, which cancels.
        prior = np.maximum(number * self.values * self.factor, 1e-30)
        return (self.curvatures / (self.curvatures + prior)).sum(axis=0)

    def update(self, gammas: np.ndarray, noise: float, bounds: tuple) -> None:
        squares = self.factor * (self.deviations**2).sum(axis=0)
        # Deviations that are all zero, as at the beginning, say nothing.
        is_known = squares > 0
        found = gammas * noise / np.where(is_known, squares, 1)
        strengths = np.where(is_known, np.clip(found, *bounds), self.values)
        self.strengths.assign(strengths.reshape(tuple(self.strengths.shape)))


class AdaptiveStrengths(FreshCopies):
    """Empirical Bayes: finds the strengths of ridge penalties from the training data.

    A ridge is a Gaussian prior of the deviations, and its precision can be estimated
    together with them. For each group of deviations d with one strength, with N examples
    of n outputs each, f the outputs and l2 the factor of the penalty (MacKay's updates of
    the evidence, with the curvature of the data at the diagonal only):

        h_i   = sum over examples and outputs of (df / dd_i)^2
        gamma = sum_i h_i / (h_i + N n * strength * l2)
        noise = sum of squared residuals / (N n - all gammas - free weights)
        strength <- gamma * noise / (N n * l2 * ||d||^2)

    gamma is what stands against collapse: deviations that the data do not determine count
    for nothing, while with the number of weights in its place small deviations would ask
    for a stronger penalty, and so on to zero. Groups are the ties of a layer, with those of
    its biases, and its off-template weights; with `FamilyStrengths(L2(...))` as
    `tie_regularizer` each family.

    Limits. The loss has to be the mean squared error without sample weights, and penalties
    ridges: noise and deviations are taken for Gaussian. Layers that are frozen, or whose
    structure is, are left alone. Curvature between weights is neglected, as are
    weights outside SoftConv layers when the noise is estimated, so that a model which can
    fit its training data entirely makes the noise too small and the strengths too weak.
    Weights should have settled between updates: tens of steps apart, and at a rate that
    still moves them. Go on until the strengths stand still, some ten to sixty updates;
    where the truth is a convolution they grow without end. A first strength far too strong
    for anything to be learnt shows no deviations, and takes many updates to come down.

    Args:
        x, y: the training data, arrays with the examples along their first axis.
        update_freq: epochs between updates.
        layers: paths or names of SoftConv layers, one or a list; None for all.
        bounds: least and greatest strength.
        probes: random draws for the curvature at each update: the more, the less noise.
        batch_size: how many examples are looked at at once.
        seed: of the draws.

    Attributes:
        history: a dict for each update: `epoch`, `noise_variance` and the new
            `<layer path>/tie_strength` and `<layer path>/off_template_strength`, or lists
            `<layer path>/tie_family_strengths`, `.../bias_tie_family_strengths`.

    Raises:
        ValueError: for arguments out of range and, in training, for a layer that does not
            exist, another loss, and penalties that are no ridges.

    Examples:
        ```python
        adaptive = keras_softconv.callbacks.AdaptiveStrengths(x, y, update_freq=2)
        model.fit(x, y, epochs=4, callbacks=[adaptive])
        adaptive.history[-1]["model/soft/tie_strength"]
        ```

    Reference:
        MacKay, "Bayesian interpolation", Neural Computation 4, 1992.
    """

    of_training = ("_data", "_compiled_for", "_updates_before")

    def __init__(
        self,
        x: Any,
        y: Any,
        update_freq: int = 10,
        layers: str | list[str] | None = None,
        bounds: tuple[float, float] = (1e-6, 1e6),
        probes: int = 8,
        batch_size: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.x, self.y = _as_array("x", x), _as_array("y", y)
        counts = {"update_freq": update_freq, "probes": probes, "batch_size": batch_size}
        for name, count in counts.items():
            if not is_integer(count) or count < 1:
                raise ValueError(
                    f"`{name}` of AdaptiveStrengths must be a positive integer. Received: "
                    f"{name}={count!r}. Leave it out for the default."
                )
        self._check_data()
        self._check_bounds(bounds)
        self.update_freq, self.probes, self.batch_size = update_freq, probes, batch_size
        self.layers = standardize_layers(layers)
        self.bounds = tuple(bounds)
        self.history: list[dict[str, float]] = []
        self._rng = np.random.default_rng(seed)
        self._forget_training()

    def _forget_training(self) -> None:
        self._data = None  # the data with a compiled function of the model
        self._compiled_for = []  # what that function depends on
        self._updates_before = 0

    def _check_data(self) -> None:
        if not self.x.ndim or self.x.shape[:1] != self.y.shape[:1] or not len(self.x):
            raise ValueError(
                "AdaptiveStrengths needs `x` and `y` with the same number of examples. "
                f"Received: shapes {self.x.shape} and {self.y.shape}. Give the arrays that "
                "`fit` is given, of one input and one output."
            )

    def _check_bounds(self, bounds: Any) -> None:
        is_pair = isinstance(bounds, (tuple, list)) and len(bounds) == 2
        if not is_pair or not 0 < bounds[0] < bounds[1] < np.inf:
            raise ValueError(
                "`bounds` of AdaptiveStrengths must be a pair of finite numbers, 0 < least "
                f"< greatest. Received: bounds={bounds!r}. Leave it out for (1e-6, 1e6)."
            )

    def on_train_begin(self, logs: dict | None = None) -> None:
        loss = self.model.loss
        name = loss if isinstance(loss, str) else getattr(loss, "__name__", None)
        if (name or type(loss).__name__) not in SQUARED_ERRORS:
            raise ValueError(
                "AdaptiveStrengths takes the noise for Gaussian: the loss must be 'mse'. "
                f"Received: loss={loss!r}. For other losses compare strengths by "
                "`keras_softconv.regularization_path`."
            )
        reduction = getattr(loss, "reduction", "sum_over_batch_size")
        if reduction not in ("sum_over_batch_size", "mean") or self._loss_weights():
            raise ValueError(
                "AdaptiveStrengths needs the mean of the squared errors, without weights. "
                f"Received: reduction={reduction!r} and loss_weights="
                f"{self._loss_weights()!r}. Compile the model with loss='mse' alone."
            )
        layers = self._layers()
        for path, layer in layers.items():
            _check_ridges(path, layer)
        self._prepare_data(layers)
        self._updates_before = len(self.history)

    def _prepare_data(self, layers: dict[str, BaseSoftConv]) -> None:
        """Compile again if the model has changed, or Keras has compiled it again."""
        variables = [v for layer in layers.values() for v in _deviations(layer)]
        model = self.model
        objects = [model.train_function, *layers_within(model), *model.variables]
        objects += variables
        if not are_same(objects, self._compiled_for):
            self._data = Curvature(model, variables, self.x, self.y, self.batch_size)
            self._compiled_for = objects

    def _loss_weights(self) -> Any:
        compile_config = self.model.get_compile_config() or {}
        return compile_config.get("loss_weights")

    def _layers(self) -> dict[str, BaseSoftConv]:
        """Those that are trained with penalties."""
        layers = chosen_layers(self.model, self.layers, self)
        return {
            path: layer
            for path, layer in layers.items()
            if layer.trainable and layer.deviation_mask is None
        }

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if (epoch + 1) % self.update_freq == 0:
            self.history.append({"epoch": epoch, **self._update()})

    def on_train_end(self, logs: dict | None = None) -> None:
        if len(self.history) == self._updates_before:
            warnings.warn(
                "AdaptiveStrengths made no update, since training ended before epoch "
                f"{self.update_freq}. Give more epochs, or a smaller `update_freq`.",
                stacklevel=2,
            )

    def _update(self) -> dict[str, Any]:
        """New strengths, and the noise that they were found with."""
        layers = self._layers()
        squares, number, of_variable = self._data.measure(self.probes, self._rng)
        groups = {
            f"{path}/{name_of(one.strengths)}": one
            for path, layer in layers.items()
            for one in _groups(layer, of_variable)
        }
        gammas = {name: one.gammas(number) for name, one in groups.items()}
        free = sum(map(_free_weights, layers.values()))
        determined = sum(gamma.sum() for gamma in gammas.values()) + free
        noise = squares / max(number - determined, 1.0)
        for name, one in groups.items():
            one.update(gammas[name], noise / number, self.bounds)
        return {"noise_variance": float(noise), **{n: _plain(g) for n, g in groups.items()}}


def _as_array(name: str, data: Any) -> np.ndarray:
    if not isinstance(data, list) and not hasattr(data, "shape"):
        raise ValueError(
            f"AdaptiveStrengths needs `{name}` as an array, to go through it again and "
            f"again. Received: {type(data).__name__}. Give arrays of the training data, or "
            "of a part of it."
        )
    return np.asarray(ops.convert_to_numpy(data))


def _check_ridges(path: str, layer: BaseSoftConv) -> None:
    for name in ("tie_regularizer", "off_template_regularizer"):
        regularizer = getattr(layer, name)
        l1, l2 = _factors(regularizer) or (1.0, 0.0)
        if regularizer is not None and (l1 or not l2):
            raise ValueError(
                f"AdaptiveStrengths finds the strengths of ridges. Expected `{name}` of "
                f"layer '{path}' to be Keras's L2, FamilyStrengths of it, or None. "
                f"Received: {regularizer!r}. Use `keras.regularizers.L2(1e-3)`, or compare "
                "strengths by `keras_softconv.regularization_path`."
            )


def _factors(regularizer: Any) -> tuple[float, float] | None:
    if isinstance(regularizer, FamilyStrengths):
        return regularizer.factors
    return l1_l2_factors(regularizer)


def _deviations(layer: BaseSoftConv) -> list[keras.Variable]:
    found = (layer.deviations, layer.bias_deviations)
    return [variable for variable in found if variable is not None]


def _groups(layer: BaseSoftConv, curvatures: dict[int, np.ndarray]) -> list[_Groups]:
    """Of one layer: ties and off-template weights, as far as they are penalised."""
    groups = []
    if layer.tie_regularizer is not None:
        groups += _groups_of_ties(layer, curvatures)
    if layer.off_template_regularizer is not None:
        _, l2 = _factors(layer.off_template_regularizer)
        pair = _pair(layer.weight_sharing.off_template, layer.deviations, curvatures)
        columns = [part.reshape(-1, 1) for part in pair]
        groups.append(_Groups(layer.off_template_strength, l2, *columns))
    return groups


def _groups_of_ties(
    layer: BaseSoftConv, curvatures: dict[int, np.ndarray]
) -> list[_Groups]:
    _, l2 = _factors(layer.tie_regularizer)
    pairs = {"tie": _pair(layer.weight_sharing.template, layer.deviations, curvatures)}
    if layer.use_bias:
        pairs["bias_tie"] = _pair(lambda x: x, layer.bias_deviations, curvatures)
    if isinstance(layer.tie_regularizer, FamilyStrengths):
        factor = l2 * float(ops.convert_to_numpy(layer.tie_strength))
        weights = {name_of(weight): weight for weight in layer.weights}
        return [
            _Groups(
                weights[f"{place}_family_strengths"],
                factor,
                *(part.reshape(-1, part.shape[-1]) for part in pair),
            )
            for place, pair in pairs.items()
        ]
    together = [
        np.concatenate([p.ravel() for p in ps]) for ps in zip(*pairs.values(), strict=True)
    ]
    columns = [part.reshape(-1, 1) for part in together]
    return [_Groups(layer.tie_strength, l2, *columns)]


def _pair(
    part_of: Callable, deviations: keras.Variable, curvatures: dict[int, np.ndarray]
) -> list[np.ndarray]:
    """A part of some deviations, and of their curvature."""
    stored = (deviations, curvatures[id(deviations)])
    parts = (part_of(ops.convert_to_tensor(array, "float32")) for array in stored)
    return [ops.convert_to_numpy(part).astype("float64") for part in parts]


def _free_weights(layer: BaseSoftConv) -> int:
    """How many weights of a layer have no penalty."""
    geometry = layer.weight_sharing.geometry
    free = geometry.families
    outputs = prod(geometry.output_grid) * geometry.filters
    if layer.use_bias:
        free += geometry.filters
    if layer.tie_regularizer is None:
        free += geometry.template_size + (outputs if layer.use_bias else 0)
    if layer.off_template_regularizer is None:
        free += geometry.size - geometry.template_size
    return free


def _plain(groups: _Groups) -> float | list[float]:
    values = groups.values.tolist()
    return values if len(groups.strengths.shape) else values[0]
