"""Two sets of features whose distance is wanted: what every such distance asks of them."""

from collections.abc import Callable

import numpy as np

from fcacli.errors import FcaError

ByCounts = Callable[[np.ndarray, np.ndarray], float]
"""How often each row of either set counts, (N,) and (M,) -> their distance: that of a resample, rows drawn twice being one."""


def checked(x: np.ndarray, y: np.ndarray, distance: str) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, D) and (M, D) as float64.

    Raises:
        FcaError: fewer than two features in a set, other widths, or features that are not finite.
    """
    x, y = (np.asarray(features, np.float64) for features in (x, y))
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise FcaError(
            f"a {distance} distance needs two sets of two or more features of one width, got {x.shape} and {y.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise FcaError(f"features that are not finite have no {distance} distance")
    return x, y
