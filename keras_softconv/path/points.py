"""How a strength is judged: by its losses on validation examples, and its structure."""

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from keras_softconv.compat import keras, ops, predictions
from keras_softconv.diagnostics import soft_layers, structure_numbers


@dataclass(frozen=True)
class Validation:
    """The examples that strengths and epochs are judged by.

    Args:
        x, y: inputs and targets.
        batch_size: how many are predicted at once.
        name: of the argument that they are from.
    """

    x: Any
    y: Any
    batch_size: int
    name: str = "validation_data"

    def losses(self, model: keras.Model) -> np.ndarray:
        """The loss of every example, without penalties."""
        outputs = ops.convert_to_tensor(predictions(model, self.x, self.batch_size))
        # Squares of some hundreds overflow in float16.
        is_double = "float64" in str(outputs.dtype)
        outputs = ops.cast(outputs, "float64" if is_double else "float32")
        loss = keras.losses.get(model.loss)
        per_example = loss.call if isinstance(loss, keras.Loss) else loss
        y = ops.convert_to_tensor(self.y)
        if len(y.shape) == len(outputs.shape) - 1 and outputs.shape[-1] == 1:
            y = ops.expand_dims(y, -1)  # as `fit` does
        if len(y.shape) == len(outputs.shape):
            y = ops.cast(y, outputs.dtype)  # not the classes of sparse losses
        try:
            losses = ops.convert_to_numpy(per_example(y, outputs)).astype("float64")
        except Exception as fault:  # Each backend has errors of its own.
            raise ValueError(
                f"The loss of the model cannot be computed for `{self.name}`. Received: "
                f"targets of shape {tuple(y.shape)} for outputs of shape "
                f"{tuple(outputs.shape)}, loss={model.loss!r}. Give targets that fit this "
                f"loss, or compile with another one. ({type(fault).__name__}: {fault})"
            ) from fault
        if losses.shape[:1] != (len(outputs),):
            raise ValueError(
                "`regularization_path` needs a loss for each example, for its standard "
                f"errors. Received: loss={model.loss!r}, which returns shape "
                f"{losses.shape} for {len(outputs)} examples. Let it take the mean over "
                "the last axis only."
            )
        return losses.reshape(len(outputs), -1).mean(axis=1)


def check_targets(model: keras.Model, data: Any, validation: Validation) -> None:
    """Raise `ValueError` for targets that do not fit the loss, and for NaN."""
    is_finite = np.isfinite(validation.losses(model))
    if not is_finite.all():
        raise ValueError(
            "`validation_data` must have finite losses before the training. Received: "
            f"{(~is_finite).sum():,} of {is_finite.size:,} examples whose loss is NaN or "
            "infinite. Look for such numbers in the inputs, the targets and the weights."
        )
    if isinstance(data, (tuple, list)) and all(hasattr(part, "shape") for part in data):
        Validation(data[0][:1], data[1][:1], 1, "data").losses(model)


def point_of(
    model: keras.Model, pair: tuple[float, float], losses: np.ndarray
) -> dict[str, Any]:
    """The model's point of the path, as plain data.

    Args:
        model: with the weights that are judged.
        pair: tie strength and off-template strength.
        losses: of the validation examples, from `Validation.losses`.
    """
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
        "validation_loss": float(losses.mean()),
        "standard_error": float(error),
        "structure": structure,
    }
