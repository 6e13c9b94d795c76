"""Denoise handwritten digits: how convolutional should the filter be?

The 8x8 digits that come with scikit-learn, with Gaussian noise of standard deviation
0.5 added, are to be restored by one linear layer. A convolution cannot know that digits
stand in the middle of the picture; a dense layer has 4096 weights to learn from few
examples. A SoftConv2D can be anything in between.

Every method is tuned on validation images: its penalties, and when to stop. What is
printed is the error on the last 597 images, which nothing was tuned on. A seed draws
training images, noise and initial weights, the same for every method.

    python examples/denoise_digits.py [--quick | --full] [--seeds 5] [--log-dir logs]
"""

import argparse
import json
import time
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from digit_pictures import save_picture
from sklearn.datasets import load_digits

from keras_softconv import SoftConv2D
from keras_softconv.callbacks import StructureMonitor

NOISE = 0.5
OUTPUTS = 64
STEPS = 50  # of one round, after which the validation error is looked at
BASELINES = ("Dense", "Dense + weight decay", "Conv2D")
METHODS = (*BASELINES, "Locally connected", "SoftConv2D")
L1, L2 = keras.regularizers.L1, keras.regularizers.L2


@dataclass(frozen=True)
class Effort:
    """How much to try; penalties of SoftConv2D are multiples of `rule_of_thumb`."""

    sizes: tuple[int, ...] = (50, 200)
    seeds: int = 5
    rounds: int = 7
    dense_decays: tuple[float, ...] = (3e-3, 1e-2)
    conv_decays: tuple[float, ...] = (1e-3,)
    local_decays: tuple[float, ...] = (1.0,)
    ridge_ties: tuple[float, ...] = (1.0,)
    lasso_ties: tuple[float, ...] = (0.3,)
    off_template: tuple[float, ...] = (6.0,)
    path: tuple[float, ...] = tuple(10.0 ** np.arange(-4, 7, 2))
    path_seeds: int = 1


EFFORTS = {
    "quick": Effort(
        sizes=(50,),
        seeds=2,
        rounds=4,
        dense_decays=(1e-2,),
        lasso_ties=(),
        path=(1e-4, 1.0, 1e4),
    ),
    "default": Effort(),
    "full": Effort(
        sizes=(50, 200, 1000),
        rounds=10,
        dense_decays=(3e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2),
        conv_decays=(1e-3, 1e-2),
        local_decays=(0.1, 0.3, 1.0, 3.0),
        ridge_ties=(0.3, 1.0),
        lasso_ties=(0.1, 0.3, 1.0),
        off_template=(3.0, 6.0, 12.0),
        path=tuple(10.0 ** np.arange(-5, 7)),
        path_seeds=3,
    ),
}


