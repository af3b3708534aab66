"""Given frames as pictures of a fixed number of bytes, from which image features are computed while training.

JPEG with full colour resolution, at the best quality that fits into 3/4 byte a pixel: 98 for most (real clips at 256x256
take 33 KB, 48.7 dB from the frame).
"""

import cv2
import numpy as np

QUALITIES = (98, 95, 90, 80, 60, 30, 5)


def picture_bytes(width: int, height: int) -> int:
    """Bytes for a picture."""
    return 1024 + width * height * 3 // 4


def pack_frames(frames: np.ndarray) -> np.ndarray:
    """Frames uint8 (T0, H, W, 3) RGB to pictures uint8 (T0, bytes), filled up with zeros."""
    pictures = np.zeros((len(frames), picture_bytes(frames.shape[2], frames.shape[1])), np.uint8)
    for picture, frame in zip(pictures, frames, strict=True):
        data = _jpeg(frame, len(picture))
        picture[: len(data)] = data
    return pictures


def unpack_frames(pictures: np.ndarray) -> np.ndarray:
    """Pictures uint8 (T0, bytes) to frames uint8 (T0, H, W, 3) RGB.

    Raises:
        ValueError: one of them is damaged.
    """
    frames = [cv2.imdecode(picture, cv2.IMREAD_COLOR) for picture in pictures]
    if any(frame is None for frame in frames):
        raise ValueError("a picture of a given frame is damaged")
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) for frame in frames if frame is not None])


def _jpeg(frame: np.ndarray, limit: int) -> np.ndarray:
    image = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    for quality in QUALITIES:
        options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        _, data = cv2.imencode(".jpg", image, options)
        if len(data) <= limit:
            return data
    raise ValueError(f"a frame of {frame.shape[1]}x{frame.shape[0]} takes {len(data)} bytes even at quality {quality}")
