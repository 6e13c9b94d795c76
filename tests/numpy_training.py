"""Training with proximal steps in float64 NumPy, on a linear model with lassos.

The arguments are those of Keras's optimizers, with rates as functions of the step.
"""

from copy import deepcopy

import numpy as np
from linear_models import flat_weights


def soft_threshold(x, threshold):
    return np.sign(x) * np.maximum(np.abs(x) - threshold, 0)


class Adam:
    def __init__(self, beta_1=0.9, beta_2=0.999, epsilon=1e-7, amsgrad=False):
        self.betas, self.epsilon, self.amsgrad = (beta_1, beta_2), epsilon, amsgrad
        self.means, self.squares, self.largest = {}, {}, {}

    def __call__(self, name, gradient, rate, step):
        """How far the weights go, and the step size of each."""
        first, second = self.betas
        zeros = np.zeros_like(gradient)
        mean = first * self.means.get(name, zeros) + (1 - first) * gradient
        square = second * self.squares.get(name, zeros) + (1 - second) * gradient**2
        self.means[name], self.squares[name] = mean, square
        self.largest[name] = np.maximum(self.largest.get(name, zeros), square)
        scale = np.sqrt(self.largest[name] if self.amsgrad else square) + self.epsilon
        # The mean is corrected for its beginning, so that of a lasting 1 is 1 at once.
        sizes = rate * np.sqrt(1 - second**step) / scale
        return -sizes * mean / (1 - first**step), sizes


class SGD:
    def __init__(self, momentum=0.0, nesterov=False):
        self.momentum, self.nesterov = momentum, nesterov
        self.velocities, self.reaches = {}, {}

    def __call__(self, name, gradient, rate, step):
        momentum = self.momentum
        velocity = momentum * self.velocities.get(name, 0.0) - rate * gradient
        reach = momentum * self.reaches.get(name, 0.0) + rate
        self.velocities[name], self.reaches[name] = velocity, reach
        if self.nesterov:
            return momentum * velocity - rate * gradient, momentum * reach + rate
        return velocity, reach


def clipped(gradients, clipnorm=None, clipvalue=None, global_clipnorm=None):
    """Of all variables, by name."""
    if clipvalue:
        return {n: np.clip(g, -clipvalue, clipvalue) for n, g in gradients.items()}
    norms = {name: np.linalg.norm(gradient) for name, gradient in gradients.items()}
    if global_clipnorm:
        norms = dict.fromkeys(norms, np.linalg.norm(list(norms.values())))
    limit = clipnorm or global_clipnorm or np.inf
    return {n: g * min(1, limit / norms[n]) for n, g in gradients.items()}


def kept_shares(clipped, gradient):
    """How much of a gradient clipping has left of it: the step is made as short."""
    is_zero = gradient == 0
    return np.where(is_zero, 1, clipped / np.where(is_zero, 1, gradient))


def train(
    layer, batches, strengths, *, rule, learning_rate, is_proximal=True,
    weight_decay=0.0, gradient_accumulation_steps=1, use_ema=False, ema_momentum=0.99,
    **clipping,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Weights after one pass over the batches, by name, flat; the layer is not touched.

    Args:
        layer: the weights to begin with.
        batches: a `LinearModel` for each.
        strengths: of the lassos on ties and off the template, for each batch.
        rule: an `Adam` or `SGD` that has not begun.
        learning_rate: a number or a function of the iteration.
        is_proximal: or the kinks are left in the gradient.
    """
    rule, weights = deepcopy(rule), flat_weights(layer)
    averages, kept = dict(weights), []
    for iteration, (batch, lasso) in enumerate(zip(batches, strengths, strict=True)):
        thresholds = thresholds_of(batch, weights, lasso)
        gradients = batch.gradients(weights)
        if not is_proximal:
            for name, weight in weights.items():
                gradients[name] = gradients[name] + thresholds[name] * np.sign(weight)
        kept.append(gradients)
        step, is_between = divmod(iteration + 1, gradient_accumulation_steps)
        if not is_between:
            means = {name: np.mean([g[name] for g in kept], axis=0) for name in weights}
            kept = []
            rate = learning_rate(iteration) if callable(learning_rate) else learning_rate
            for name, gradient in clipped(means, **clipping).items():
                move, sizes = rule(name, gradient, rate, step)
                sizes = sizes * kept_shares(gradient, means[name])
                moved = weights[name] * (1 - weight_decay * rate) + move
                if is_proximal:
                    moved = soft_threshold(moved, sizes * thresholds[name])
                weights[name] = moved
        memory = ema_momentum if iteration else 0.0
        for name, weight in weights.items():
            averages[name] = memory * averages[name] + (1 - memory) * weight
    return averages if use_ema else weights


def thresholds_of(batch, weights, strengths) -> dict[str, np.ndarray]:
    """The lasso on each weight."""
    thresholds = dict.fromkeys(weights, 0.0)
    thresholds["deviations"] = np.where(batch.ids.ravel() >= 0, *strengths)
    thresholds["bias_deviations"] = strengths[0]
    return thresholds
