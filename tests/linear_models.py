"""A SoftConv layer without activation is a linear model: its optimum, in float64 NumPy.

The columns of the design are the weights themselves: those that nothing penalises, shared
kernel and shared bias, and the deviations of kernel and biases, which have their norms.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import oracle
from keras.ops import convert_to_numpy as to_numpy
from sklearn.isotonic import isotonic_regression
from soft_models import dense_deviations, numpy_weights


class Absolute:
    """`sum |x|`, its proximal step and its dual norm."""

    def value(self, x):
        return np.abs(x).sum()

    def step(self, x, size):
        return np.sign(x) * np.maximum(np.abs(x) - size, 0)

    def dual(self, x):
        return np.abs(x).max()


class Euclidean:
    def value(self, x):
        return np.linalg.norm(x)

    def step(self, x, size):
        norm = np.linalg.norm(x)
        return x * max(norm - size, 0) / norm if norm else x

    dual = value


class Pairwise:
    """`sum |x_i - x_j|` of all pairs, the largest `g @ x` of any permutation g of
    n - 1, n - 3, ..., 1 - n; blind to what all have in common."""

    def value(self, x):
        return np.abs(x[:, None] - x).sum() / 2

    def step(self, x, size):
        order = np.argsort(x)
        result = np.empty_like(x)
        result[order] = isotonic_regression(x[order] - size * self._slopes(x.size))
        return result

    def dual(self, x):
        assert abs(x.sum()) < 1e-9
        largest = np.cumsum(np.sort(x)[::-1])[:-1]
        allowed = np.cumsum(-self._slopes(x.size))[:-1]
        return (largest / allowed).max(initial=0)

    def _slopes(self, count):
        return np.arange(1, count + 1) * 2 - count - 1.0


@dataclass
class Block:
    """The norm of some of the deviations, times a strength."""

    places: np.ndarray
    norm: object
    strength: float


class LinearModel:
    """Least squares with a layer of this case: mean squared error, penalties.

    Args:
        case: the convolution.
        inputs, targets: of a batch, channels last.
        halo: deviations further away stay zero.
    """

    def __init__(self, case, inputs, targets, halo=None):
        self.ids = oracle.family_ids(case)
        rows = len(inputs)
        *_, filters = targets.shape
        positions = targets[0].size // filters
        self._bias_shape = (positions, filters)
        self.targets = targets.astype("float64").ravel()
        inputs = inputs.reshape(rows, -1).astype("float64")
        of_kernel = np.kron(inputs, np.eye(targets[0].size))
        families = self.ids.max() + 1
        shared = of_kernel @ (self.ids.reshape(-1, 1) == np.arange(families))
        if halo is not None:
            of_kernel = of_kernel * oracle.within_halo(case, halo).ravel()
        of_biases = np.kron(np.ones((rows, 1)), np.eye(targets[0].size))
        of_shared_bias = np.kron(np.ones((rows * positions, 1)), np.eye(filters))
        self.designs = {
            "shared_kernel": shared,
            "deviations": of_kernel,
            "shared_bias": of_shared_bias,
            "bias_deviations": of_biases,
        }
        self.free = np.hstack([shared, of_shared_bias])
        self.penalized = np.hstack([of_kernel, of_biases])

    # Which deviations are which.

    @cached_property
    def is_tie(self):
        """Of all deviations, those of the biases last."""
        return np.append(self.ids.ravel() >= 0, np.ones(self._bias_shape, bool))

    def blocks_by_family(self, norm, strength) -> list[Block]:
        """The families, and after them the biases of each filter."""
        filters = np.arange(self._bias_shape[1])
        of_biases = self.ids.max() + 1 + np.broadcast_to(filters, self._bias_shape)
        family = np.append(self.ids.ravel(), of_biases)
        places = [np.flatnonzero(family == i) for i in range(family.max() + 1)]
        return [Block(members, norm, strength) for members in places]

    def block_of_ties(self, norm, strength) -> Block:
        return Block(np.flatnonzero(self.is_tie), norm, strength)

    def block_off_template(self, norm, strength) -> Block:
        return Block(np.flatnonzero(~self.is_tie), norm, strength)

    # Losses.

    def gradients(self, weights) -> dict[str, np.ndarray]:
        """Of the mean squared error, by the names of the flat weights."""
        outputs = sum(x @ weights[name] for name, x in self.designs.items())
        slope = 2 * (outputs - self.targets) / self.targets.size
        return {name: x.T @ slope for name, x in self.designs.items()}

    def objective(self, layer, blocks) -> float:
        """What the layer's own weights make of it."""
        weights = flat_weights(layer)
        outputs = sum(x @ weights[name] for name, x in self.designs.items())
        return np.mean((outputs - self.targets) ** 2) + total(
            blocks, deviations_of(weights)
        )

    # Optima.

    def ridge_optimum(self, strengths) -> tuple[np.ndarray, np.ndarray]:
        """Dense kernel and biases, by the normal equations.

        Args:
            strengths: of the squared ties and of the squared off-template weights.
        """
        design = np.hstack([self.free, self.penalized])
        size = self.targets.size
        penalty = np.zeros(design.shape[1])
        penalty[self.free.shape[1] :] = np.where(self.is_tie, *strengths)
        normal = design.T @ design / size + np.diag(penalty)
        found = np.linalg.solve(normal, design.T @ self.targets / size)
        free, deviations = np.split(found, [self.free.shape[1]])
        shared, shared_bias = np.split(free, [self.ids.max() + 1])
        deviations, of_biases = np.split(deviations, [self.ids.size])
        shared = np.where(self.ids < 0, 0.0, shared[self.ids])
        kernel = shared + deviations.reshape(self.ids.shape)
        return kernel, shared_bias + of_biases.reshape(self._bias_shape)

    def optimum(self, blocks, gap=1e-7) -> tuple[float, np.ndarray]:
        """Smallest objective, to the relative gap that its dual proves, and deviations.

        Beck and Teboulle's accelerated proximal gradient, begun anew where it overshoots,
        after what is not penalised has been projected out.
        """
        basis = np.linalg.qr(self.free)[0]
        design = self.penalized - basis @ (basis.T @ self.penalized)
        targets = self.targets - basis @ (basis.T @ self.targets)
        size = self.targets.size
        step = size / 2 / np.linalg.norm(design, 2) ** 2
        found = ahead = np.zeros(design.shape[1])
        speed = 1.0
        for iteration in range(200_000):
            gradient = -2 / size * design.T @ (targets - design @ ahead)
            before, found = found, ahead - step * gradient
            for block in blocks:
                of_block = found[block.places]
                found[block.places] = block.norm.step(of_block, step * block.strength)
            if (ahead - found) @ (found - before) > 0:
                speed = 1.0
            faster = (1 + np.sqrt(1 + 4 * speed**2)) / 2
            ahead = found + (speed - 1) / faster * (found - before)
            speed = faster
            if iteration % 100 == 0:
                primal, dual = self._bounds(design, targets, found, blocks)
                if primal - dual < gap * primal:
                    return primal, found
        raise AssertionError(f"{primal} is not proven to be the optimum: {dual}")

    def _bounds(self, design, targets, deviations, blocks) -> tuple[float, float]:
        """The objective, and what it cannot fall below (Fenchel's dual)."""
        size = targets.size
        residual = targets - design @ deviations
        primal = np.mean(residual**2) + total(blocks, deviations)
        dual_point = 2 / size * residual
        pull = design.T @ dual_point
        excess = max(b.norm.dual(pull[b.places]) / b.strength for b in blocks)
        dual_point = dual_point / max(excess, 1)
        return primal, dual_point @ targets - size / 4 * dual_point @ dual_point


def total(blocks, deviations) -> float:
    return sum(b.strength * b.norm.value(deviations[b.places]) for b in blocks)


def flat_weights(layer) -> dict[str, np.ndarray]:
    """Its weights by name, flat and in float64, the deviations in the dense form."""
    weights = numpy_weights(layer) | {"deviations": dense_deviations(layer)}
    return {name: weight.ravel() for name, weight in weights.items()}


def deviations_of(weights) -> np.ndarray:
    return np.append(weights["deviations"], weights["bias_deviations"])


def relative_error(found, expected) -> float:
    found = to_numpy(found).astype("float64").ravel()
    return np.linalg.norm(found - expected.ravel()) / np.linalg.norm(expected)
