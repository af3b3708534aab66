"""Means, intervals and curves, and the conditions beside them."""

import numpy as np
import pytest

from fcacli.evaluation.report import (
    METRICS,
    PSNR_CAP,
    bootstrap_interval,
    conditions,
    copy_last_frame,
    results,
    score_clip,
    summarise,
    table,
)


def _clip(seed: int, frames: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (frames, 16, 20, 3), dtype=np.uint8)


def test_given_frames_do_not_count() -> None:
    truth, prediction = _clip(0), _clip(1)
    other = prediction.copy()
    other[:2] = 255 - other[:2]
    for name in METRICS:
        assert (score_clip(prediction, truth, 2)[name] == score_clip(other, truth, 2)[name]).all()
        assert len(score_clip(prediction, truth, 2)[name]) == 4


def test_mean_is_over_frames_then_over_clips() -> None:
    line = summarise(
        "m", [{"psnr": np.array([10.0, 20.0]), "ssim": np.ones(2)}, {"psnr": np.array([30.0]), "ssim": np.ones(1)}]
    )
    score = line.metrics["psnr"]
    assert score.value == pytest.approx((15 + 30) / 2)
    assert score.per_clip == [15.0, 30.0]
    assert score.per_frame == [20.0, 20.0]


def test_equal_frames_are_capped_so_that_means_stay_finite() -> None:
    truth = _clip(0)
    assert (score_clip(truth, truth, 0)["psnr"] == PSNR_CAP).all()


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


def test_copy_last_frame_repeats_the_last_given_frame() -> None:
    truth = _clip(0)
    still = copy_last_frame(truth, 2)
    assert (still[:2] == truth[:2]).all()
    assert (still[2:] == truth[1]).all()


def test_results_state_every_condition_and_the_table_every_row() -> None:
    truth = _clip(0)
    lines = [
        summarise("fca", [score_clip(_clip(1), truth, 2), score_clip(_clip(2), truth, 2)]),
        summarise("copy last frame", [score_clip(copy_last_frame(truth, 2), truth, 2)] * 2),
    ]
    said = conditions(2, [truth.shape], "lossless")
    numbers = results(lines, ["a", "b"], said, {"kind": "run"})
    assert numbers["clips"] == 2
    assert numbers["metrics"]["psnr"]["value"] == lines[0].metrics["psnr"].value
    assert [row["name"] for row in numbers["rows"]] == ["fca", "copy last frame"]
    assert {"given_frames", "scored_frames", "size", "ssim", "psnr", "source", "interval"} <= set(numbers["conditions"])
    assert said["size"] == "20x16"
    text = table(lines, 2, said)
    assert "copy last frame" in text
    assert "2 clips at 20x16" in text
