"""The evidence at the current weights, and the next strengths."""

import numpy as np

from keras_softconv.evidence.curvature import Measurement
from keras_softconv.evidence.outputs_shared import (
    dominant_directions,
    products_between,
    solve_sharing,
)
from keras_softconv.evidence.priors import Prior

# How many times the precision of the data a prior has at most before the first training.
MOST_PRECISION = 1000
# An update moves a strength by this factor at most, since the weights have to follow it.
LARGEST_FACTOR = 10.0
# Less of a weight beside the directions of many weights is rounding.
LEAST_LEFT = 1e-3


class Update:
    """The evidence of one prior at the current weights, and its next strengths.

    With a the precisions of the numbers d and H the curvature, both in units of
    `M * loss`, and the share of each term `s_t = a_t / a` (MacKay, "Bayesian
    interpolation", Neural Computation 4, 1992, with several terms):

        gamma_t = sum_i s_ti * (H (H + A)^-1)_ii
        strength_t <- dispersion * gamma_t / (2 M * factor_t * sum of eigenvalue_t * d^2)

    The diagonal is not taken from that of H alone, because weights that explain the same
    outputs share what the data say. With `K = A^-1/2 H A^-1/2` it is

        (H (H + A)^-1)_ii = K_ii / (1 + K_ii + q)

    where q is 0 for a diagonal H, and otherwise follows from the squares of the other
    entries of K, after dominant directions were taken out of it; see `share_outputs`.

    Args:
        prior: of which weights.
        curvatures: of its parts, the diagonal of H.
        draws: of its parts, see `Measurement`.
        terms: M.
    """

    def __init__(
        self,
        prior: Prior,
        curvatures: list[np.ndarray],
        draws: list[np.ndarray],
        terms: int,
    ) -> None:
        self.prior = prior
        outer = prior.outer_strength
        self._units = 2 * terms * outer * prior.factors[:, None, None]
        self._old = prior.strengths.read()
        # Sums over members, `(terms, columns)`.
        self._squares = (prior.eigenvalues * prior.values() ** 2).sum(axis=1)
        several = len(prior.factors) > 1
        strengths = self._old.reshape((-1, 1, 1) if several else (1, 1, -1))
        self._of_terms = self._units * strengths * prior.eigenvalues
        # One over the precision, 0 where nothing is penalised.
        precision = self._of_terms.sum(axis=0)
        self._width = np.divide(1, precision, out=0 * precision, where=precision > 0)
        self._curvature = prior.columns(curvatures)
        self._diagonal = self._curvature * self._width  # of K
        # Directions of many weights are counted by themselves: what is determined there,
        # their volume, and what of each weight is left beside them.
        self._together, self._volume = np.zeros_like(self._diagonal), 0.0
        self._left = np.ones_like(self._diagonal)
        self._draws = [draw.reshape(len(draw), -1) for draw in draws]
        self.sharing = 0.0  # q
        self.outputs = np.inf  # how many there are to be shared

    @property
    def trace(self) -> float:
        """That of K."""
        return float((self._left * self._diagonal).sum())

    def gram(self) -> np.ndarray:
        """Products of the draws in units of the prior's widths, `(draws, draws)`."""
        width = np.broadcast_to(np.sqrt(self._width), self._diagonal.shape)
        width = width.astype("float32").ravel()
        flat = np.concatenate(self._draws, axis=1) * width
        return (flat @ flat.T).astype("float64")

    def take_out(
        self, values: np.ndarray, directions: np.ndarray, gram: np.ndarray
    ) -> None:
        """Count some directions of the weights by themselves.

        Args:
            values: the eigenvalues of K there.
            directions: what each draw has of them, as columns.
            gram: the products of the draws of all priors.
        """
        flat = np.concatenate(self._draws, axis=1)
        lengths = np.einsum("vd,vw,wd->d", directions, gram, directions)
        parts = (directions.T.astype("float32") @ flat) ** 2  # [directions, weights]
        whole = (flat**2).sum(axis=0)
        # A share of the draws lies in these directions by chance.
        by_chance = 1 - len(values) / len(flat)
        rest = np.maximum(whole - parts.sum(axis=0), 0.0) / by_chance
        shares = np.divide(rest, whole, out=0 * whole, where=whole > 0)
        rest = self._diagonal * np.minimum(shares, 1.0).reshape(self._diagonal.shape)
        width = np.broadcast_to(self._width, self._diagonal.shape).ravel()
        for value, part, length in zip(values, parts, lengths, strict=True):
            squares = (part * width / length).reshape(rest.shape)
            self._left = self._left - squares
            self._together += value / (1 + value) * squares
            self._volume += np.log1p(value) * (self.prior.shares * squares).sum()
        is_left = self._left > LEAST_LEFT
        self._left = np.where(is_left, self._left, 0.0)
        self._diagonal = np.divide(rest, self._left, out=0 * rest, where=is_left)

    def squared_diagonal(self) -> float:
        """The sum of `K_ii^2`."""
        return float((self._left * self._diagonal**2).sum())

    def undetermined(self) -> float:
        """The mean of what the data leave open, `(1 + q) / (1 + K_ii + q)`.

        Weighted by `K_ii`.
        """
        if not self.trace:
            return 1.0
        open_shares = (1 + self.sharing) / (1 + self._diagonal + self.sharing)
        return float((self._left * self._diagonal * open_shares).sum() / self.trace)

    def _gammas(self) -> np.ndarray:
        """Of each term and column."""
        determined = self._diagonal / (1 + self._diagonal + self.sharing)
        determined = self._left * determined + self._together
        determined = self.prior.shares * determined
        return (self._of_terms * self._width * determined).sum(axis=1)

    @property
    def effective_weights(self) -> float:
        """How many of the weights the data determine."""
        return float(self._gammas().sum())

    def log_evidence(self, dispersion: float) -> float:
        """What the weights add to the logarithm of the evidence.

        -1/2 logarithm of the determinant of I + K - 1/2 sum of a d^2 / dispersion
        """
        logarithms = np.log1p(self._diagonal / (1 + self.sharing))
        volume = self._volume + (self.prior.shares * self._left * logarithms).sum()
        if self.sharing:
            shared = np.log1p(self.sharing) - self.sharing / (1 + self.sharing)
            volume += self.outputs * shared
        strengths = self._old.reshape(self._squares.shape)
        penalty = (self._units[:, 0] * strengths * self._squares).sum()
        return float(-volume - penalty / dispersion) / 2

    def first_strengths(self, bounds: tuple[float, float]) -> np.ndarray:
        """Those before training: none that gives the prior more precision than the data.

        From stronger ones it would take many updates to come down.
        """
        curvature = self._curvature.sum(axis=0)
        shape = (len(self._units), *self._curvature.shape)
        eigenvalues = np.broadcast_to(self.prior.eigenvalues, shape).sum(axis=1)
        units = self._units[:, 0] * eigenvalues
        is_known = (curvature > 0) & (units > 0)
        equal = MOST_PRECISION * curvature / np.where(units > 0, units, 1)
        old = self._old.reshape(self._squares.shape)
        new = np.where(is_known, np.clip(np.minimum(old, equal), *bounds), old)
        return new.reshape(self._old.shape)

    def strengths(
        self,
        dispersion: float,
        bounds: tuple[float, float],
        largest_factor: float = LARGEST_FACTOR,
        last_step: np.ndarray | float = 0.0,
    ) -> np.ndarray:
        """The next ones; weights that are all zero, as at the beginning, say nothing.

        Args:
            dispersion: 1, or twice the variance of the noise.
            bounds: least and greatest strength.
            largest_factor: by which a strength moves at most.
            last_step: how the strengths were moved before. Where they turn back, half of
                the step is made, so that they do not swing about the weights that follow.
        """
        squares = self._units[:, 0] * self._squares
        is_known = squares > 0
        found = dispersion * self._gammas() / np.where(is_known, squares, 1)
        old = self._old.reshape(self._squares.shape)
        found = np.clip(found, old / largest_factor, old * largest_factor)
        last_step = np.broadcast_to(last_step, self._old.shape).reshape(old.shape)
        turns = (found - old) * last_step < 0
        found = np.where(turns, np.sqrt(old * found), found)
        new = np.where(is_known, np.clip(found, *bounds), old)
        return new.reshape(self._old.shape)


