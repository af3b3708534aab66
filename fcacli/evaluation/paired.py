"""Is the difference of two methods real? Both scored the same clips, so clips are drawn again for both together.

What makes a clip hard is in both scores and leaves the difference: a paired interval is the narrower one.

Source: Efron and Tibshirani, 1993 (paired bootstrap, percentile interval).
"""

from dataclasses import dataclass

import numpy as np

from fcacli.evaluation.set_interval import LEVEL, SetDistance, resampled_distances

RESAMPLES = 10_000
"""Of scores that each clip has."""
SET_RESAMPLES = 400
"""Of distances of sets, each a computation of its own."""


@dataclass(frozen=True)
class Difference:
    """Of the second less the first."""

    value: float
    interval: tuple[float, float]
    """95 %."""
    p: float
    """Two-sided: how often resamples would say so if there were no difference."""

    @property
    def real(self) -> bool:
        """Whether the interval leaves zero out."""
        return not self.interval[0] <= 0.0 <= self.interval[1]


def paired_bootstrap(a: np.ndarray, b: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Difference:
    """Mean of b - a over clips.

    Args:
        a, b: scores of the same clips in the same order, (N,) each, at least two.
    """
    change = np.asarray(b, np.float64) - np.asarray(a, np.float64)  # (N,)
    rng, count = np.random.default_rng(seed), len(change)
    drawn = np.concatenate([change[rng.integers(0, count, (100, count))].mean(1) for _ in range(-(-resamples // 100))])
    return _difference(float(change.mean()), drawn[:resamples])


def paired_bootstrap_of_sets(
    distance: SetDistance, a: np.ndarray, b: np.ndarray, true: np.ndarray, resamples: int = SET_RESAMPLES, seed: int = 0
) -> Difference:
    """distance(b, true) - distance(a, true) of features of the same clips in the same order, (N, D) each.

    Resamples have fewer different clips, which moves a Frechet distance; their spread is laid around the measured difference.
    """
    value = distance(b, true) - distance(a, true)
    drawn = resampled_distances(distance, b, true, resamples, seed) - resampled_distances(distance, a, true, resamples, seed)
    return _difference(value, drawn - drawn.mean() + value)


def _difference(value: float, drawn: np.ndarray) -> Difference:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    beyond = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return Difference(value, (float(low), float(high)), min(1.0, 2.0 * (1 + int(beyond)) / (1 + len(drawn))))