def draw(size: int, seed: int) -> dict[str, tf.data.Dataset]:
    """Noisy and clean images: `size` to train on, others to validate and test."""
    rng = np.random.default_rng(seed)
    clean = (load_digits().images / 16 - 0.3).astype("float32")[..., None]
    noisy = clean + NOISE * rng.normal(size=clean.shape).astype("float32")
    order = rng.permutation(1200)
    parts = {
        "train": order[:size],
        "validation": order[size:][: max(50, size // 4)],
        "test": np.arange(1200, len(clean)),
    }
    return {
        name: tf.data.Dataset.from_tensor_slices((noisy[part], clean[part]))
        .batch(200 if name == "train" else 1200)
        .cache()
        for name, part in parts.items()
    }


def rule_of_thumb(size: int) -> np.ndarray:
    """Ridge strengths of ties and off-template weights for `size` training images."""
    return np.array([5, 20]) / (size * OUTPUTS)


def dense(weight_decay: float | None = None) -> list[keras.Layer]:
    regularizer = weight_decay and L2(weight_decay)
    return [
        keras.layers.Flatten(),
        keras.layers.Dense(OUTPUTS, kernel_regularizer=regularizer),
        keras.layers.Reshape((8, 8, 1)),
    ]


def conv(weight_decay: float | None = None) -> list[keras.Layer]:
    regularizer = weight_decay and L2(weight_decay)
    return [keras.layers.Conv2D(1, 3, padding="same", kernel_regularizer=regularizer)]


def soft_conv(tie: keras.Regularizer) -> list[keras.Layer]:
    # Penalties of factor 1; the strength variables say how much of them.
    layer = SoftConv2D(
        1,
        3,
        padding="same",
        tie_regularizer=tie,
        off_template_regularizer=L2(1),
        name="soft",
    )
    return [layer]


class Contender:
    """A compiled model that is trained over and over, from fresh weights."""

    def __init__(self, layers: list[keras.Layer], rounds: int) -> None:
        self.rounds = rounds
        inputs = keras.Input((8, 8, 1))
        self.model = keras.Sequential([inputs, *layers], name="denoiser")
        rate = keras.optimizers.schedules.CosineDecay(1e-2, STEPS * rounds)
        self.model.compile(
            keras.optimizers.Adam(rate),
            loss="mse",
            metrics=["mse"],
            steps_per_execution=STEPS,
        )

    def fit(self, size: int, seed: int, multiples=None, callbacks=()) -> dict[str, float]:
        """Train with early stopping; errors in % of the noise variance."""
        data = draw(size, seed)
        keras.utils.set_random_seed(seed)
        self.model.set_weights(keras.models.clone_model(self.model).get_weights())
        for variable in self.model.optimizer.variables:
            variable.assign(keras.ops.zeros_like(variable))
        if multiples is not None:
            ties, off_template = rule_of_thumb(size) * multiples
            self.model.layers[-1].tie_strength.assign(ties)
            self.model.layers[-1].off_template_strength.assign(off_template)
        stop = keras.callbacks.EarlyStopping(
            "val_mse", patience=3, restore_best_weights=True
        )
        self.model.fit(
            data["train"].repeat(),
            steps_per_epoch=STEPS,
            epochs=self.rounds,
            validation_data=data["validation"],
            callbacks=[*callbacks, stop],
            shuffle=False,  # the images have been drawn at random
            verbose=0,
        )
        return {part: self._error(data[part]) for part in ("validation", "test")}

    def _error(self, images: tf.data.Dataset) -> float:
        mse = self.model.evaluate(images, verbose=0, return_dict=True)["mse"]
        return 100 * mse / NOISE**2


class LocallyConnected(Contender):
    """The same template with every weight on its own; the ties are its weight decay."""

    def __init__(self, rounds: int) -> None:
        layers = soft_conv(L2(1))
        super().__init__(layers, rounds)
        layers[0].kernel_initializer = keras.initializers.Zeros()
        layers[0].shared_kernel.trainable = False
        template = layers[0].template_mask().astype("float32")
        layers[0].deviations.constraint = lambda deviations: deviations * template


@dataclass(frozen=True)
class Candidate:
    """A model, the method that it is a variant of, and the multiples to try."""

    method: str
    variant: str
    contender: Contender
    multiples: tuple = (None,)


def candidates(effort: Effort) -> list[Candidate]:
    rounds = effort.rounds
    made = [Candidate("Dense", "plain", Contender(dense(), rounds))]
    for decay in effort.dense_decays:
        contender = Contender(dense(decay), rounds)
        made.append(Candidate("Dense + weight decay", str(decay), contender))
    for decay in (None, *effort.conv_decays):
        made.append(Candidate("Conv2D", str(decay), Contender(conv(decay), rounds)))
    decays = tuple((decay, 0.0) for decay in effort.local_decays)
    made.append(Candidate("Locally connected", "ridge", LocallyConnected(rounds), decays))
    for variant, tie, ties in (
        ("ridge ties", L2(1), effort.ridge_ties),
        ("lasso ties", L1(1), effort.lasso_ties),
    ):
        contender = Contender(soft_conv(tie), rounds)
        multiples = tuple(product(ties, effort.off_template))
        made.append(Candidate("SoftConv2D", variant, contender, multiples))
    return made


def run(effort: Effort, made: list[Candidate]) -> tuple[list[dict], list[dict]]:
    """All fits, and those of SoftConv2D with ridge ties along the path of strengths."""
    draws = list(product(effort.sizes, range(effort.seeds)))
    path = list(product(effort.path, range(effort.path_seeds)))
    total = len(draws) * sum(len(one.multiples) for one in made) + len(path)
    progress = keras.utils.Progbar(total, unit_name="fit")
    fits, along = [], []
    for one in made:
        for (size, seed), multiples in product(draws, one.multiples):
            setting = {"method": one.method, "variant": one.variant, "size": size}
            errors = one.contender.fit(size, seed, multiples)
            fits.append({**setting, "seed": seed, "multiples": multiples, **errors})
            progress.add(1)
    ridge = next(one.contender for one in made if one.variant == "ridge ties")
    for multiple, seed in path:
        errors = ridge.fit(effort.sizes[0], seed, (multiple, multiple))
        along.append({"multiple": multiple, "seed": seed, **errors})
        progress.add(1)
    return fits, along


def tuned(fits: list[dict], method: str, size: int) -> list[dict]:
    """The fit with the least validation error, for every seed."""
    fits = [fit for fit in fits if fit["method"] == method and fit["size"] == size]
    return [
        min((f for f in fits if f["seed"] == seed), key=lambda f: f["validation"])
        for seed in sorted({fit["seed"] for fit in fits})
    ]


def mean_and_error(values) -> str:
    """Mean and standard error."""
    values = np.asarray(values)
    return f"{values.mean():.1f} ± {values.std(ddof=1) / np.sqrt(len(values)):.1f}"


def gains(fits: list[dict], size: int, rivals: tuple[str, ...]) -> np.ndarray:
    """Per seed, % of error less than the rival that is best on validation images."""
    soft = tuned(fits, "SoftConv2D", size)
    best = [
        min(seed, key=lambda fit: fit["validation"])
        for seed in zip(*(tuned(fits, rival, size) for rival in rivals), strict=True)
    ]
    return np.array(
        [100 * (1 - s["test"] / b["test"]) for s, b in zip(soft, best, strict=True)]
    )


def table(fits: list[dict], effort: Effort) -> str:
    """Test errors, and by how many % SoftConv2D has less: mean ± standard error.

    First less than the best of the three baselines, then less than locally connected;
    the worst seed in brackets.
    """
    head = ["N", *METHODS, "gain on the first three", "gain on loc. connected"]
    rows = [head, ["---"] * len(head)]
    for size in effort.sizes:
        row = [str(size)]
        row += [mean_and_error([f["test"] for f in tuned(fits, m, size)]) for m in METHODS]
        for rivals in (BASELINES, ("Locally connected",)):
            gain = gains(fits, size, rivals)
            row.append(f"{mean_and_error(gain)} % ({gain.min():.1f} %)")
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def watch(
    made: list[Candidate], fits: list[dict], sizes: tuple[int, ...], log_dir: Path
) -> SoftConv2D:
    """Train the tuned SoftConv2D once more, for TensorBoard; the smallest size last."""
    for size in sorted(sizes, reverse=True):
        best = tuned(fits, "SoftConv2D", size)[0]
        folder = log_dir / f"{size}_images"
        callbacks = [keras.callbacks.TensorBoard(folder), StructureMonitor(folder)]
        contender = next(m.contender for m in made if m.variant == best["variant"])
        contender.fit(size, best["seed"], best["multiples"], callbacks)
    return contender.model.layers[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    effort = parser.add_mutually_exclusive_group()
    for name, text in (
        ("quick", "seconds: a smoke test"),
        ("full", "under 10 minutes"),
    ):
        effort.add_argument(
            f"--{name}", dest="effort", action="store_const", const=name, help=text
        )
    parser.add_argument("--seeds", type=int, help="how many, at least 2")
    default = Path("logs") / time.strftime("denoise_digits-%Y%m%d-%H%M%S")
    parser.add_argument("--log-dir", type=Path, default=default)
    options = parser.parse_args()
    effort = EFFORTS[options.effort or "default"]
    if options.seeds is not None:
        if options.seeds < 2:
            parser.error(f"standard errors need 2 seeds or more, not {options.seeds}")
        effort = replace(effort, seeds=options.seeds)

    print(__doc__.split("\n\n")[1], "\n")
    made = candidates(effort)
    fits, along = run(effort, made)
    layer = watch(made, fits, effort.sizes, options.log_dir)
    results = {"fits": fits, "path": along}
    (options.log_dir / "results.json").write_text(json.dumps(results, indent=1))
    (options.log_dir / "results.md").write_text(table(fits, effort) + "\n")
    levels = {
        method: np.mean([f["test"] for f in tuned(fits, method, effort.sizes[0])])
        for method in METHODS
    }
    picture = options.log_dir / "digits.png"
    save_picture(picture, layer, along, levels, effort.sizes[0])
    print(
        "\nTest error in % of the noise variance, mean ± standard error over "
        f"{effort.seeds} seeds; gain: by how much\nSoftConv2D has less error than the best "
        "of the first three, and than locally connected (worst seed):\n\n"
        f"{table(fits, effort)}\n\n"
        f"Picture: {picture}\n"
        f"Structure, step by step: tensorboard --logdir {options.log_dir}\n"
        "  (Custom Scalars has a layout ready)"
    )


if __name__ == "__main__":
    main()
