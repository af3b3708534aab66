"""The bootstrap interval of a mean over clips."""

import numpy as np

RESAMPLES = 10_000
"""Bootstrap resamples, over clips."""


def bootstrap_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float] | None:
    """95 % percentile bootstrap interval of the mean of (N,) values; None below two (Efron, 1979)."""
    count = len(values)
    if count < 2:
        return None
    rng = np.random.default_rng(seed)
    means = np.concatenate([values[rng.integers(0, count, (100, count))].mean(axis=1) for _ in range(RESAMPLES // 100)])
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
