"""Error and structure along a path of strengths."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isfinite, sqrt
from typing import Any

import numpy as np

from keras_softconv.compat import keras, ops
from keras_softconv.diagnostics import soft_layers, structure_numbers

Strengths = float | tuple[float, float]


@dataclass(frozen=True)
class RegularizationPath:
    """What `regularization_path` found, strongest strengths first.

    Args:
        points: a dict of plain numbers for each pair of strengths: `tie_strength`,
            `off_template_strength`, `loss` (training, with penalties), `validation_loss`
            (without), `standard_error` of that over the validation examples, and
            `structure`, by layer path what `structure_numbers` says. NaN where training
            diverged; the next point then began where the last good one ended.
        weights: the model's weights at each point, as `get_weights` gives them; empty if
            they were not kept.
    """

    points: list[dict[str, Any]]
    weights: list[list[np.ndarray]] = field(default_factory=list, repr=False)

    @property
    def best(self) -> int:
        """Index of the point with the least validation loss."""
        losses = np.array([point["validation_loss"] for point in self.points])
        if not np.isfinite(losses).any():
            raise ValueError(
                "Training diverged at every point of the path: no validation loss is "
                "finite. Lower the learning rate, or the strengths."
            )
        return int(np.nanargmin(np.where(np.isfinite(losses), losses, np.nan)))

    @property
    def one_standard_error(self) -> int:
        """Index of the strongest point within one standard error of the best.

        The simplest model that is not clearly worse (Breiman et al., "Classification and
        regression trees", 1984).
        """
        best = self.points[self.best]
        limit = best["validation_loss"] + best["standard_error"]
        losses = [point["validation_loss"] for point in self.points]
        return next(index for index, loss in enumerate(losses) if loss <= limit)

    def restore(self, model: keras.Model, index: int) -> None:
        """Give a model of the same make the weights and strengths of a point."""
        if not self.weights:
            raise ValueError(
                "The weights along the path were not kept. Call `regularization_path` "
                "with `keep_weights=True`."
            )
        model.set_weights(self.weights[index])

    def plot(self, axes: Any = None) -> Any:
        """Errors against strength, with the structure along them; matplotlib's axes.

        Args:
            axes: where to draw; None for a new figure, `axes.figure`.

        Raises:
            ImportError: without matplotlib, which the package does not require.
        """
        pyplot = _pyplot()
        axes = pyplot.subplots(layout="constrained")[1] if axes is None else axes
        strengths, label = self._abscissa()
        losses, errors = (
            np.array([point[name] for point in self.points])
            for name in ("validation_loss", "standard_error")
        )
        lines = [axes.errorbar(strengths, losses, errors, fmt="o-", capsize=3)]
        lines[0].set_label("validation loss, standard error")
        for index, style, name in (
            (self.best, "-", "best"),
            (self.one_standard_error, "--", "within one standard error"),
        ):
            line = axes.axvline(strengths[index], color="gray", linestyle=style, label=name)
            lines.append(line)
        axes.set(xscale="symlog" if 0 in strengths else "log")
        axes.set(xlabel=label, ylabel="loss")
        lines += self._plot_structure(axes.twinx(), strengths)
        axes.legend(handles=lines, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)
        return axes

    def _abscissa(self) -> tuple[np.ndarray, str]:
        """The strength that changes."""
        ties = np.array([point["tie_strength"] for point in self.points])
        if (ties == ties[0]).all():
            off = [point["off_template_strength"] for point in self.points]
            return np.array(off), "off-template strength"
        return ties, "tie strength"

    def _plot_structure(self, axes: Any, strengths: np.ndarray) -> list[Any]:
        lines = []
        for path in self.points[0]["structure"]:
            for name, style in (("convolution_share", ":"), ("off_template_mass", "-.")):
                values = [point["structure"][path][name] for point in self.points]
                label = f"{path}: {name.replace('_', ' ')}"
                color = f"C{1 + len(lines)}"
                lines += axes.plot(strengths, values, style, color=color, label=label)
        axes.set(ylim=(-0.02, 1.02), ylabel="share")
        return lines


def regularization_path(
    make_model: Callable[[], keras.Model],
    data: Any,
    strengths: Sequence[Strengths],
    validation_data: tuple[Any, Any],
    *,
    keep_weights: bool = False,
    verbose: bool = True,
    **fit_arguments: Any,
) -> RegularizationPath:
    """Train along strengths from strong to weak, each from where the last one ended.

    Strong penalties leave little to learn and are soon done, and a slightly weaker one has
    its optimum near by (Friedman, Hastie and Tibshirani, "Regularization paths for
    generalized linear models via coordinate descent", Journal of Statistical Software 33,
    2010). The optimizer begins anew at each point, with its learning rate schedule.

    Args:
        make_model: makes a compiled model with SoftConv layers and one output.
        data: what `fit` is given: a pair of arrays `(x, y)`, or a dataset. It is read
            again at each strength, so that a generator or another iterator will not do.
        strengths: numbers, for ties and off-template weights alike, or pairs
            `(tie_strength, off_template_strength)`, in any order. They multiply the
            factors of the layers' regularizers.
        validation_data: arrays `(x, y)`, for the choice between the points.
        keep_weights: whether to keep the weights of every point.
        verbose: whether to show a progress bar, one step a point.
        fit_arguments: for `fit`: `epochs`, `batch_size`, `callbacks`, ...

    Returns:
        A `RegularizationPath`; the points as plain data in `.points`.

    Raises:
        ValueError: for a model that is not compiled or has no SoftConv layers, strengths
            that are negative or not finite, no strengths, data that can be read only once,
            and validation data other than a pair of arrays.

    Examples:
        ```python
        path = regularization_path(make_model, (x, y), [0.01, 0.1, 1, 10], (x_val, y_val),
                                   epochs=5)
        path.points[path.one_standard_error]["tie_strength"]
        path.plot()
        ```
    """
    pairs = _standardize_strengths(strengths)
    _check_data(data)
    x, y = _standardize_validation_data(validation_data)
    model = make_model()
    _check_model(model)
    model.optimizer.build(model.trainable_variables)
    begin = [ops.convert_to_numpy(v).copy() for v in model.optimizer.variables]
    progress = keras.utils.Progbar(
        len(pairs),
        verbose=int(verbose),
        stateful_metrics=["validation_loss"],
        unit_name="strength",
    )
    points, weights, good = [], [], model.get_weights()
    for number, pair in enumerate(pairs, start=1):
        model.set_weights(good)
        for layer in soft_layers(model).values():
            layer.tie_strength.assign(pair[0])
            layer.off_template_strength.assign(pair[1])
        for variable, value in zip(model.optimizer.variables, begin, strict=True):
            variable.assign(value)
        loss = _fit(model, data, fit_arguments)
        points.append(_point(model, pair, loss, x, y))
        if isfinite(points[-1]["validation_loss"]):
            good = model.get_weights()
        if keep_weights:
            weights.append(model.get_weights())
        progress.update(number, [("validation_loss", points[-1]["validation_loss"])])
    return RegularizationPath(points, weights)


def _fit(model: keras.Model, data: Any, fit_arguments: dict[str, Any]) -> float:
    given = data if isinstance(data, (tuple, list)) else (data,)
    history = model.fit(*given, **{"verbose": 0, **fit_arguments})
    return float(history.history["loss"][-1])


def _point(
    model: keras.Model, pair: tuple[float, float], loss: float, x: Any, y: Any
) -> dict[str, Any]:
    losses = _losses(model, x, y)
    error = losses.std(ddof=1) / sqrt(len(losses)) if len(losses) > 1 else 0.0
    structure = {
        path: {
            name: float(ops.convert_to_numpy(number))
            for name, number in structure_numbers(layer).items()
        }
        for path, layer in soft_layers(model).items()
    }
    return {
        "tie_strength": pair[0],
        "off_template_strength": pair[1],
        "loss": loss,
        "validation_loss": float(losses.mean()),
        "standard_error": float(error),
        "structure": structure,
    }


def _losses(model: keras.Model, x: Any, y: Any) -> np.ndarray:
    """The loss of every example, without penalties."""
    loss = keras.losses.get(model.loss)
    per_example = loss.call if isinstance(loss, keras.Loss) else loss
    outputs = ops.convert_to_tensor(model.predict(x, verbose=0))
    y = ops.convert_to_tensor(y)
    if len(y.shape) == len(outputs.shape) - 1 and outputs.shape[-1] == 1:
        y = ops.expand_dims(y, -1)  # as `fit` does
    if len(y.shape) == len(outputs.shape):
        y = ops.cast(y, outputs.dtype)  # not the classes of sparse losses
    losses = ops.convert_to_numpy(per_example(y, outputs)).astype("float64")
    if losses.shape[:1] != (len(outputs),):
        raise ValueError(
            "`regularization_path` needs a loss for each example, for its standard errors. "
            f"Received: loss={model.loss!r}, which returns shape {losses.shape} for "
            f"{len(outputs)} examples. Let it take the mean over the last axis only."
        )
    return losses.reshape(len(outputs), -1).mean(axis=1)


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            "`RegularizationPath.plot` draws with matplotlib, which is not installed. "
            "`pip install matplotlib`, or draw `path.points` yourself."
        ) from error
    return pyplot


def _check_data(data: Any) -> None:
    _check_not_one_shot(
        "data",
        data,
        "Give arrays, a `keras.utils.PyDataset`, a `tf.data.Dataset` or a torch "
        "`DataLoader`. Batches that fit in memory can be put together into a pair of "
        "arrays `(x, y)`.",
    )
    if isinstance(data, (tuple, list)) and len(data) != 2:
        raise ValueError(
            "`data` must be a pair of arrays `(x, y)` or a dataset. Received: a "
            f"{type(data).__name__} of {len(data)}. For sample weights give a dataset."
        )


def _check_not_one_shot(name: str, data: Any, remedy: str) -> None:
    """Raise `ValueError` for an iterator, which is empty after the first strength."""
    parts = data if isinstance(data, (tuple, list)) else (data,)
    for part in parts:
        if hasattr(part, "__next__"):
            raise ValueError(
                f"`{name}` must be something that can be read again at each strength. "
                f"Received: a {type(part).__name__}, an iterator that is empty after it "
                f"was read once. {remedy}"
            )


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model) or not getattr(model, "optimizer", None):
        raise ValueError(
            "`make_model` must return a compiled Keras model. Received: "
            f"{model!r}. Call `model.compile(optimizer, loss)` within it."
        )
    layers = soft_layers(model)
    if not layers or not all(layer.built for layer in layers.values()):
        raise ValueError(
            "`make_model` must return a built model with SoftConv layers, whose strengths "
            f"are the path. Received: model '{model.name}' with {list(layers) or 'none'}. "
            "Add a SoftConv2D layer, and begin the model with `keras.Input`."
        )
    if isinstance(model.loss, (dict, list, tuple)) or model.loss is None:
        raise ValueError(
            "`regularization_path` compares the loss of one output. Received: "
            f"loss={model.loss!r}. Compile the model with one loss."
        )


def _standardize_strengths(strengths: Any) -> list[tuple[float, float]]:
    """Pairs of strengths, the strongest first."""
    try:
        pairs = [tuple(map(float, np.broadcast_to(one, 2))) for one in strengths]
    except (TypeError, ValueError):
        pairs = []
    if not pairs or not all(isfinite(s) and s >= 0 for pair in pairs for s in pair):
        raise ValueError(
            "`strengths` must be a sequence of finite numbers, 0 or more, or of pairs "
            f"`(tie_strength, off_template_strength)`. Received: strengths={strengths!r}. "
            "Give some such as `10.0 ** np.arange(-2, 3)`."
        )
    return sorted(pairs, key=lambda pair: (pair[0] * pair[1], *pair), reverse=True)


def _standardize_validation_data(data: Any) -> tuple[Any, Any]:
    _check_not_one_shot("validation_data", data, "Give a pair of arrays `(x, y)`.")
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise ValueError(
            "`validation_data` must be a pair of arrays `(x, y)`, for standard errors over "
            f"its examples. Received: {type(data).__name__}. Give the arrays themselves."
        )
    return data[0], data[1]
