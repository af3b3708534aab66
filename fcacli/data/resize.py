"""Frames to another size, with OpenCV: area averaging when shrinking, cubic interpolation when enlarging."""

from typing import Literal

import numpy as np

from fcacli.errors import Misuse

Fit = Literal["crop", "pad", "stretch"]


def resize(frames: np.ndarray, width: int, height: int, fit: Fit = "crop") -> np.ndarray:
    """Bring a video uint8 (T, H, W, 3) to (T, height, width, 3).

    `fit` says what happens to another aspect ratio: "crop" cuts the middle out, "pad" adds black on both sides,
    "stretch" distorts.
    """
    if fit not in ("crop", "pad", "stretch"):
        raise Misuse(f"--fit must be crop, pad or stretch, got {fit!r}")
    return np.stack([resize_frame(frame, width, height, fit) for frame in frames])


def resize_frame(frame: np.ndarray, width: int, height: int, fit: Fit) -> np.ndarray:
    """One frame of `resize`: uint8 (H, W, 3) -> (height, width, 3)."""
    source_height, source_width = frame.shape[:2]
    if (source_width, source_height) == (width, height):
        return frame
    if fit == "crop":
        scale = max(width / source_width, height / source_height)
        cut_width = min(source_width, max(1, round(width / scale)))
        cut_height = min(source_height, max(1, round(height / scale)))
        left, top = (source_width - cut_width) // 2, (source_height - cut_height) // 2
        return _scale(frame[top : top + cut_height, left : left + cut_width], width, height)
    if fit == "stretch":
        return _scale(frame, width, height)
    scale = min(width / source_width, height / source_height)
    inner_width, inner_height = max(1, round(source_width * scale)), max(1, round(source_height * scale))
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    canvas = np.zeros((height, width, 3), dtype=np.uint8)
    canvas[top : top + inner_height, left : left + inner_width] = _scale(frame, inner_width, inner_height)
    return canvas


def _scale(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    import cv2

    if (frame.shape[1], frame.shape[0]) == (width, height):
        return np.ascontiguousarray(frame)
    shrinks = width <= frame.shape[1] and height <= frame.shape[0]
    enlarges = width >= frame.shape[1] and height >= frame.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC if enlarges else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(frame), (width, height), interpolation=method)
