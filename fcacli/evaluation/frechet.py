"""Frechet distance between two sets of features, as Gaussians: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).

Everything is float64. The trace of the root is never computed by a matrix square root:

    N <= D in either set    the nuclear norm of A B^T, A and B the centred features over sqrt(N - ddof); exact at low rank
    otherwise               sum of the roots of the eigenvalues of L^T S2 L, with S1 = L L^T (Cholesky)

Source: Dowson and Landau, 1982; Heusel et al., 2017 (FID); Unterthiner et al., 2018 (FVD).
"""

import functools
import operator
from dataclasses import dataclass

import numpy as np

from fcacli.evaluation.feature_sets import ByCounts, checked


@dataclass
class Moments:
    """Mean and covariance of features that come in parts (Chan, Golub and LeVeque, 1979)."""

    count: int
    mean: np.ndarray
    """(D,)"""
    scatter: np.ndarray
    """(D, D): sum of outer products of the centred features."""

    @classmethod
    def of(cls, features: np.ndarray) -> "Moments":
        """Of features (N, D)."""
        x = np.asarray(features, np.float64)
        mean = x.mean(0)
        return cls(len(x), mean, (x - mean).T @ (x - mean))

    def __add__(self, other: "Moments") -> "Moments":
        count = self.count + other.count
        step = other.mean - self.mean
        scatter = self.scatter + other.scatter + np.outer(step, step) * (self.count * other.count / count)
        return Moments(count, self.mean + step * (other.count / count), scatter)

    def covariance(self, ddof: int = 1) -> np.ndarray:
        """(D, D), over N - ddof."""
        return self.scatter / (self.count - ddof)


def frechet_distance(x: np.ndarray, y: np.ndarray, ddof: int = 1) -> float:
    """Of two sets of features, (N, D) and (M, D); `ddof` 1 or 0, what is taken off N in the covariance.

    Raises:
        FcaError: fewer than two features in a set, other widths, or features that are not finite.
    """
    x, y = checked(x, y, "Frechet")
    if min(len(x), len(y)) > x.shape[1]:
        one, other = _moments(x), _moments(y)
        return frechet_of_moments(one.mean, one.covariance(ddof), other.mean, other.covariance(ddof))
    return frechet_by_counts(x, y, ddof)(np.ones(len(x)), np.ones(len(y)))


def frechet_distance_over_n(x: np.ndarray, y: np.ndarray) -> float:
    """`frechet_distance` with covariances over N."""
    return frechet_distance(x, y, ddof=0)


def _moments(features: np.ndarray, rows: int = 4096) -> Moments:
    """Of (N, D), part by part: many features need no second copy."""
    return functools.reduce(operator.add, (Moments.of(features[at : at + rows]) for at in range(0, len(features), rows)))


def frechet_by_counts(x: np.ndarray, y: np.ndarray, ddof: int = 1) -> ByCounts:
    """The distance of resamples of two sets; raises as frechet_distance. Rows that are not drawn cost nothing."""
    x, y = checked(x, y, "Frechet")

    def distance(of_x: np.ndarray, of_y: np.ndarray) -> float:
        (mean1, a), (mean2, b) = _weighted(x, of_x, ddof), _weighted(y, of_y, ddof)
        if min(len(a), len(b)) > x.shape[1]:
            return frechet_of_moments(mean1, a.T @ a, mean2, b.T @ b)
        step = mean1 - mean2
        root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
        return max(0.0, float(step @ step + (a * a).sum() + (b * b).sum() - 2 * root))

    return distance


def _weighted(x: np.ndarray, counts: np.ndarray, ddof: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,), and the centred rows A (n, D) that were drawn, scaled so that A^T A is the covariance."""
    x, counts = x[counts > 0], counts[counts > 0]
    mean = counts @ x / counts.sum()
    return mean, (x - mean) * np.sqrt(counts / (counts.sum() - ddof))[:, None]


def frechet_of_moments(mean1: np.ndarray, cov1: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
    """The same from means (D,) and covariances (D, D)."""
    step = mean1 - mean2
    return max(0.0, float(step @ step + np.trace(cov1) + np.trace(cov2) - 2 * _trace_of_root(cov1, cov2)))


def _trace_of_root(cov1: np.ndarray, cov2: np.ndarray) -> float:
    """tr (S1 S2)^(1/2)."""
    try:
        lower = np.linalg.cholesky(cov1)
    except np.linalg.LinAlgError:  # singular: any factor of S1 does
        values, vectors = np.linalg.eigh(cov1)
        lower = vectors * np.sqrt(np.maximum(values, 0.0))
    return float(np.sqrt(np.maximum(np.linalg.eigvalsh(lower.T @ cov2 @ lower), 0.0)).sum())