def updates_of(priors: list[Prior], measured: Measurement) -> list[Update]:
    """The updates of all priors.

    Args:
        priors: in the order of their parts in the measurement.
        measured: at the current weights.
    """
    place, updates = 0, []
    for prior in priors:
        own = slice(place, place + len(prior.parts))
        of_parts = measured.curvatures[own], measured.draws[own]
        updates.append(Update(prior, *of_parts, measured.terms))
        place += len(prior.parts)
    if updates:
        share_outputs(updates, measured)
    return updates


def share_outputs(updates: list[Update], measured: Measurement) -> None:
    """Find out how far weights explain the same outputs.

    Directions in which K is far larger than in others are taken out of it and counted by
    themselves. With F the sums of the squares of the other entries between two priors g
    and g', without the diagonal, `C = F / trace of K_g`, and the shares u of what the data
    leave open,

        q_g = sum_g' C_gg' u_g',  u_g = weighted mean of (1 + q_g) / (1 + K_ii + q_g)

    For one prior these are the equations of the limit of large random matrices (Marchenko
    and Pastur, "Distribution of eigenvalues for some sets of random matrices", Mathematics
    of the USSR-Sbornik 1, 1967), as of inputs that are drawn at random. F is known from the
    products of independent draws, whose squares have it for their mean.

    Args:
        updates: of all priors, which take notice of it.
        measured: has the draws.
    """
    if measured.probes < 2:
        return
    grams = np.stack([update.gram() for update in updates])
    values, directions = dominant_directions(grams.sum(axis=0), measured.probes)
    for update in updates:
        update.take_out(values, directions, grams.sum(axis=0))
    squares = products_between(grams, directions, measured.pairs)
    own = [update.squared_diagonal() for update in updates]
    np.fill_diagonal(squares, squares.diagonal() - own)
    traces = np.array([update.trace for update in updates])[:, None]
    coupling = np.divide(
        np.maximum(squares, 0.0), traces, out=np.zeros_like(squares), where=traces > 0
    )
    for update, whole in zip(updates, coupling.sum(axis=1), strict=True):
        update.outputs = update.trace / whole if whole else np.inf

    def undetermined(shares: np.ndarray) -> list[float]:
        for update, share in zip(updates, shares, strict=True):
            update.sharing = float(share)
        return [update.undetermined() for update in updates]

    undetermined(solve_sharing(coupling, undetermined))
