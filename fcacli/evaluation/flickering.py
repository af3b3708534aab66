"""Temporal flickering as VBench counts it (Huang et al., 2024): 1 - mean absolute difference of neighbouring frames / 255."""

import numpy as np

from fcacli.errors import FcaError

CONDITIONS = (
    "VBench's formula on every clip; VBench itself scores only videos that its optical-flow filter calls static. "
    "Needs no truth; higher is stiller: a picture that stands still has 1, and true motion lowers it"
)


def temporal_flickering(video: np.ndarray) -> np.ndarray:
    """Of uint8 (T, H, W, 3), for each pair of neighbouring frames: (T - 1,) float64 in [0, 1]; its mean is VBench's score.

    To score a prediction alone, begin with the last given frame: the step from it counts.

    Raises:
        FcaError: fewer than two frames.
    """
    if video.dtype != np.uint8 or video.ndim != 4:
        raise ValueError(f"expected uint8 (T, H, W, 3) frames, got {video.dtype} {video.shape}")
    if len(video) < 2:
        raise FcaError(f"flickering is a change between frames; this video has {len(video)}", "leave flickering out")
    pairs = zip(video[:-1].astype(np.int16), video[1:], strict=True)  # signed: bytes would wrap
    return np.array([1.0 - np.abs(after - before).mean(dtype=np.float64) / 255.0 for before, after in pairs])
