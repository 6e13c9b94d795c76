"""Penalties on deviations and off-template weights.

Any object that `keras.regularizers.get` takes can serve as one. Keras's own ridge and
lasso are known here by their factors, because their sums can be taken far faster
than by building the tensors that a general regularizer must be given.
"""

from collections.abc import Callable

import keras
from keras.regularizers import L1, L1L2, L2


def l1_l2_factors(regularizer: Callable | None) -> tuple[float, float] | None:
    """Factors of a regularizer known to be `l1 * sum(|x|) + l2 * sum(x ** 2)`.

    Args:
        regularizer: a Keras regularizer, any other callable, or None.

    Returns:
        `(l1, l2)` for None and Keras's `L1`, `L2` and `L1L2`; None for any other
        (a subclass too: it may mean something else) and for factors that are variables.
    """
    if regularizer is None:
        return 0.0, 0.0
    if type(regularizer) not in (L1, L2, L1L2):
        return None
    factors = [getattr(regularizer, name, 0.0) for name in ("l1", "l2")]
    if any(isinstance(factor, keras.Variable) for factor in factors):
        return None  # meant to change while the model trains
    # Keras keeps the factor of L1 as a tensor, that of L2 as a number.
    return tuple(float(keras.ops.convert_to_numpy(factor)) for factor in factors)
