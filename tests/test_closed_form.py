"""A linear layer with ridge penalties is a Gaussian linear model, and ends at its optimum.

The optimum is solved for in float64, from the family ids alone.
"""

import keras
import numpy as np
import pytest
from backends import BACKEND
from keras.regularizers import L2
from linear_models import LinearModel, relative_error
from soft_models import SOFT_CONVS

SAMPLES, STEPS = 40, 400
# At once, where Keras can.
STEPS_PER_EXECUTION = 1 if BACKEND == "torch" else 50
# Beside the errors, which are means over the outputs, the same in every case.
TIE, OFF = 0.5, 0.2

CASES = {
    "valid": ((4, 4), 2, 2, {"kernel_size": 3}),
    "strided": ((6, 5), 1, 2, {"kernel_size": (2, 3), "strides": (2, 1)}),
    "same": ((4, 4), 1, 2, {"kernel_size": 3, "padding": "same"}),
    "groups": ((3, 3), 2, 4, {"kernel_size": 2, "groups": 2}),
    "circular": ((4, 3), 1, 2, {"kernel_size": (3, 2), "padding": "circular"}),
    "signal": ((8,), 2, 2, {"kernel_size": 3, "dilation_rate": 2}),
}
# Every case is compiled anew.
QUICK = ["same", "groups", "signal"]
names = QUICK if BACKEND == "jax" else list(CASES)


def tasks(case, rng) -> tuple[np.ndarray, np.ndarray]:
    """Inputs, and targets that no convolution explains."""
    grid, channels, filters, arguments = case
    layer = SOFT_CONVS[len(grid)](filters, kernel_initializer="zeros", **arguments)
    shape = layer.compute_output_shape((SAMPLES, *grid, channels))
    inputs = rng.normal(size=(SAMPLES, *grid, channels)).astype("float32")
    kernel = rng.normal(size=(inputs[0].size, int(np.prod(shape[1:]))))
    outputs = inputs.reshape(SAMPLES, -1) @ kernel + rng.normal(size=kernel.shape[1])
    return inputs, outputs.reshape(shape).astype("float32")


def trained_layer(case, inputs, targets, **arguments) -> keras.Layer:
    """After gradient descent with momentum, all samples in each step."""
    grid, channels, filters, conv_arguments = case
    outputs = targets[0].size
    layer = SOFT_CONVS[len(grid)](
        filters, tie_regularizer=L2(TIE / outputs), kernel_initializer="zeros",
        off_template_regularizer=L2(OFF), **conv_arguments, **arguments,
    )  # fmt: skip
    model = keras.Sequential([keras.Input((*grid, channels)), layer])
    layer.off_template_strength.assign(1 / outputs)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)
    model.compile(optimizer, "mse", steps_per_execution=STEPS_PER_EXECUTION)
    optimizer.build(model.trainable_variables)  # or Keras traces its steps twice
    repeated = (np.concatenate([part] * 50) for part in (inputs, targets))
    model.fit(*repeated, batch_size=SAMPLES, shuffle=False, epochs=STEPS // 50, verbose=0)
    return layer


@pytest.mark.parametrize(
    ("name", "halo"),
    [
        *(
            pytest.param(name, None, marks=[] if name in QUICK else [pytest.mark.slow])
            for name in names
        ),
        pytest.param("same", 1, marks=pytest.mark.slow),
        ("signal", 1),
    ],
)
def test_ends_at_the_optimum_of_ridge_regression(name, halo, rng):
    case = CASES[name]
    inputs, targets = tasks(case, rng)
    layer = trained_layer(case, inputs, targets, halo=halo)
    model = LinearModel(case, inputs, targets, halo)
    ties, others = TIE / targets[0].size, OFF / targets[0].size
    kernel, bias = model.ridge_optimum((ties, others))
    assert relative_error(layer.kernel, kernel) < 1e-3
    assert relative_error(layer.bias, bias) < 1e-3
    # Either strength shows.
    for strengths in ((1.1 * ties, others), (ties, 1.1 * others)):
        assert relative_error(layer.kernel, model.ridge_optimum(strengths)[0]) > 2e-3
