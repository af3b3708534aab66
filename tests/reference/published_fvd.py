"""FVD's four published recipes written out: how each resizes, and what it makes of the features.

Nothing is shared with fcacli.evaluation. Pixels are interpolated one output line at a time, in float64.
"""

import math

import numpy as np
import scipy.linalg


def line(frames: np.ndarray, axis: int, size: int, offset: float) -> np.ndarray:
    """Bilinear along one axis: output i lies at (i + offset) * ratio - offset of the input, held at its ends."""
    length = frames.shape[axis]
    picked = []
    for i in range(size):
        place = min(max((i + offset) * length / size - offset, 0.0), length - 1.0)
        low = math.floor(place)
        high = min(low + 1, length - 1)
        a, b = np.take(frames, low, axis), np.take(frames, high, axis)
        picked.append(a + (place - low) * (b - a))
    return np.stack(picked, axis)


def plane(video: np.ndarray, height: int, width: int, offset: float) -> np.ndarray:
    """uint8 (T, H, W, 3) -> (T, height, width, 3) in [-1, 1]."""
    return line(line(video.astype(np.float64), 1, height, offset), 2, width, offset) / 255 * 2 - 1


def preprocessed(video: np.ndarray, preset: str) -> np.ndarray:
    """uint8 (T, H, W, 3) -> (3, T, 224, 224)."""
    height, width = video.shape[1:3]
    if preset == "tf":  # tf.image.resize_bilinear of TensorFlow 1: no half-pixel centres
        x = plane(video, 224, 224, 0.0)
    elif preset in ("styleganv", "cdfvd"):
        x = plane(video, 224, 224, 0.5)
    elif height < width:
        x = plane(video, 224, math.ceil(width * 224 / height), 0.5)
        left = (x.shape[2] - 224) // 2
        x = x[:, :, left : left + 224]
    else:
        x = plane(video, math.ceil(height * 224 / width), 224, 0.5)
        top = (x.shape[1] - 224) // 2
        x = x[:, top : top + 224]
    return x.transpose(3, 0, 1, 2)


def by_sqrtm(x: np.ndarray, y: np.ndarray) -> float:
    """StyleGAN-V and cd-fvd: covariances over N, a general matrix root."""
    c1, c2 = np.cov(x.T, bias=True), np.cov(y.T, bias=True)
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(c1 + c2 - 2 * scipy.linalg.sqrtm(c1 @ c2).real)


def by_symmetric_svd(x: np.ndarray, y: np.ndarray, dtype: type = np.float64) -> float:
    """TensorFlow and VideoGPT: covariances over N - 1, tr (S1^(1/2) S2 S1^(1/2))^(1/2) by SVD; theirs are float32."""

    def root(matrix: np.ndarray) -> np.ndarray:
        u, s, vt = np.linalg.svd(matrix)
        return (u * np.where(s < 1e-10, s, np.sqrt(s))) @ vt

    x, y = x.astype(dtype), y.astype(dtype)
    c1, c2 = ((z - z.mean(0)).T @ (z - z.mean(0)) / dtype(len(z) - 1) for z in (x, y))
    half = root(c1)
    return float(np.trace(c1 + c2) - 2 * np.trace(root(half @ c2 @ half)) + ((x.mean(0) - y.mean(0)) ** 2).sum())


DISTANCES = {"tf": by_symmetric_svd, "styleganv": by_sqrtm, "videogpt": by_symmetric_svd, "cdfvd": by_sqrtm}
EPS = {"tf": 1e-3, "styleganv": 1e-3, "videogpt": 1e-5, "cdfvd": 1e-5}
