"""The picture of `denoise_digits.py`: the path of strengths, and families of shades."""

from pathlib import Path

import keras
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Okabe and Ito's colours, told apart by colour-blind readers too.
COLOURS = {
    "Dense": "#D55E00",
    "Dense + weight decay": "#E69F00",
    "Conv2D": "#0072B2",
    "Locally connected": "#009E73",
    "SoftConv2D": "#000000",
}
# One hue for each of nine taps.
HUES = (
    "Reds",
    "Oranges",
    "YlOrBr",
    "Greens",
    "BuGn",
    "Blues",
    "Purples",
    "RdPu",
    "Greys",
)


def save_picture(
    path: Path, layer: keras.Layer, along: list[dict], levels: dict, size: int
) -> None:
    """Draw and save.

    Args:
        path: file to write.
        layer: a trained SoftConv2D with 3x3 taps and one filter.
        along: test errors by strength, in multiples of the rule of thumb.
        levels: test error of each tuned method.
        size: number of training images.
    """
    figure = plt.figure(figsize=(12, 4.8), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.25, 1))
    _draw_path(left.subplots(), along, levels, size)
    _draw_families(right, layer, size)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_path(axes: plt.Axes, along: list[dict], levels: dict, size: int) -> None:
    multiples = sorted({fit["multiple"] for fit in along})
    errors = [[f["test"] for f in along if f["multiple"] == m] for m in multiples]
    means = np.array([np.mean(e) for e in errors])
    spread = np.array([np.std(e) for e in errors])
    axes.fill_between(multiples, means - spread, means + spread, color="0.85", lw=0)
    axes.plot(multiples, means, "k.-", label="SoftConv2D, one strength for both penalties")
    for method, level in levels.items():
        is_soft = method == "SoftConv2D"
        how = "each strength tuned" if is_soft else "tuned"
        label, style = f"{method}, {how}: {level:.1f}", ":" if is_soft else "--"
        axes.axhline(level, color=COLOURS[method], ls=style, lw=1.3, label=label)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="strength, in multiples of the rule of thumb\n"
        "← a dense layer" + 30 * " " + "a convolution →",
        ylabel="test error, % of the noise variance",
        title=f"Denoising digits, {size} training images",
    )
    ticks = [t for t in (15, 20, 25, 30, 40, 50, 60, 80) if t < 1.3 * means.max()]
    axes.set_yticks(ticks, ticks)
    axes.minorticks_off()
    axes.legend(fontsize="small", framealpha=1)


def _draw_families(figure, layer: keras.Layer, size: int) -> None:
    figure.suptitle(
        "The learnt families: a hue for each entry of the 3x3 filter,\n"
        "a pixel for each output, darker where the weight is larger"
    )
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    ids = layer.family_ids()
    shades = _members_by_output(kernel, ids)  # [taps, rows, cols]
    means = np.nanmean(shades, axis=(1, 2), keepdims=True)
    reach = np.nanmax(np.abs(shades - means))
    for axes, tap, hue in zip(
        figure.subplots(3, 3).flat, shades - means, HUES, strict=True
    ):
        colours = matplotlib.colormaps[hue].with_extremes(bad="white")
        axes.imshow(tap, cmap=colours, vmin=-1.2 * reach, vmax=1.2 * reach)
        axes.set(xticks=[], yticks=[])
    for axes, mean in zip(figure.axes, means.ravel(), strict=True):
        axes.set_title(f"mean {mean.round(2) + 0.0:.2f}", fontsize="small", pad=2)
    figure.supxlabel(
        f"{size} training images; one scale for all: a family's mean ± {reach:.2f}\n"
        "blank: the weight would only see padding",
        fontsize="small",
    )


def _members_by_output(kernel: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Each family's members laid out over the output, NaN where there is none."""
    members = np.full((ids.max() + 1, *ids.shape[3:5]), np.nan)
    on_template = np.nonzero(ids >= 0)
    row, col = on_template[3:5]
    members[ids[on_template], row, col] = kernel[on_template]
    return members
