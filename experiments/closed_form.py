"""The optimum of a linear layer with ridge penalties, solved for in float64.

With inputs x (a 1 behind them for the biases) and targets y of N examples and n outputs,
and for each output o a column of families, of penalties and of weights

    w_o = E_o s + d_o
    loss = sum_o ||y_o - x w_o||^2 / (N n) + sum_o d_o' diag(penalty_o) d_o

s is what generalized least squares make of it, d_o follows (Henderson's mixed model
equations). All outputs share x'x, so that a grid of strengths costs milliseconds.
"""

from dataclasses import dataclass

import numpy as np

from keras_softconv import SoftConv2D


@dataclass(frozen=True)
class Weights:
    """A kernel as a matrix from inputs to outputs, and its biases."""

    kernel: np.ndarray
    bias: np.ndarray

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        return inputs.reshape(len(inputs), -1) @ self.kernel + self.bias

    def error(self, inputs: np.ndarray, targets: np.ndarray) -> float:
        """Mean squared error."""
        return float(np.mean((self(inputs) - targets.reshape(len(targets), -1)) ** 2))


class RidgeProblem:
    """Examples for a layer, for which any ridge strengths are solved quickly.

    Args:
        layer: a built SoftConv2D; only its structure is used.
        inputs, targets: channels last.
    """

    def __init__(self, layer: SoftConv2D, inputs: np.ndarray, targets: np.ndarray) -> None:
        self.examples, self.outputs = len(inputs), targets[0].size
        ids = layer.family_ids().reshape(-1, self.outputs)
        biases = np.arange(self.outputs) % layer.filters + ids.max() + 1
        if not layer.use_bias:
            biases = np.full(self.outputs, -1)
        self.family_ids = np.vstack([ids, biases])  # (inputs + 1, outputs), -1 for none
        x = inputs.reshape(self.examples, -1).astype("float64")
        x = np.hstack([x, np.full((self.examples, 1), float(layer.use_bias))])
        y = targets.reshape(self.examples, -1).astype("float64")
        self._gram, self._moments = x.T @ x, x.T @ y
        families = np.arange(self.family_ids.max() + 1)
        # `(outputs, inputs + 1, families)`
        is_member = self.family_ids.T[:, :, None] == families
        self._membership = is_member.astype("float64")
        # Behind x'y of each output what each shared value makes of x'x.
        self._sides = np.concatenate(
            [self._moments.T[:, :, None], self._gram @ self._membership], axis=2
        )

    def solve(self, tie: float, off_template: float) -> Weights:
        """SoftConv: the strengths of squared ties and squared off-template weights.

        `inf` holds them at zero.
        """
        penalties = np.where(self.family_ids >= 0, tie, off_template)
        if self.family_ids[-1, 0] < 0:
            penalties[-1] = np.inf  # no biases
        return self._solve(penalties, self._membership)

    def solve_with_biases(self, bias_tie: float) -> Weights:
        """A convolution whose biases are tied softly, one for each output."""
        penalties = np.full(self.family_ids.shape, np.inf)
        penalties[-1] = bias_tie
        return self._solve(penalties, self._membership)

    def solve_without_sharing(self, template: float, off_template: float) -> Weights:
        """The same without a shared kernel, and with free biases.

        A dense layer with weight decay or, with `off_template=inf`, a locally connected
        one.
        """
        penalties = np.where(self.family_ids >= 0, template, off_template)
        penalties[-1] = 0.0 if self.family_ids[-1, 0] >= 0 else np.inf
        return self._solve(penalties, None)

    def solve_convolution(self, decay: float) -> Weights:
        """No deviations at all; weight decay of the convolution's own kernel."""
        design = self._membership
        is_bias = np.isin(np.arange(design.shape[2]), self.family_ids[-1])
        normal = np.einsum("opf,pq,oqg->fg", design, self._gram, design, optimize=True)
        size = self.examples * self.outputs
        normal += np.diag(np.where(is_bias, 0.0, size * decay))
        moments = np.einsum("opf,po->f", design, self._moments)
        weights = (design @ np.linalg.lstsq(normal, moments, rcond=1e-12)[0]).T
        return Weights(weights[:-1], weights[-1])

    def _solve(self, penalties: np.ndarray, shared: np.ndarray | None) -> Weights:
        """Weights with these penalties, `(inputs + 1, outputs)`."""
        # Deviations in units in which each has the same penalty: 0 for those held at zero.
        size = self.examples * self.outputs
        with np.errstate(divide="ignore"):
            scale = np.minimum(1 / np.sqrt(size * penalties.T), 1e4)[:, :, None]
        system = self._gram * scale * scale.transpose(0, 2, 1) + np.eye(len(self._gram))
        moments = self._moments.T[:, :, None]  # (outputs, inputs + 1, 1)
        sides = moments if shared is None else self._sides
        # The deviations that answer the targets and, with a minus, each shared value.
        answers = scale * np.linalg.solve(system, scale * sides)
        weights = answers[:, :, 0]
        if shared is not None:
            # What is left of them, once the deviations have taken their part.
            left = sides - self._gram @ answers
            equations = np.einsum("opf,opg->fg", shared, left, optimize=True)
            values = np.linalg.lstsq(equations[:, 1:], equations[:, 0], rcond=1e-12)[0]
            weights = weights + (shared - answers[:, :, 1:]) @ values
        return Weights(weights.T[:-1], weights.T[-1])
