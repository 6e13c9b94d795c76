"""The colours of the pictures: a hue for each tap, a shade for each member.

The hues are Paul Tol's and Okabe and Ito's, moved apart until deuteranopic and protanopic
readers can tell every two of them, and all from the off-template hue.
"""

import numpy as np

# Reds, Blues, Purples and Greys first, as in the question that began this project.
FAMILY_COLOURS = (
    "#B72B48",
    "#3183CB",
    "#803D91",
    "#858585",
    "#59A04C",
    "#4EBCD0",
    "#E392AA",
    "#8A5A2A",
    "#ABAF4D",
)
OFF_TEMPLATE_COLOUR = "#EE9A00"
DIVERGING = "RdBu_r"
INK = "#222222"
PAPER = "#F1F1F1"  # not white, as a weight of zero is
NO_WEIGHT = "#D4D4D4"
HATCHING = "#BBBBBB"

# How far the last shades go towards white and towards black.
LIGHTEST, DARKEST = 0.75, 0.55
CONTRAST = 0.6


def family_colours(numbers: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """The colours of template weights.

    Args:
        numbers: of their taps in the window; colours repeat after the ninth.
        deviations: from their family's mean, from -1 (lightest) to 1 (darkest).

    Returns:
        RGB values from 0 to 1, `(..., 3)`, of the arguments' shape when broadcast.
    """
    middle = np.array(list(map(_rgb, FAMILY_COLOURS)))[numbers % len(FAMILY_COLOURS)]
    lighter = _amount(-deviations) * LIGHTEST
    darker = _amount(deviations) * DARKEST
    return (middle * (1 - lighter) + lighter) * (1 - darker)


def off_template_colours(sizes: np.ndarray) -> np.ndarray:
    """The colours of off-template weights, from 0 (white) to 1."""
    return 1 - _amount(sizes) * (1 - np.array(_rgb(OFF_TEMPLATE_COLOUR)))


def weight_colours(
    numbers: np.ndarray,
    on_template: np.ndarray,
    deviations: np.ndarray,
    sizes: np.ndarray,
) -> np.ndarray:
    """The colours of all weights: `family_colours` on the template, and the others."""
    families = family_colours(numbers, deviations)
    return np.where(on_template[..., None], families, off_template_colours(sizes))


def relative(values: np.ndarray, reach: float) -> np.ndarray:
    """Values as multiples of the largest, and 0 where all are."""
    return values / reach if reach else np.zeros_like(values)


def _amount(sizes: np.ndarray) -> np.ndarray:
    # By a power: beside one problem child all others would look alike.
    sizes = np.nan_to_num(np.asarray(sizes, "float64"))
    return np.clip(sizes, 0, 1)[..., None] ** CONTRAST


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
