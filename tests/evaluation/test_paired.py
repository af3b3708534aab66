"""Claims about paired differences."""

import numpy as np
import pytest

from fcacli.evaluation.frechet import frechet_distance
from fcacli.evaluation.kernel import kernel_distance
from fcacli.evaluation.paired import paired_bootstrap, paired_bootstrap_of_sets


def scores(seed: int, count: int = 64, gain: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Of clips that differ far more from each other than the methods do."""
    rng = np.random.default_rng(seed)
    hard = 25 + 5 * rng.standard_normal(count)
    return hard + 0.5 * rng.standard_normal(count), hard + gain + 0.5 * rng.standard_normal(count)


def test_the_difference_is_that_of_the_means_and_turns_with_the_order():
    a, b = scores(0, gain=0.5)
    one, other = paired_bootstrap(a, b), paired_bootstrap(b, a)
    assert one.value == pytest.approx(b.mean() - a.mean(), abs=1e-12)
    assert (other.value, *other.interval) == pytest.approx((-one.value, -one.interval[1], -one.interval[0]))
    assert one.p == other.p and one == paired_bootstrap(a, b)


def test_the_interval_is_as_wide_as_the_clips_differences_say():
    a, b = scores(1, count=400)
    low, high = paired_bootstrap(a, b).interval
    assert high - low == pytest.approx(2 * 1.96 * np.std(b - a) / 20, rel=0.05)  # unpaired it would be ten times that


def test_a_small_gain_on_every_clip_is_real_and_p_agrees_with_the_interval():
    found = paired_bootstrap(*scores(2, gain=0.5))
    assert found.real and found.interval[0] > 0 and found.p < 0.001
    for seed in range(30):
        one = paired_bootstrap(*scores(seed, gain=0.15), resamples=2000)
        assert one.real == (one.p < 0.05) or abs(one.p - 0.05) < 0.005


def test_without_a_difference_it_looks_real_in_about_one_of_twenty():
    real = sum(paired_bootstrap(*scores(seed), resamples=500).real for seed in range(400))
    assert 8 <= real <= 38  # 5 % of 400 are 20; binomial, three sigma


def test_equal_scores_have_no_difference():
    a, _ = scores(3)
    found = paired_bootstrap(a, a)
    assert (found.value, found.interval, found.p, found.real) == (0.0, (0.0, 0.0), 1.0, False)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_sets_keep_their_clips_together(distance):
    """A method against itself differs by nothing in every resample; against a worse one by the distances' difference."""
    rng = np.random.default_rng(0)
    true = rng.standard_normal((40, 12))
    good, bad = true + 0.3 * rng.standard_normal(true.shape), 2 * true + 1
    same = paired_bootstrap_of_sets(distance, good, good, true, resamples=50)
    assert same.interval == (0.0, 0.0) and not same.real
    found = paired_bootstrap_of_sets(distance, good, bad, true, resamples=100)
    assert found.value == pytest.approx(distance(bad, true) - distance(good, true))
    assert found.real and found.interval[0] < found.value < found.interval[1]


def test_two_equally_good_sets_are_undecided():
    rng = np.random.default_rng(1)
    real = 0
    for _ in range(20):
        true = rng.standard_normal((32, 40))
        a, b = (true + 0.5 * rng.standard_normal(true.shape) for _ in range(2))
        real += paired_bootstrap_of_sets(frechet_distance, a, b, true, resamples=60).real
    assert real <= 3


def test_the_interval_of_sets_lies_around_what_was_measured():
    """Resamples hold fewer different clips, so that a Frechet distance of theirs lies above; 10 % here."""
    rng = np.random.default_rng(2)
    true = rng.standard_normal((24, 60))
    near, far = true + 0.3 * rng.standard_normal(true.shape), rng.standard_normal(true.shape)
    found = paired_bootstrap_of_sets(frechet_distance, near, far, true, resamples=60)
    low, high = found.interval
    assert low < found.value < high and (low + high) / 2 == pytest.approx(found.value, rel=0.05)
