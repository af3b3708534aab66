"""Kernel distance between two sets of features: the unbiased squared maximum mean discrepancy of a cubic kernel.

    k(x, y) = (x.y / D + 1)^3

Source: Binkowski et al., 2018 (KID); Unterthiner et al., 2018 (KVD).
"""

import numpy as np

from fcacli.errors import FcaError


def kernel_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Of features (N, D) and (M, D): all of them, no subsets, the diagonal left out; may be slightly below zero.

    Raises:
        FcaError: fewer than two features in a set, other widths, or features that are not finite.
    """
    x, y = (np.asarray(features, np.float64) for features in (x, y))
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise FcaError(f"a kernel distance needs two sets of at least two features of one width, got {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise FcaError("features that are not finite have no kernel distance")
    return float(_without_diagonal(x) + _without_diagonal(y) - 2 * _kernel(x, y).mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def _without_diagonal(x: np.ndarray) -> float:
    k, n = _kernel(x, x), len(x)
    return float((k.sum() - np.trace(k)) / (n * (n - 1)))
