"""What soft layers do by default, beside convolutions, on a panel of tasks.

    python experiments/defaults.py [--quick] [--seeds 5] [--write]

Each network is trained with convolutions, and with soft layers in their place: from the
same first weights, with the same batches, rate and number of steps. Of each the weights of
the round with the least validation loss are kept. Nothing is tuned. Numbers are changes of
the test loss, penalties left out, against the network of convolutions, in %: mean and
standard error over seeds.

The second table is about the classifiers, and asks how wide a prior to guess. A ridge has
the factor 1 / (2 N tau^2), with N examples; tau is a share of the standard deviation with
which `glorot_uniform` draws the kernel of the convolution.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from comparison import Found, errors, mean_and_error, standard_error, tuned
from drawn import Data
from panel import TASKS
from study import Method, Study, search
from twins import Twins

from keras_softconv.diagnostics.tables import markdown_table
from keras_softconv.layers import BaseSoftConv

CONVOLUTION, DEFAULT, CORRECT = "convolution", "by default", "correct, by default"
CONSTANTS = (0.001, 0.1, 1.0)
SHARES = (0.03, 0.1, 0.3, 1.0)
BESIDE = 0.1  # share of the weights whose share is not varied
OF_SHARES = "shares: "
SHARE_SEEDS = 3
# Variants of other classifiers, and the one that takes longest.
WITHOUT_SHARES = (
    "sensors, N = 1000",
    "sensors, 64 x 8, N = 300, 100 steps",
    "digit classes, other writers, N = 1000",
)
QUICK = ("digit classes, N = 100", "denoising digits, N = 50")
BEYOND = 2  # standard errors


@dataclass(frozen=True)
class Convolutional:
    """The network of convolutions, which is trained before the soft ones."""

    twins: Twins
    name: str = CONVOLUTION

    def fits(self, data: Data) -> list[dict]:
        return [{"setting": None, **self.twins.begin(data)}]


@dataclass(frozen=True)
class Soft:
    """The soft network with some factors.

    Args:
        name: in the results.
        twins: the two networks.
        factors: from data and a soft layer to the layer's factors.
    """

    name: str
    twins: Twins
    factors: Callable[[Data, BaseSoftConv], tuple[float, float]]

    def fits(self, data: Data) -> list[dict]:
        fit = self.twins.train_soft(lambda layer: self.factors(data, layer))
        return [{"setting": None, **fit}]


def default_factors(layer: BaseSoftConv) -> tuple[float, float]:
    """Those of a layer that is given no regularizers."""
    plain = type(layer)(filters=1, kernel_size=1)
    return float(plain.tie_regularizer.l2), float(plain.off_template_regularizer.l2)


def factor_of_share(layer: BaseSoftConv, share: float, examples: int) -> float:
    """`1 / (2 N tau^2)`, with tau a share of the standard deviation of `glorot_uniform`."""
    *taps, inputs, filters = layer.weight_sharing.geometry.shared_kernel_shape
    variance = 2 / (np.prod(taps) * (inputs + filters))
    return float(1 / (2 * examples * share**2 * variance))


def methods(twins: Twins) -> list[Method]:
    """The convolution, the defaults, and other constants."""

    def of_constant(constant: float) -> Soft:
        return Soft(constant_name(constant), twins, lambda *_: (constant, constant))

    by_default = Soft(DEFAULT, twins, lambda _, layer: default_factors(layer))
    return [Convolutional(twins), by_default, *map(of_constant, CONSTANTS)]


def constant_name(constant: float) -> str:
    return f"L2({constant:g})"


def methods_of_shares(twins: Twins) -> list[Method]:
    """The convolution, and pairs of shares, of which one is varied at a time."""

    def of_pair(pair: tuple[float, float]) -> Soft:
        def factors(data: Data, layer: BaseSoftConv) -> tuple[float, float]:
            examples = len(data.train[0])
            ties, off_template = (factor_of_share(layer, s, examples) for s in pair)
            return ties, off_template

        return Soft(pair_name(*pair), twins, factors)

    return [Convolutional(twins), *map(of_pair, pairs(twins))]


def pairs(twins: Twins) -> list[tuple[float, float]]:
    """Shares of ties and of off-template weights, if there are any."""
    chosen = [pair for pair in product(SHARES, SHARES) if BESIDE in pair]
    if twins.has_off_template:
        return chosen
    return [pair for pair in chosen if pair[1] == BESIDE]


def pair_name(ties: float, off_template: float) -> str:
    return f"ties {ties:g}, off-template {off_template:g}"


def measure(options: argparse.Namespace) -> Found:
    tasks = {name: TASKS[name] for name in (QUICK if options.quick else TASKS)}
    twins = {name: Twins(task, options.quick) for name, task in tasks.items()}

    def draw(pair: Twins, seed: int) -> Data:
        return pair.task.draw(seed)

    found = search(twins, draw, methods, options.seeds)
    classifiers = {
        OF_SHARES + name: twins[name]
        for name, task in tasks.items()
        if task.is_classifier and name not in WITHOUT_SHARES
    }
    seeds = min(SHARE_SEEDS, options.seeds)
    return found | search(classifiers, draw, methods_of_shares, seeds)


def changes(of_task: dict[str, list], name: str) -> np.ndarray:
    """Of the test loss against the convolution's, in %, seed by seed."""
    mine, theirs = errors(tuned(of_task[name])), errors(tuned(of_task[CONVOLUTION]))
    return 100 * (mine / theirs - 1)


