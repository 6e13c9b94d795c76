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
    variances = [family.var() for family in members] or [0.0]
    return {
        "family_variance": within / max((ids >= 0).sum(), 1),
        "family_variance_min": min(variances),
        "family_variance_max": max(variances),
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


def energies(kernel: np.ndarray, ids: np.ndarray) -> dict[str, float]:
    kernel = kernel.astype("float64")
    members = families(kernel, ids)
    return {
        "convolution": sum(family.size * family.mean() ** 2 for family in members),
        "family": sum(((family - family.mean()) ** 2).sum() for family in members),
        "off_template": (kernel[ids < 0] ** 2).sum(),
    }


def energies_of_position(
    kernel: np.ndarray, ids: np.ndarray, position: tuple[int, ...]
) -> tuple[float, float]:
    """Of its members' distances from their family means, and of what is off template."""
    kernel = kernel.astype("float64")
    at = (..., *position, slice(None))
    means = np.zeros(kernel.shape)
    for tap in np.unique(ids[ids >= 0]):
        means[ids == tap] = kernel[ids == tap].mean()
    shades, is_member = (kernel - means)[at], ids[at] >= 0
    return (shades[is_member] ** 2).sum(), (kernel[at][~is_member] ** 2).sum()


def scores(kernel: np.ndarray, ids: np.ndarray, conv_shape: tuple) -> np.ndarray:
    """Of every entry of the dense kernel, group by group; NaN off the template."""
    kernel = kernel.astype("float64")
    # An output at the border sees fewer inputs than the Conv kernel has taps for it.
    inputs = tuple(range(len(conv_shape) - 1))
    seen = (ids >= 0).sum(axis=inputs)  # [*output_grid, filters]
    at_border = np.broadcast_to(seen < np.prod(conv_shape[:-1]), kernel.shape)
    away, found = np.full(kernel.shape, np.nan), np.full(kernel.shape, np.nan)
    groups = {
        (tap, border): group
        for tap in np.unique(ids[ids >= 0])
        for border in (False, True)
        if (group := (ids == tap) & (at_border == border)).any()
    }
    spread, corrected = {}, []
    for key, group in groups.items():
        n = group.sum()
        peers = group if n >= 3 else ids == key[0]
        away[group] = np.abs(kernel[group] - np.median(kernel[peers]))
        spread[key] = 1.4826 * np.median(away[group]) * n / (n - 0.8)
        if peers.sum() > 1:
            corrected.extend(away[group] * peers.sum() / (peers.sum() - 0.8))
    # Only groups of three members or more have a spread of their own.
    judges = {tap: [] for tap, _ in groups}
    for (tap, border), group in groups.items():
        if group.sum() >= 3:
            judges[tap].append((tap, border))
    widest = [max(spread[key] for key in keys) for keys in judges.values() if keys]
    typical = np.median(widest) if widest else 0
    if typical == 0 and corrected:
        typical = 1.2533 * np.mean(corrected)
    for (tap, _), group in groups.items():
        squares = [
            (n * spread[key] ** 2 + 4 * typical**2) / (n + 4)
            for key in judges[tap]
            for n in [groups[key].sum()]
        ]
        sigma2 = max(squares, default=typical**2)
        sigma = np.sqrt(sigma2 + (kernel[ids >= 0] ** 2).mean() / 350**2)
        found[group] = away[group] / sigma if sigma else 0.0
    return found
