"""Intervals of distances of sets: they hold the distance, cover what they should, and cost little."""

from functools import partial

import numpy as np
import pytest

from fcacli.evaluation.frechet import frechet_distance, frechet_distance_over_n
from fcacli.evaluation.kernel import kernel_distance, kernel_distance_seer
from fcacli.evaluation.set_interval import bootstrap_set, resampled_distances

DISTANCES = [frechet_distance, frechet_distance_over_n, kernel_distance, kernel_distance_seer]


def sets(n: int, d: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of n true clips, and of as many predictions that miss them by something."""
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((n, d))
    return 0.8 * truth + 2 * rng.standard_normal((n, d)) + 0.5, truth


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_interval_holds_the_distance_and_narrows_with_clips(distance):
    widths = []
    for n in (40, 640):
        low, high = bootstrap_set(distance, *sets(n), resamples=100)
        assert low < distance(*sets(n)) < high
        widths.append(high - low)
    assert 2.5 < widths[0] / widths[1] < 7  # a quarter for sixteen times the clips


@pytest.mark.parametrize("distance", DISTANCES)
def test_95_percent_intervals_cover_the_mean_distance_of_sets_of_this_size(distance):
    expected = np.mean([distance(*sets(50, seed=seed)) for seed in range(1000, 1300)])
    intervals = [bootstrap_set(distance, *sets(50, seed=seed), resamples=60, seed=seed) for seed in range(80)]
    assert 0.85 <= np.mean([low <= expected <= high for low, high in intervals]) <= 0.99


@pytest.mark.parametrize("distance", DISTANCES)
def test_equal_seeds_give_equal_resamples_and_others_do_not(distance):
    x, y = sets(30)
    first = resampled_distances(distance, x, y, 20)
    assert np.array_equal(first, resampled_distances(distance, x, y, 20))
    assert not np.allclose(first, resampled_distances(distance, x, y, 20, seed=1))


def test_clips_of_both_sets_are_drawn_together():
    """So that a prediction that is the truth is at distance zero in every resample."""
    x, _ = sets(30)
    assert resampled_distances(frechet_distance, x, x, 50).max() < 1e-9
    assert resampled_distances(frechet_distance, x, x[:29], 50).min() > 1e-3


@pytest.mark.parametrize("n,d", [(30, 50), (60, 4)])
def test_a_distance_that_knows_no_counts_is_computed_on_the_drawn_rows(n, d):
    x, y = sets(n, d)
    known, unknown = (resampled_distances(f, x, y, 20) for f in (frechet_distance, partial(frechet_distance, ddof=1)))
    assert np.abs(known - unknown).max() < 1e-8 * known.max()


def test_all_rows_of_a_clip_are_drawn_with_it():
    x, y = sets(30)
    threefold = [np.repeat(part, 3, axis=0) for part in (x, y)]
    whole = resampled_distances(partial(frechet_distance, ddof=0), x, y, 20)
    by_clip = resampled_distances(partial(frechet_distance, ddof=0), *threefold, 20, clips=30)
    assert np.abs(whole - by_clip).max() < 1e-9


def test_two_clips_have_an_interval():
    x, y = sets(2)
    assert np.isfinite(bootstrap_set(kernel_distance, x, y, resamples=20)).all()