def is_worse(change: np.ndarray) -> bool:
    """Whether the loss is larger by more than two standard errors."""
    return bool(change.mean() > BEYOND * standard_error(change))


def render(found: Found) -> dict[str, str]:
    """The panel, and the shares."""
    panel = {name: fits for name, fits in found.items() if not is_of_shares(name)}
    shares = {name: fits for name, fits in found.items() if is_of_shares(name)}
    return {"defaults": render_panel(panel), "shares": render_shares(shares)}


def is_of_shares(name: str) -> bool:
    return name.startswith(OF_SHARES)


def render_panel(found: Found) -> str:
    """A row for each task; losses beyond two standard errors are bold."""
    names = (DEFAULT, *map(constant_name, CONSTANTS))
    rows = [["task", f"{CONVOLUTION}: loss", *names, f"{CONVOLUTION}: correct", CORRECT]]
    for task, fits in found.items():
        level = errors(tuned(fits[CONVOLUTION])).mean()
        cells = [cell(changes(fits, name)) for name in names]
        rows.append([task, f"{level:.3g}", *cells, *correct(fits)])
    return markdown_table(rows)


def correct(fits: dict[str, list]) -> list[str]:
    """% of test examples, of the convolution and by default; empty for regressions."""
    best = [tuned(fits[name]) for name in (CONVOLUTION, DEFAULT)]
    if "correct" not in best[0][0]:
        return ["", ""]
    return [f"{np.mean([fit['correct'] for fit in some]):.1f}" for some in best]


def cell(change: np.ndarray) -> str:
    text = mean_and_error(change, 1)
    return f"**{text}**" if is_worse(change) else text


def render_shares(found: Found) -> str:
    """A row for each classifier."""
    of_ties = [pair_name(share, BESIDE) for share in SHARES]
    of_others = [pair_name(BESIDE, share) for share in SHARES]
    titles = [f"{kind} {share:g}" for kind in ("ties", "off") for share in SHARES]
    rows = [["task", *titles]]
    for task, fits in found.items():
        cells = [
            mean_and_error(changes(fits, name), 1) if name in fits else ""
            for name in (*of_ties, *of_others)
        ]
        rows.append([task.removeprefix(OF_SHARES), *cells])
    return markdown_table(rows)


if __name__ == "__main__":
    Study("defaults", __doc__, measure, render).main()
