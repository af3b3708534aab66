"""Kernel distance between two sets of features: the unbiased squared maximum mean discrepancy of a cubic kernel.

    k(x, y) = (x.y / D + 1)^3

Source: Binkowski et al., 2018 (KID); Unterthiner et al., 2018 (KVD); PROTOCOL.md, "KVD".
"""

import numpy as np

from fcacli.evaluation.feature_sets import ByCounts, checked


def kernel_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Of features (N, D) and (M, D): all of them, no subsets, the diagonal left out; may be slightly below zero.

    Raises:
        FcaError: fewer than two features in a set, other widths, or features that are not finite.
    """
    return kernel_by_counts(x, y)(np.ones(len(x)), np.ones(len(y)))


def kernel_distance_seer(x: np.ndarray, y: np.ndarray) -> float:
    """The same of features from which each set's own mean was taken, as Seer's released code does: `kvd-seer`, never `kvd`.

    It does not see how far apart the sets lie, only how they are spread. Raises as kernel_distance.
    """
    return kernel_by_counts_seer(x, y)(np.ones(len(x)), np.ones(len(y)))


def kernel_by_counts(x: np.ndarray, y: np.ndarray) -> ByCounts:
    """kernel_distance of resamples of two sets; the kernels are computed once, a row and its copy are no pair."""
    x, y = checked(x, y, "kernel")
    within_x, within_y, between = _kernel(x @ x.T, x), _kernel(y @ y.T, x), _kernel(x @ y.T, x)
    return lambda of_x, of_y: _discrepancy(within_x, within_y, between, of_x, of_y)


def kernel_by_counts_seer(x: np.ndarray, y: np.ndarray) -> ByCounts:
    """kernel_distance_seer of resamples of two sets, each centred on its own mean."""
    x, y = checked(x, y, "kernel")
    within_x, within_y, between = x @ x.T, y @ y.T, x @ y.T

    def distance(of_x: np.ndarray, of_y: np.ndarray) -> float:
        a, b = of_x / of_x.sum(), of_y / of_y.sum()
        xx, yy, xy = (_kernel(_centred(*each), x) for each in ((within_x, a, a), (within_y, b, b), (between, a, b)))
        return _discrepancy(xx, yy, xy, of_x, of_y)

    return distance


def _centred(products: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(x_i - a.x) . (y_j - b.y) from x_i . y_j, for weights a, b that sum to one."""
    rows, columns = products @ b, a @ products
    return products - rows[:, None] - columns + a @ rows


def _kernel(products: np.ndarray, x: np.ndarray) -> np.ndarray:
    base = products / x.shape[1] + 1.0
    return base * base * base  # many times faster than ** 3


def _discrepancy(xx: np.ndarray, yy: np.ndarray, xy: np.ndarray, of_x: np.ndarray, of_y: np.ndarray) -> float:
    """Mean kernel within either set, over pairs of different rows, less twice that between them."""
    return float(_pairs(xx, of_x) + _pairs(yy, of_y) - 2 * (of_x @ xy @ of_y) / (of_x.sum() * of_y.sum()))


def _pairs(kernel: np.ndarray, counts: np.ndarray) -> float:
    same = (counts**2) @ np.diagonal(kernel)
    return (counts @ kernel @ counts - same) / (counts.sum() ** 2 - (counts**2).sum())
