"""Bootstrap intervals of distances of sets (FVD, KVD, FID): clips are drawn again, with all that belongs to them.

A resample has fewer different clips than the set, and a Frechet distance falls with their number: resampled distances lie
above the one that was measured (PROTOCOL.md, "Few samples bias FVD upward"). Their spread is what they tell. The interval is
therefore that spread moved onto the measured distance; the bias of few clips is in the value and in both ends alike. Between
sets that hardly differ a kernel distance's interval is too wide.

Source: Efron and Tibshirani, 1993 (bootstrap estimate of bias).
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from fcacli.evaluation.feature_sets import ByCounts
from fcacli.evaluation.frechet import frechet_by_counts, frechet_distance, frechet_distance_over_n
from fcacli.evaluation.kernel import kernel_by_counts, kernel_by_counts_seer, kernel_distance, kernel_distance_seer

RESAMPLES, LEVEL = 1000, 0.95
MANY, RESAMPLES_OF_MANY = 512, 200
"""Rows of a set above which there are fewer resamples: single frames are many."""
SetDistance = Callable[[np.ndarray, np.ndarray], float]
BY_COUNTS: dict[SetDistance, Callable[[np.ndarray, np.ndarray], ByCounts]] = {
    frechet_distance: frechet_by_counts,
    frechet_distance_over_n: partial(frechet_by_counts, ddof=0),
    kernel_distance: kernel_by_counts,
    kernel_distance_seer: kernel_by_counts_seer,
}
"""Distances that know resamples; any other is computed on the drawn rows."""


def bootstrap_set(
    distance: SetDistance, x: np.ndarray, y: np.ndarray, resamples: int | None = None, seed: int = 0, clips: int | None = None
) -> tuple[float, float]:
    """95 % interval of distance(x, y) around its value.

    Args:
        resamples: None for RESAMPLES, or, of more than MANY rows, RESAMPLES_OF_MANY.
        x, y: features (N, D) and (M, D). Sets of one length are of the same clips in the same order, which are drawn together.
        clips: how many clips the rows of each belong to, the rows of one following each other, equally many; else a row is one.
    """
    if resamples is None:
        resamples = RESAMPLES if max(len(x), len(y)) <= MANY else RESAMPLES_OF_MANY
    drawn = resampled_distances(distance, x, y, resamples, seed, clips)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - drawn.mean() + distance(x, y)
    return float(low), float(high)


def resampled_distances(
    distance: SetDistance, x: np.ndarray, y: np.ndarray, resamples: int = RESAMPLES, seed: int = 0, clips: int | None = None
) -> np.ndarray:
    """(resamples,): the distance of each resample; equal seeds and numbers of clips draw the same clips from any features."""
    of_counts = BY_COUNTS[distance](x, y) if distance in BY_COUNTS else _on_rows(distance, x, y)
    return np.array([of_counts(*counts) for counts in _draws(len(x), len(y), resamples, seed, clips)])


def _on_rows(distance: SetDistance, x: np.ndarray, y: np.ndarray) -> ByCounts:
    return lambda of_x, of_y: distance(np.repeat(x, of_x, axis=0), np.repeat(y, of_y, axis=0))


def _draws(n: int, m: int, resamples: int, seed: int, clips: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """How often each row of either set was drawn, (n,) and (m,)."""
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        of_x = _counts(rng, n, clips)
        yield of_x, of_x if n == m else _counts(rng, m, clips)


def _counts(rng: np.random.Generator, rows: int, clips: int | None) -> np.ndarray:
    """(rows,): at least two different clips."""
    count = rows if clips is None else clips
    while True:
        counts = np.bincount(rng.integers(count, size=count), minlength=count)
        if (counts > 0).sum() > 1 or count < 2:
            return np.repeat(counts, rows // count)
