"""Strengths that the training data choose."""

import warnings
from typing import Any

import numpy as np

from keras_softconv.arguments import is_integer
from keras_softconv.callbacks.chosen_layers import chosen_layers, standardize_layers
from keras_softconv.callbacks.compiled_numbers import are_same
from keras_softconv.callbacks.fresh_copies import FreshCopies
from keras_softconv.diagnostics import layers_within
from keras_softconv.evidence import (
    Likelihood,
    Prior,
    StrengthLearner,
    TrainingData,
    check_ridges,
    included_priors,
    likelihood_of,
    priors_of,
)
from keras_softconv.layers import BaseSoftConv

EFFECTIVE_WEIGHTS = "_effective_weights"


class AdaptiveStrengths(FreshCopies):
    """Empirical Bayes: finds the strengths of ridge penalties from the training data.

    A ridge is a Gaussian prior of the deviations, and its precision can be estimated
    together with them, where the loss is a likelihood: the mean squared error, binary,
    categorical or sparse categorical cross-entropy, and Poisson's loss. For each group of
    deviations d with one strength, with M terms that the loss is the mean of and `l2` the
    factor of the penalty (MacKay's updates of the evidence):

        H     = curvature of M * loss, Gauss and Newton's
        gamma = trace of H (H + 2 M * strength * l2)^-1
        strength <- dispersion * gamma / (2 M * l2 * ||d||^2)

    H is never made. Its diagonal, and how far weights explain the same outputs, follow from
    gradients with random signs (`keras_softconv.evidence.updates`). The means of families
    are left to the shared kernel. The dispersion is 1. For the mean squared error it is
    twice the variance of the noise,

        noise = sum of squared residuals / (M - all gammas - weights without a ridge)

    gamma, the number of *effective weights* that the data determine, is what prevents a
    collapse: deviations that the data do not determine count for nothing. With the number
    of weights in its place, small deviations would ask for a stronger penalty, and so on to
    zero. `FusedTies(L2)` is taken in the basis in which it is a ridge, the cosines over the
    output grid.

    Groups are
    - the ties of a layer, with those of its biases;
    - its off-template weights;
    - with `FamilyStrengths(L2(...))` each family;
    - with `SumOfPenalties([L2(...), FusedTies(L2(...))])` each of the two penalties;
    - with `include=` each weight that has an `L2` regularizer of its own: the kernels of
      other layers, say, and the shared kernels of SoftConv layers.

    Curvature is that of the network as it predicts after training: BatchNormalization uses
    its moving statistics, Dropout does nothing. In training mode examples of a batch
    depend on each other, and each draw of Dropout is another network. Moving statistics
    should have settled, so that the first update should not come in the first epochs.

    When not to trust it:
    - Networks that can fit their training data entirely. The data then seem to be without
      noise, or the classes certain, and the strengths may be far from the best. A warning
      says so where the weights without a ridge are more than 90 % of the numbers in the
      labels, and where squared errors are below 0.1 % of the variance of labels that all
      weights outnumber. Where the noise cannot be told, it is taken for 0.1 % of that
      variance or more. Classifiers that are certain of their training data are not warned
      of.
    - Many weights that say nearly the same, as those of a large dense layer after ReLU: the
      effective weights come out too few.
    - Sample weights and class weights of `fit` are not seen. Datasets with sample weights
      are refused.
    - `EarlyStopping(restore_best_weights=True)` gives SoftConv layers their strengths of
      the best epoch back, but included regularizers keep their last factors.
    - Weights should have settled between updates: tens of steps apart, and at a rate that
      still moves them. Go on until the strengths stand still, some ten to sixty updates.
      Where the truth is a convolution they grow up to `bounds`. A strength moves by a
      factor of 10 at most at an update, and by less after the evidence has fallen.

    Layers that are frozen, or whose structure is, are left alone.

    Args:
        x, y: the training data, arrays with the examples along their first axis. Or a
            dataset alone: `keras.utils.PyDataset`, `tf.data.Dataset` or torch's
            `DataLoader`, with batches `(x, y)`, that can be read again and again.
        update_freq: epochs between updates.
        layers: paths or names of SoftConv layers, one or a list; None for all.
        bounds: least and greatest strength.
        probes: random draws for the curvature at each update: the more, the less noise. An
            update with 4 took 0.3 to 4 times as long as an epoch (`benchmarks/updates.py`).
        batch_size: how many examples of arrays are looked at at once.
        seed: of the draws.
        include: names or paths of layers, one or a list, or "all": the factors of their
            `L2` regularizers are learned too, of `Dense` and `Conv2D` as of the shared
            kernel of `SoftConv2D` (its `kernel_regularizer`). None for no others.
            Afterwards the regularizers have the factors that were found.

    Attributes:
        history: a dict for each update:
            - `epoch`;
            - `<layer path>/tie_strength` and `<layer path>/off_template_strength`, the new
              strengths, or lists `<layer path>/tie_family_strengths`,
              `.../bias_tie_family_strengths`, `.../tie_term_strengths` and so on; of
              included layers `<layer path>/kernel_strength`, and
              `<layer path>/shared_kernel_strength`;
            - `<layer path>/tie_effective_weights`, `.../off_template_effective_weights`
              and so on: how many weights the data determine;
            - `log_evidence`: the logarithm of the probability of the labels, given the
              penalties, by Laplace's approximation. It compares penalties of one network,
              and, up to weights without a ridge, networks;
            - `noise_variance`, with the mean squared error.

    Raises:
        ValueError: for arguments out of range, and when training begins for a layer that
            does not exist, another loss, labels that do not fit it, several outputs, and
            penalties that are no ridges.

    Examples:
        ```python
        adaptive = keras_softconv.callbacks.AdaptiveStrengths(x, y, update_freq=2)
        model.fit(x, y, epochs=4, callbacks=[adaptive])
        adaptive.history[-1]["model/soft/tie_strength"]
        ```

    Reference:
        MacKay, "Bayesian interpolation", Neural Computation 4, 1992.
    """

    moves_strengths = True  # A path of strengths refuses such callbacks.
    of_training = ("_learner", "_compiled_for", "_updates_before")

    def __init__(
        self,
        x: Any,
        y: Any = None,
        update_freq: int = 10,
        layers: str | list[str] | None = None,
        bounds: tuple[float, float] = (1e-6, 1e6),
        probes: int = 8,
        batch_size: int = 256,
        seed: int = 0,
        include: str | list[str] | None = None,
    ) -> None:
        super().__init__()
        counts = {"update_freq": update_freq, "probes": probes, "batch_size": batch_size}
        for name, count in counts.items():
            if not is_integer(count) or count < 1:
                raise ValueError(
                    f"`{name}` of AdaptiveStrengths must be a positive integer. Received: "
                    f"{name}={count!r}. Leave it out for the default."
                )
        self.data = TrainingData(x, y, batch_size)
        self.update_freq, self.probes, self.batch_size = update_freq, probes, batch_size
        self.layers = standardize_layers(layers)
        self.include = standardize_layers(include, "include")
        self.bounds = _standardize_bounds(bounds)
        self.history: list[dict[str, Any]] = []
        self._rng = np.random.default_rng(seed)
        self._forget_training()

    def _forget_training(self) -> None:
        self._learner = None  # has a compiled function of the model
        self._compiled_for = []  # what that function depends on
        self._updates_before = 0

    @property
    def x(self) -> Any:
        """The inputs, or the dataset."""
        return self.data.x

    @property
    def y(self) -> Any:
        """The labels; None with a dataset."""
        return self.data.y

    def on_train_begin(self, logs: dict | None = None) -> None:
        model = self.model
        likelihood = likelihood_of(model.loss)
        self._check_loss_weights()
        layers = self._layers()
        for path, layer in layers.items():
            check_ridges(path, layer)
        included = included_priors(model, self.include)
        self.data.check(model, likelihood)
        self._prepare(layers, included, likelihood)
        self._updates_before = len(self.history)
        self._learner.begin_training()
        if not self.history:
            self._learner.begin()

    def _check_loss_weights(self) -> None:
        with warnings.catch_warnings():  # Keras warns of functions that it writes.
            warnings.simplefilter("ignore")
            compile_config = self.model.get_compile_config() or {}
        weights = compile_config.get("loss_weights")
        if weights:
            raise ValueError(
                "AdaptiveStrengths needs the mean of the loss, without weights. Received: "
                f"loss_weights={weights!r}. Compile the model with the loss alone."
            )

    def _prepare(
        self,
        layers: dict[str, BaseSoftConv],
        included: list[Prior],
        likelihood: Likelihood,
    ) -> None:
        """Compile again if the model has changed, or Keras has compiled it again."""
        model = self.model
        objects = [model.train_function, model.loss, *layers_within(model)]
        objects += [*model.variables, *layers.values()]
        if are_same(objects, self._compiled_for):
            return
        priors = [prior for path, one in layers.items() for prior in priors_of(path, one)]
        self._learner = StrengthLearner(
            model,
            priors + included,
            likelihood,
            self.data,
            self.bounds,
            self.probes,
            self._rng,
        )
        self._compiled_for = objects

    def _layers(self) -> dict[str, BaseSoftConv]:
        """Those that are trained with penalties."""
        layers = chosen_layers(self.model, self.layers, self)
        return {
            path: layer
            for path, layer in layers.items()
            if layer.trainable and layer.deviation_mask is None
        }

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if (epoch + 1) % self.update_freq:
            return
        found = self._learner.update()
        if np.isfinite(found["log_evidence"]):
            for path, layer in self._layers().items():
                layer.effective_weights = _effective_weights(path, found)
        self.history.append({"epoch": epoch, **found})
        if logs is not None:
            logs["softconv/log_evidence"] = found["log_evidence"]

    def on_train_end(self, logs: dict | None = None) -> None:
        if len(self.history) == self._updates_before:
            warnings.warn(
                "AdaptiveStrengths made no update, since training ended before epoch "
                f"{self.update_freq}. Give more epochs, or a smaller `update_freq`.",
                stacklevel=2,
            )


def _standardize_bounds(bounds: Any) -> tuple[float, float]:
    try:
        least, greatest = map(float, bounds)
    except (TypeError, ValueError):
        least, greatest = np.nan, np.nan
    if not 0 < least < greatest < np.inf:
        raise ValueError(
            "`bounds` of AdaptiveStrengths must be a pair of finite numbers, 0 < least "
            f"< greatest. Received: bounds={bounds!r}. Leave it out for (1e-6, 1e6)."
        )
    return least, greatest


def _effective_weights(path: str, found: dict[str, Any]) -> dict[str, float]:
    """Of one layer, by the names of the weights' places."""
    names = [name for name in found if name.endswith(EFFECTIVE_WEIGHTS)]
    return {
        name.removeprefix(f"{path}/").removesuffix(EFFECTIVE_WEIGHTS): found[name]
        for name in names
        if name.rpartition("/")[0] == path
    }
