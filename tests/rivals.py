"""A random search for something better than a proximal step.

Minimised is `1/2 sum((z - weights)^2 / step) + penalty(z)`, here computed in float64.
"""

import numpy as np


def rivals(solution, weights, random):
    """Others near and far, some with zeros and ties."""
    shape = solution.shape
    lone = random.permutation(np.eye(1, solution.size, dtype=bool)[0]).reshape(shape)
    some = random.random(shape) < random.random()
    for scale in (1e-3, 1e-2, 0.1, 1.0):
        noise = scale * random.normal(size=shape)
        yield solution + noise
        yield solution * (1 + noise)
        yield solution + noise * lone
        yield solution + scale * (weights - solution)
    for part in (lone, some, ~lone):
        yield np.where(part, 0, solution)
        yield np.where(part, weights * random.random(shape), solution)
    for axis in range(solution.ndim):
        one = np.take(solution, [random.integers(shape[axis])], axis)
        yield np.where(some & ~np.isnan(one), one, solution)
        here = np.arange(shape[axis]) == random.integers(shape[axis])
        here = here.reshape(-1, *[1] * (solution.ndim - 1 - axis))
        yield np.where(here, 0, solution)


def assert_nothing_is_better(
    definition, place, weights, step, solution, rounds=20, **state
):
    weights, step, solution = (np.asarray(x, "float64") for x in (weights, step, solution))

    def objective(x):
        distance = np.nansum((x - weights) ** 2 / step) / 2
        return distance + definition(x, place, **state)

    least = objective(solution)
    # What the last bits of float32 may cost, and those of the definition.
    slack = 1e-6 * least + np.nansum((2e-7 * weights) ** 2 / step) + 1e-14
    random = np.random.default_rng(0)
    for _ in range(rounds):
        for rival in rivals(solution, weights, random):
            rival = np.where(np.isnan(solution), np.nan, rival)
            assert objective(rival) >= least - slack
