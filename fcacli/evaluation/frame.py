"""Per-frame metrics, as PROTOCOL.md's "Per-frame metrics": on values in [0, 1], one number a frame, float64.

Videos are uint8 (T, H, W, 3). Nothing here depends on how clips are batched.
"""

import cv2
import numpy as np

WINDOW, SIGMA = 11, 1.5
"""SSIM's gaussian window (Wang et al. 2004)."""


def psnr(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of every frame, dB: (T,); infinite where a frame is equal in every pixel."""
    _check(prediction, truth)
    frames = zip(prediction, truth, strict=True)  # one at a time: float64 takes eight times the memory
    error = np.array([np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2) for a, b in frames]) / 255.0**2  # (T,)
    with np.errstate(divide="ignore"):
        return -10.0 * np.log10(error)


def ssim(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Structural similarity of every frame: (T,). Wang, Bovik, Sheikh, Simoncelli, 2004, equation 13.

    Gaussian window of 11, sigma 1.5, population covariance, mean over the windows that lie wholly inside the picture and
    over the three channels: scikit-image's structural_similarity(gaussian_weights=True, use_sample_covariance=False).
    """
    _check(prediction, truth)
    if min(prediction.shape[1:3]) < WINDOW:
        raise ValueError(f"SSIM needs frames of at least {WINDOW}x{WINDOW}, got {prediction.shape[2]}x{prediction.shape[1]}")
    return np.array([_ssim_of_frame(a, b) for a, b in zip(prediction, truth, strict=True)])


def _ssim_of_frame(prediction: np.ndarray, truth: np.ndarray) -> float:
    """SSIM of two uint8 (H, W, 3) pictures."""
    x, y = prediction / 255.0, truth / 255.0
    mean_x, mean_y = _blur(x), _blur(y)
    square_x, square_y, product = mean_x * mean_x, mean_y * mean_y, mean_x * mean_y
    variance_x, variance_y = _blur(x * x) - square_x, _blur(y * y) - square_y
    covariance = _blur(x * y) - product
    c1, c2 = 0.01**2, 0.03**2
    score = ((2 * product + c1) * (2 * covariance + c2)) / ((square_x + square_y + c1) * (variance_x + variance_y + c2))
    return float(score.mean())


def _blur(picture: np.ndarray) -> np.ndarray:
    """Gaussian-weighted mean of every whole window: (H, W, C) -> (H - 10, W - 10, C)."""
    half = WINDOW // 2
    taps = np.exp(-0.5 * (np.arange(-half, half + 1) / SIGMA) ** 2)
    taps /= taps.sum()
    return cv2.sepFilter2D(picture, cv2.CV_64F, taps, taps)[half:-half, half:-half]


def _check(prediction: np.ndarray, truth: np.ndarray) -> None:
    for video in (prediction, truth):
        if video.dtype != np.uint8 or video.ndim != 4 or video.shape[-1] != 3:
            raise ValueError(f"expected uint8 (T, H, W, 3) frames, got {video.dtype} {video.shape}")
    if prediction.shape != truth.shape:
        raise ValueError(f"cannot compare videos of shape {prediction.shape} and {truth.shape}")
