"""Methods against the truth: what counts, what does not, and that nothing depends on how clips come."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from fcacli.errors import FcaError
from fcacli.evaluation.frechet import frechet_distance
from fcacli.evaluation.intervals import bootstrap_interval
from fcacli.evaluation.scoring import (
    PSNR_CAP,
    Clips,
    FrameScorer,
    Method,
    SetScorer,
    capped_psnr,
    copy_last_frame,
    score,
    score_clip,
    ssim_of_predicted,
    summarise,
)
from fcacli.events import Report, silent

NAMES = ["a", "b", "c", "d"]
PSNR, SSIM = FrameScorer("psnr", capped_psnr, {}), FrameScorer("ssim", ssim_of_predicted, {})


def _clip(seed: int, frames: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (frames, 16, 20, 3), dtype=np.uint8)


def _truth(name: str) -> np.ndarray:
    return _clip(NAMES.index(name))


def _shifted(by: int) -> Callable[[str], np.ndarray]:
    return lambda name: np.clip(_truth(name).astype(int) + by, 0, 255).astype(np.uint8)


class Pixels:
    """Features that are a few pixels; it counts the videos it has seen."""

    identity = "pixels"

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, videos: Sequence[np.ndarray]) -> np.ndarray:
        self.seen += [video.shape for video in videos]
        return np.stack([video[:, 0, 0, 0].astype(np.float64) for video in videos])


class NoCache:
    def features(self, extractor: Pixels, names: Sequence[str], video: Callable, report: Report) -> np.ndarray:
        return np.concatenate([extractor([video(name)]) for name in names])


def _score(methods, frames=(), sets=(), names=NAMES, interval=None, given=2):
    clips = Clips(names, _truth, given, {})
    return score(methods, clips, frames, sets, NoCache(), interval, silent)


def test_given_frames_do_not_count() -> None:
    truth, prediction = _clip(0), _clip(1)
    other = prediction.copy()
    other[:2] = 255 - other[:2]
    for name in ("psnr", "ssim"):
        assert (score_clip(prediction, truth, 2)[name] == score_clip(other, truth, 2)[name]).all()
        assert len(score_clip(prediction, truth, 2)[name]) == 4


def test_equal_frames_are_capped_so_that_means_stay_finite() -> None:
    truth = _clip(0)
    assert (score_clip(truth, truth, 0)["psnr"] == PSNR_CAP).all()


def test_copy_last_frame_repeats_the_last_given_frame() -> None:
    truth = _clip(0)
    still = copy_last_frame(truth, 2)
    assert (still[:2] == truth[:2]).all()
    assert (still[2:] == truth[1]).all()


def test_mean_is_over_frames_then_over_clips() -> None:
    score = summarise("psnr", [[np.array([10.0, 20.0]), np.array([30.0])]])
    assert score.value == pytest.approx((15 + 30) / 2)
    assert score.per_clip == [15.0, 30.0]
    assert score.per_frame == [20.0, 20.0]
    assert score.best_of is None


def test_a_metric_that_a_still_picture_wins_has_no_best_sample_and_says_what_the_truth_has() -> None:
    from fcacli.evaluation.flickering import temporal_flickering

    flickering = FrameScorer("flickering", lambda p, truth, given, text: temporal_flickering(p[given - 1 :]), {})
    methods = [
        Method("fca", "method", [_shifted(9), _shifted(30)]),
        Method("copy", "baseline", [lambda name: copy_last_frame(_truth(name), 2)]),
    ]
    ours, copied = (row.metrics for row in _score(methods, frames=[PSNR, flickering]))
    natural = np.mean([temporal_flickering(_truth(name)[1:]).mean() for name in NAMES])
    assert copied["flickering"].value == 1.0 > natural
    assert ours["flickering"].truth == copied["flickering"].truth == pytest.approx(natural)
    assert ours["flickering"].best_of is None and ours["psnr"].best_of is not None and ours["psnr"].truth is None


def test_of_several_samples_the_score_is_the_mean_and_the_best_is_named_as_such() -> None:
    samples = [[np.array([10.0, 20.0]), np.array([30.0, 30.0])], [np.array([20.0, 30.0]), np.array([10.0, 10.0])]]
    score = summarise("psnr", samples)
    assert score.value == pytest.approx(20.0)
    assert score.best_of is not None
    assert score.best_of["samples"] == 2
    assert score.best_of["per_clip"] == [25.0, 30.0]
    lower = summarise("lpips", samples)
    assert lower.best_of is not None
    assert lower.best_of["per_clip"] == [15.0, 10.0]
    assert lower.value == score.value


@pytest.mark.parametrize("order", [[3, 1, 0, 2], [0, 1], [2]])
def test_a_clips_score_does_not_depend_on_the_others(order: list[int]) -> None:
    method = Method("m", "method", [_shifted(9)])
    whole = _score([method], [PSNR, SSIM])[0].metrics
    part = _score([method], [PSNR, SSIM], names=[NAMES[i] for i in order])[0].metrics
    for name in ("psnr", "ssim"):
        assert part[name].per_clip == [whole[name].per_clip[i] for i in order]


def test_a_distance_of_sets_sees_whole_videos_and_each_set_once_per_network() -> None:
    pixels = Pixels()
    sets = [SetScorer("fvd", pixels, frechet_distance, {}), SetScorer("kvd", pixels, lambda x, y: float(abs(x - y).max()), {})]
    rows = _score([Method("m", "method", [_shifted(9)]), Method("n", "run", [_shifted(0)])], sets=sets)
    assert pixels.seen == [(6, 16, 20, 3)] * 12
    assert rows[0].metrics["kvd"].value == 9.0
    assert rows[1].metrics["fvd"].value == pytest.approx(0.0, abs=1e-8)
    predicted, true = rows[0].features["fvd"]
    assert (predicted == np.minimum(true + 9, 255)).all()
    assert rows[0].features["kvd"][0] is predicted
    assert rows[0].metrics["fvd"].interval is None
    assert rows[0].metrics["fvd"].per_clip is None


class FramesApart(Pixels):
    def __call__(self, videos: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([video[:, 0, 0, :1].astype(np.float64) for video in videos])


def test_features_of_single_frames_are_of_the_predicted_ones_and_their_interval_is_over_clips() -> None:
    seen: list[tuple[int, ...]] = []

    def interval(distance, x, y, *, clips):
        seen.extend([x.shape, y.shape, (clips,)])
        return 0.0, 1.0

    scorer = SetScorer("fid", FramesApart(), frechet_distance, {}, view=lambda video, given: video[given:])
    rows = _score([Method("m", "method", [_shifted(9)])], sets=[scorer], interval=interval)
    assert seen == [(4 * 4, 1), (4 * 4, 1), (4,)]
    assert rows[0].metrics["fid"].interval == (0.0, 1.0)
    assert rows[0].features == {}


def test_intervals_of_sets_and_samples_are_means_over_samples() -> None:
    scorer = SetScorer("fvd", Pixels(), lambda x, y: float((x - y).mean()), {})
    method = Method("m", "method", [_shifted(0), lambda name: _truth(name) // 2 * 2])
    row = _score([method], sets=[scorer], interval=lambda distance, x, y, clips: (distance(x, y) - 1, distance(x, y) + 1))[0]
    odd = float(np.mean([_truth(name)[:, 0, 0, 0] % 2 for name in NAMES]))
    assert row.metrics["fvd"].value == pytest.approx(-odd / 2)
    assert row.metrics["fvd"].interval == pytest.approx((-odd / 2 - 1, -odd / 2 + 1))


def test_a_number_that_is_not_finite_names_metric_clip_and_method() -> None:
    bad = FrameScorer("lpips", lambda p, truth, given, text: np.array([1.0, np.nan]), {})
    with pytest.raises(FcaError, match=r"LPIPS of clip a \(mine\)"):
        _score([Method("mine", "method", [_shifted(0)])], [bad])


def test_bootstrap_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(60):
        low, high = bootstrap_interval(rng.normal(5, 2, 40)) or (0, 0)
        hits += low <= 5 <= high
    assert hits >= 51  # 57 expected


def test_interval_is_reproducible_and_absent_below_two_clips() -> None:
    values = np.random.default_rng(0).normal(size=20)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values[:1]) is None
