"""The package's numbers in float64, from full-size family ids.

Slow, obvious and written without the package, which never forms such arrays.
"""

import numpy as np


def families(kernel: np.ndarray, ids: np.ndarray) -> list[np.ndarray]:
    """The members of each family that has any."""
    return [kernel[ids == tap] for tap in np.unique(ids[ids >= 0])]


def structure_numbers(kernel: np.ndarray, ids: np.ndarray) -> dict[str, float]:
    kernel = kernel.astype("float64")
    members = families(kernel, ids)
    off = kernel[ids < 0]
    energy = (kernel**2).sum()
    within = sum(((family - family.mean()) ** 2).sum() for family in members)
    between = sum(family.size * family.mean() ** 2 for family in members)
    mass = np.abs(kernel).sum()
    return {
        "family_variance": within / max((ids >= 0).sum(), 1),
        "off_template_mass": np.abs(off).sum() / mass if mass else 0.0,
        "convolution_share": between / energy if energy else 1.0,
    }


def penalties(
    weights: dict[str, np.ndarray], ids: np.ndarray, tie, off, strengths=(1.0, 1.0)
) -> dict[str, float]:
    """`tie` and `off` are functions of a flat array of deviations."""
    deviations = weights["deviations"]
    ties = tie(deviations[ids >= 0])
    if "bias_deviations" in weights:
        ties += tie(weights["bias_deviations"].ravel())
    return {
        "tie_penalty": strengths[0] * ties,
        "off_template_penalty": strengths[1] * off(deviations[ids < 0]),
    }
