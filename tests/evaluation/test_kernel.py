"""Kernel distance against a double loop, Seer's centred one beside it, and both on resamples."""

import numpy as np
import pytest

from fcacli.errors import FcaError
from fcacli.evaluation.kernel import kernel_by_counts, kernel_by_counts_seer, kernel_distance, kernel_distance_seer


def sets(n: int = 9, m: int = 7, d: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, d)), rng.standard_normal((m, d)) * 1.5 + 0.3


def double_loop(x: np.ndarray, y: np.ndarray, rows_of_x=None, rows_of_y=None) -> float:
    """Over all pairs; with which row each is a copy of, where some are: copies are no pair."""
    rows_of_x = range(len(x)) if rows_of_x is None else rows_of_x
    rows_of_y = range(len(y)) if rows_of_y is None else rows_of_y

    def k(a, b):
        return (a @ b / x.shape[1] + 1) ** 3

    def within(z, rows):
        pairs = [k(a, b) for i, a in zip(rows, z, strict=True) for j, b in zip(rows, z, strict=True) if i != j]
        return sum(pairs) / len(pairs)

    return within(x, rows_of_x) + within(y, rows_of_y) - 2 * sum(k(a, b) for a in x for b in y) / (len(x) * len(y))


def test_kernel_distance_is_the_double_loop():
    x, y = sets()
    assert kernel_distance(x, y) == pytest.approx(double_loop(x, y), rel=1e-10)


def test_seers_is_the_double_loop_of_centred_sets():
    x, y = sets()
    assert kernel_distance_seer(x, y) == pytest.approx(double_loop(x - x.mean(0), y - y.mean(0)), rel=1e-10)


def test_seers_does_not_see_where_a_set_lies():
    x, y = sets()
    assert kernel_distance_seer(x, y + 10) == pytest.approx(kernel_distance_seer(x, y), rel=1e-9)
    assert kernel_distance(x, y + 10) > 2 * kernel_distance(x, y)


def test_resamples_are_the_double_loop_in_which_copies_are_no_pair():
    x, y = sets()
    rows_x, rows_y = np.array([0, 0, 3, 8, 8, 8, 2, 1, 5]), np.array([6, 6, 0, 1, 2, 2, 4])
    counts = np.bincount(rows_x, minlength=9), np.bincount(rows_y, minlength=7)
    a, b = x[rows_x], y[rows_y]
    assert kernel_by_counts(x, y)(*counts) == pytest.approx(double_loop(a, b, rows_x, rows_y), rel=1e-10)
    centred = double_loop(a - a.mean(0), b - b.mean(0), rows_x, rows_y)
    assert kernel_by_counts_seer(x, y)(*counts) == pytest.approx(centred, rel=1e-10)


def test_golden_numbers():
    x, y = sets(20, 30, 12)
    assert [kernel_distance(x, y), kernel_distance_seer(x, y)] == pytest.approx(GOLDEN, rel=1e-10)


GOLDEN = [0.53405993703641, -0.21538382416353]


@pytest.mark.parametrize("distance", [kernel_distance, kernel_distance_seer])
def test_unusable_features_are_refused(distance):
    x, y = sets()
    for bad in (x[:1], x[:, :2], np.where(x > 0, np.nan, x)):
        with pytest.raises(FcaError, match="kernel distance"):
            distance(bad, y)
