"""How far weights explain the same outputs, from products of random gradients."""

import numpy as np

ROUNDS = 100  # at most, of the equations for what is shared
# How many times larger than the largest of random ones a dominant eigenvalue is.
BEYOND = 2


def dominant_directions(gram: np.ndarray, probes: int) -> tuple[np.ndarray, np.ndarray]:
    """Directions in which many weights together explain the outputs.

    With draws `x_v` of covariance K, the roots of the eigenvalues of their products
    `x_v' x_w` lie about as far above as below that of their median (Marchenko and Pastur),
    unless K has large eigenvalues k, which stand out by k for each draw of the same data.

    Args:
        gram: `(draws, draws)`, the products.
        probes: how many draws there are of the same data.

    Returns:
        The eigenvalues of K and, as columns, what each draw has of the directions.
    """
    values, vectors = np.linalg.eigh(gram)
    roots = np.sqrt(np.maximum(values, 0.0))
    edge = BEYOND * (2 * np.median(roots) - roots[0]) ** 2
    is_dominant = values > edge
    if is_dominant.sum() > len(values) // 4:  # Then these are the usual ones.
        is_dominant = np.zeros(len(values), bool)
    usual = values[~is_dominant].mean()
    return (values[is_dominant] - usual) / probes, vectors[:, is_dominant]


def products_between(
    grams: np.ndarray, directions: np.ndarray, pairs: np.ndarray
) -> np.ndarray:
    """Squared Frobenius norms of K between groups of weights, without some directions.

    Args:
        grams: `(groups, draws, draws)`, products of the draws of each group.
        directions: as `dominant_directions` gives them.
        pairs: of `Measurement`.

    Returns:
        Array `(groups, groups)`.
    """
    draws, left_out = directions.shape
    rest = np.eye(draws) - directions @ directions.T
    grams = rest @ grams @ rest
    # Without some directions the draws are no longer independent: their own squares, the
    # large diagonal, would have a part in the products of different ones.
    sizes = np.trace(grams, axis1=1, axis2=2) / (draws - left_out)
    grams = grams - sizes[:, None, None] * rest
    grams = grams * (draws / (draws - left_out))
    return np.einsum("gvw,hvw,vw->gh", grams, grams, pairs)


def solve_sharing(coupling: np.ndarray, undetermined: object) -> np.ndarray:
    """The shares q of all groups.

        q_g = sum_g' C_gg' u_g'(q_g')

    Args:
        coupling: C, `(groups, groups)`.
        undetermined: from q to u, what the data leave open in each group.
    """
    shares = coupling.sum(axis=1)
    for _ in range(ROUNDS):
        before, shares = shares, coupling @ undetermined(shares)
        if np.allclose(shares, before, rtol=1e-4, atol=1e-6):
            break
    return shares
