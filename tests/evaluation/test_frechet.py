"""Frechet distance against matrix square roots."""

import numpy as np
import pytest

from fcacli.errors import FcaError
from fcacli.evaluation.frechet import Moments, frechet_by_counts, frechet_distance, frechet_of_moments


def by_matrix_root(x, y, ddof):
    """The formula as it is usually written."""
    import scipy.linalg

    c1, c2 = (np.cov(features.T, ddof=ddof) for features in (x, y))
    step = x.mean(0) - y.mean(0)
    return step @ step + np.trace(c1 + c2 - 2 * scipy.linalg.sqrtm(c1 @ c2).real)


def by_roots_of_each(x, y, ddof):
    """tr (S1 S2)^(1/2) = tr (S1^(1/2) S2 S1^(1/2))^(1/2), by eigenvalues: right at low rank, where sqrtm is not."""
    c1, c2 = (np.cov(features.T, ddof=ddof) for features in (x, y))
    values, vectors = np.linalg.eigh(c1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    step = x.mean(0) - y.mean(0)
    return step @ step + np.trace(c1 + c2) - 2 * np.sqrt(np.linalg.eigvalsh(root @ c2 @ root).clip(0)).sum()


def sets(n, m, d, seed=0):
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((d, d)) / np.sqrt(d)
    return rng.standard_normal((n, d)), rng.standard_normal((m, d)) @ mix + 0.3


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("n,m,d", [(300, 200, 20), (150, 400, 64)])
def test_full_rank_equals_the_matrix_root(n, m, d, ddof):
    x, y = sets(n, m, d)
    assert frechet_distance(x, y, ddof) == pytest.approx(by_matrix_root(x, y, ddof), rel=1e-8)


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("n,m,d", [(12, 30, 64), (40, 8, 50), (100, 20, 30)])
def test_low_rank_equals_the_eigenvalue_form(n, m, d, ddof):
    x, y = sets(n, m, d)
    assert frechet_distance(x, y, ddof) == pytest.approx(by_roots_of_each(x, y, ddof), rel=1e-6)


@pytest.mark.parametrize("n,d", [(16, 400), (300, 40)])
def test_identical_sets_are_at_distance_zero(n, d):
    x, _ = sets(n, n, d)
    assert frechet_distance(x, x) <= 1e-8 * np.trace(np.cov(x.T))


def test_moments_do_not_depend_on_how_features_come():
    x, _ = sets(97, 10, 12)
    whole, parts = Moments.of(x + 1e4), None
    for part in np.array_split(x + 1e4, [1, 2, 40, 41]):
        parts = Moments.of(part) if parts is None else parts + Moments.of(part)
    assert parts.count == 97
    assert np.abs(parts.covariance() - whole.covariance()).max() < 1e-10
    assert np.abs(parts.mean - whole.mean).max() < 1e-10


def test_a_singular_covariance_has_a_distance():
    cov = np.diag([1.0, 0.0])
    assert frechet_of_moments(np.zeros(2), cov, np.array([3.0, 0.0]), np.diag([4.0, 0.0])) == pytest.approx(9 + 1)


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("n,m,d", [(30, 30, 50), (60, 50, 4), (12, 40, 6)])
def test_a_distance_by_counts_is_that_of_the_rows_repeated(n, m, d, ddof):
    x, y = sets(n, m, d)
    rng = np.random.default_rng(1)
    of_x, of_y = np.bincount(rng.integers(n, size=n), minlength=n), np.bincount(rng.integers(m, size=m), minlength=m)
    repeated = by_roots_of_each(np.repeat(x, of_x, axis=0), np.repeat(y, of_y, axis=0), ddof)
    assert frechet_by_counts(x, y, ddof)(of_x, of_y) == pytest.approx(repeated, rel=1e-6)


def test_golden_numbers():
    assert [frechet_distance(*sets(40, 60, 16)), frechet_distance(*sets(10, 12, 64), ddof=0)] == pytest.approx(
        GOLDEN, rel=1e-10
    )


GOLDEN = [9.325313144643, 93.01783981117]


def test_unusable_features_are_refused():
    x, y = sets(4, 4, 3)
    for bad in (x[:1], x[:, :2], np.where(x > 0, np.nan, x)):
        with pytest.raises(FcaError, match="Frechet distance"):
            frechet_distance(bad, y)
