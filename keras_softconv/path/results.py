"""What was found along a path of strengths: the choice, the weights, the picture."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_softconv.compat import keras


@dataclass(frozen=True)
class RegularizationPath:
    """What `regularization_path` found, strongest strengths first.

    Args:
        points: a dict of plain numbers for each pair of strengths: `tie_strength`,
            `off_template_strength`, `loss` (training, with penalties), `validation_loss`
            (without), `standard_error` of that over the validation examples, `epoch`, the
            number of epochs that the point was trained for, `epochs`, the number that its
            training had, and `structure`, by layer path what `structure_numbers` says.
            Where training diverged the losses are NaN or infinite; other points do not
            suffer from that.
        weights: the model's weights at each point, as `get_weights` gives them; empty if
            they were not kept.
    """

    points: list[dict[str, Any]]
    weights: list[list[np.ndarray]] = field(default_factory=list, repr=False)

    @property
    def best(self) -> int:
        """Index of the point with the least validation loss."""
        losses = np.array([point["validation_loss"] for point in self.points])
        if not np.isfinite(losses).any():
            raise ValueError(
                "Training diverged at every point of the path: no validation loss is "
                "finite. Lower the learning rate, or the strengths."
            )
        return int(np.nanargmin(np.where(np.isfinite(losses), losses, np.nan)))

    @property
    def one_standard_error(self) -> int:
        """Index of the strongest point within one standard error of the best.

        The simplest model that is not clearly worse (Breiman et al., "Classification and
        regression trees", 1984).
        """
        best = self.points[self.best]
        limit = best["validation_loss"] + best["standard_error"]
        losses = [point["validation_loss"] for point in self.points]
        return next(index for index, loss in enumerate(losses) if loss <= limit)

    def restore(self, model: keras.Model, index: int) -> None:
        """Give a model of the same make the weights and strengths of a point."""
        if not self.weights:
            raise ValueError(
                "The weights along the path were not kept. Call `regularization_path` "
                "with `keep_weights=True`."
            )
        model.set_weights(self.weights[index])

    def plot(self, axes: Any = None) -> Any:
        """Errors against strength, with the structure along them; matplotlib's axes.

        Args:
            axes: where to draw; None for a new figure, `axes.figure`.

        Raises:
            ImportError: without matplotlib, which the package does not require.
        """
        pyplot = _pyplot()
        axes = pyplot.subplots(layout="constrained")[1] if axes is None else axes
        strengths, label = self._abscissa()
        losses, errors = (
            np.array([point[name] for point in self.points])
            for name in ("validation_loss", "standard_error")
        )
        lines = [axes.errorbar(strengths, losses, errors, fmt="o-", capsize=3)]
        lines[0].set_label("validation loss, standard error")
        for index, style, name in (
            (self.best, "-", "best"),
            (self.one_standard_error, "--", "within one standard error"),
        ):
            line = axes.axvline(strengths[index], color="gray", linestyle=style, label=name)
            lines.append(line)
        axes.set(xscale="symlog" if 0 in strengths else "log")
        axes.set(xlabel=label, ylabel="loss")
        lines += self._plot_structure(axes.twinx(), strengths)
        axes.legend(handles=lines, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)
        return axes

    def _abscissa(self) -> tuple[np.ndarray, str]:
        """The strength that changes."""
        ties = np.array([point["tie_strength"] for point in self.points])
        if (ties == ties[0]).all():
            off = [point["off_template_strength"] for point in self.points]
            return np.array(off), "off-template strength"
        return ties, "tie strength"

    def _plot_structure(self, axes: Any, strengths: np.ndarray) -> list[Any]:
        lines = []
        for path in self.points[0]["structure"]:
            for name, style in (("convolution_share", ":"), ("off_template_mass", "-.")):
                values = [point["structure"][path][name] for point in self.points]
                label = f"{path}: {name.replace('_', ' ')}"
                color = f"C{1 + len(lines)}"
                lines += axes.plot(strengths, values, style, color=color, label=label)
        axes.set(ylim=(-0.02, 1.02), ylabel="share")
        return lines


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            "`RegularizationPath.plot` draws with matplotlib, which is not installed. "
            "`pip install matplotlib`, or draw `path.points` yourself."
        ) from error
    return pyplot
