"""The videos of one clip as one WebP picture: every frame that differs stands in it once, so that all are shown in step.

A page in a browser cannot hold many videos to the same frame; cells of one picture are in step by construction. Given
frames and copy-last-frame cost nothing, they are cells that are there already.
"""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from fcacli.errors import FcaError

VIEW_SIDE = 256
"""Pixels of the short side beyond which frames are reduced for the page."""
EXACT_SIDE = 128
"""Pixels of the short side up to which frames are kept lossless where there is room: their pixels are seen enlarged."""
LEAST_SIDE = 16
"""Pixels of the short side that are shown whatever room they take."""
MOST_PIXELS = 2**24
"""Of one picture: what browsers of phones still draw."""
MOST_SIDE = 16_383
"""Pixels of a side: WebP's limit."""
COLUMNS = 16
QUALITIES = (85, 75, 65, 55, 45, 35, 25, 15)
"""WebP's, the best that fits is taken."""
SHRINK = 0.7
"""Of the frames' sides, where even the lowest quality takes too much room."""
PROBED = 8
"""Frames on which the size of all is estimated."""


@dataclass(frozen=True)
class Sprite:
    """One picture, and where each frame of each video stands in it."""

    base64: str
    """The WebP file."""
    cells: dict[str, list[int]]
    """Video -> cell of each of its frames; cells are counted row by row."""
    columns: int
    width: int
    """Pixels of a cell."""
    height: int
    quality: int | None
    """WebP's; None for lossless."""


def make_sprite(videos: Mapping[str, np.ndarray], room: int, quality: int = QUALITIES[0]) -> Sprite:
    """Of videos uint8 (T, H, W, 3) of one size, T may differ.

    Args:
        room: bytes that the base64 text may take.
        quality: the best one to try.

    Raises:
        FcaError: the videos differ in size.
    """
    if len({video.shape[1:] for video in videos.values()}) != 1:
        said = ", ".join(f"{name} {video.shape[2]}x{video.shape[1]}" for name, video in videos.items())
        raise FcaError(f"videos of one clip differ in size: {said}")
    cells, frames = _distinct(videos)
    short, scale = min(frames[0].shape[:2]), 1.0
    while True:
        size = _reduced(frames[0], scale)
        if _drawable(len(frames), *size):
            cut = [_resized(frame, *size) for frame in frames]
            exact = scale == 1 and short <= EXACT_SIDE
            for tried in [*([None] if exact else []), *_promising(cut, room, quality)]:
                text = _webp(cut, tried)
                if len(text) <= room or (tried == QUALITIES[-1] and min(size) <= LEAST_SIDE):
                    return Sprite(text, cells, _columns(len(cut), size[0]), *size, tried)
        scale *= SHRINK


def _distinct(videos: Mapping[str, np.ndarray]) -> tuple[dict[str, list[int]], list[np.ndarray]]:
    """The cell of each frame, and the frames that differ, in order of appearance."""
    seen: dict[bytes, int] = {}
    frames: list[np.ndarray] = []
    cells: dict[str, list[int]] = {}
    for name, video in videos.items():
        cells[name] = []
        for frame in video:
            cell = seen.setdefault(frame.tobytes(), len(frames))
            if cell == len(frames):
                frames.append(frame)
            cells[name].append(cell)
    return cells, frames


def _reduced(frame: np.ndarray, scale: float) -> tuple[int, int]:
    """Width and height on the page of a frame (H, W, 3), `scale` times the largest."""
    height, width = frame.shape[:2]
    scale *= min(1.0, VIEW_SIDE / min(height, width), MOST_SIDE / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resized(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    if frame.shape[:2] == (height, width):
        return frame
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)


def _columns(count: int, width: int) -> int:
    return max(1, min(COLUMNS, count, MOST_SIDE // width))


def _drawable(count: int, width: int, height: int) -> bool:
    """Whether so many cells of that size are a picture that browsers draw."""
    columns = _columns(count, width)
    tall = -(-count // columns) * height
    return tall <= MOST_SIDE and tall * columns * width <= MOST_PIXELS


def _promising(frames: Sequence[np.ndarray], room: int, quality: int) -> Iterator[int]:
    """Qualities from the best that should fit, by a few of the frames, to the lowest."""
    probe = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, PROBED).astype(int))]
    fits = False
    for step in (step for step in QUALITIES if step <= quality):
        fits = fits or len(_webp(probe, step)) * len(frames) / len(probe) <= room
        if fits or step == QUALITIES[-1]:
            yield step


def _webp(frames: Sequence[np.ndarray], quality: int | None) -> str:
    """Frames of one size as cells of one picture, base64."""
    from PIL import Image

    height, width = frames[0].shape[:2]
    columns = _columns(len(frames), width)
    sheet = np.zeros((-(-len(frames) // columns) * height, columns * width, 3), np.uint8)
    for number, frame in enumerate(frames):
        top, left = number // columns * height, number % columns * width
        sheet[top : top + height, left : left + width] = frame
    settings = {"lossless": True, "quality": 50} if quality is None else {"quality": quality}
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "WEBP", method=2, **settings)
    return base64.b64encode(file.getvalue()).decode()
