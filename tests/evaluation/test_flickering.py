"""Temporal flickering: VBench's number, from its formula on paper."""

import numpy as np
import pytest

from fcacli.errors import FcaError
from fcacli.evaluation.flickering import temporal_flickering


def test_it_is_one_minus_the_mean_absolute_step_over_255():
    video = np.random.default_rng(1).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    steps = [np.abs(video[t + 1].astype(float) - video[t].astype(float)).mean() for t in range(3)]
    assert temporal_flickering(video) == pytest.approx([(255 - step) / 255 for step in steps], abs=1e-12)


def test_a_still_video_scores_one_and_black_to_white_zero():
    video = np.zeros((3, 4, 4, 3), np.uint8)
    video[2] = 255
    assert temporal_flickering(video).tolist() == [1.0, 0.0]
    assert temporal_flickering(video[::-1]).tolist() == [0.0, 1.0]  # bytes do not wrap


def test_one_frame_does_not_flicker():
    with pytest.raises(FcaError, match="a change between frames; this video has 1"):
        temporal_flickering(np.zeros((1, 4, 4, 3), np.uint8))
