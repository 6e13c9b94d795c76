"""Find the places where a convolution is wrong: the problem children.

A picture is convolved with stride 2, but at five of 64 output positions with another
filter, as if five sensors of an array were out of order. A SoftConv2D with lasso ties
learns from a few noisy examples; the report ranks the weights that stand out of their
family, and a picture shows where they are. With --rank 1 the same on a signal.

    python examples/problem_children.py [--rank 1] [--seeds 10] [--output children.png]
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_softconv import SoftConv1D, SoftConv2D, plots, structure_report
from keras_softconv.diagnostics import LayerReport
from keras_softconv.optimizers import ProximalAdam

PLANTED = 5
NOISE = 0.1
STEPS, EPOCHS = 100, 10
L1 = keras.regularizers.L1

Position = tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """A convolution to learn, from how many examples."""

    layer: type
    grid: tuple[int, ...]
    arguments: dict
    examples: int

    @property
    def output_grid(self) -> tuple[int, ...]:
        return self.soft_layer(None).compute_output_shape((None, *self.grid, 1))[1:-1]

    def soft_layer(self, ties) -> keras.Layer:
        # A halo of 0 keeps the template only: every output sees what it sees.
        return self.layer(
            1, **self.arguments, tie_regularizer=ties, halo=0, use_bias=False, name="soft"
        )


TASKS = {
    1: Task(SoftConv1D, (70,), {"kernel_size": 3}, examples=5),
    2: Task(SoftConv2D, (16, 16), {"kernel_size": 3, "strides": 2, "padding": "same"}, 20),
}


@dataclass(frozen=True)
class Draw:
    """Data, and what they were made of."""

    inputs: np.ndarray
    outputs: np.ndarray
    shared_kernel: np.ndarray
    planted: set[Position]


def draw(task: Task, seed: int) -> Draw:
    """A normal filter, and at some positions another one of variance 9 added to it."""
    rng = np.random.default_rng(seed)
    truth = task.soft_layer(None)
    truth.build((None, *task.grid, 1))
    shared_kernel = rng.normal(size=truth.shared_kernel.shape)
    places = rng.choice(np.prod(task.output_grid), PLANTED, replace=False)
    planted = np.unravel_index(places, task.output_grid)
    deviations = np.zeros(truth.deviations.shape)
    deviations[planted] = 3 * rng.normal(size=deviations[planted].shape)
    truth.set_weights([shared_kernel, deviations, *truth.get_weights()[2:]])
    inputs = rng.normal(size=(task.examples, *task.grid, 1)).astype("float32")
    outputs = keras.ops.convert_to_numpy(truth(inputs))
    outputs = outputs + NOISE * rng.normal(size=outputs.shape).astype("float32")
    positions = {tuple(map(int, position)) for position in zip(*planted, strict=True)}
    return Draw(inputs, outputs, shared_kernel, positions)


class Learner:
    """A compiled model that learns one draw after the other."""

    def __init__(self, task: Task, ties=None) -> None:
        layer = task.soft_layer(ties or L1(0.005))
        self.model = keras.Sequential([keras.Input((*task.grid, 1)), layer], name="array")
        self.layer = layer
        rate = keras.optimizers.schedules.CosineDecay(3e-2, STEPS * EPOCHS)
        steps = {} if keras.backend.backend() == "torch" else {"steps_per_execution": STEPS}
        self.model.compile(ProximalAdam(rate), "mse", **steps)

    def learn(self, data: Draw, seed: int) -> LayerReport:
        keras.utils.set_random_seed(seed)
        self.model.set_weights(keras.models.clone_model(self.model).get_weights())
        for variable in self.model.optimizer.variables:
            variable.assign(keras.ops.zeros_like(variable))
        often = (STEPS, *(1 for _ in data.inputs.shape[1:]))
        self.model.fit(
            np.tile(data.inputs, often),
            np.tile(data.outputs, often),
            batch_size=len(data.inputs),
            epochs=EPOCHS,
            shuffle=False,
            verbose=0,
        )
        return structure_report(self.layer)

    def error(self, data: Draw) -> float:
        """The largest error of the shared kernel."""
        learnt = keras.ops.convert_to_numpy(self.layer.shared_kernel)
        return float(np.abs(learnt - data.shared_kernel).max())


def most_deviant(report: LayerReport) -> list[Position]:
    """Output positions in the order of their first problem child."""
    positions = [child["position"] for child in report["problem_children"]]
    return list(dict.fromkeys(positions))[:PLANTED]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rank", type=int, choices=TASKS, default=2)
    parser.add_argument("--seeds", type=int, default=1, help="how many draws to try")
    parser.add_argument("--output", type=Path, default=Path("problem_children.png"))
    options = parser.parse_args()
    task = TASKS[options.rank]
    learner = Learner(task)
    progress = keras.utils.Progbar(options.seeds, unit_name="draw")
    right = 0
    for seed in reversed(range(options.seeds)):
        data = draw(task, seed)
        report = learner.learn(data, seed)
        right += set(most_deviant(report)) == data.planted
        progress.add(1)
    print(f"\n{report}\n")
    print(f"planted:      {sorted(data.planted)}")
    print(f"most deviant: {sorted(most_deviant(report))}")
    print(f"the planted ones are ranked first in {right} of {options.seeds} draws")
    plots.shades(learner.layer).savefig(options.output, dpi=120)
    print(f"Picture: {options.output}")


if __name__ == "__main__":
    main()
