"""The videos of one clip as one WebP picture: every frame that differs stands in it once, so that all are shown in step.

A page in a browser cannot hold many videos to the same frame; cells of one picture are in step by construction. Given
frames and copy-last-frame cost nothing, they are cells that are there already.
"""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from fcacli.errors import FcaError

VIEW_SIDE = 256
"""Pixels of the short side beyond which frames are reduced for the page."""
EXACT_SIDE = 128
"""Pixels of the short side up to which frames are kept lossless, where there is room; their pixels are seen enlarged."""
MOST_PIXELS = 2**24
"""Of one picture: what browsers of phones still draw."""
MOST_SIDE = 16_383
"""Pixels of a side: WebP's limit."""
COLUMNS = 16
QUALITIES = (85, 75, 65, 55, 45, 35, 25, 15)
SHRINK = 0.7
"""Of the frames' sides, where even the lowest quality takes too much room."""


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
        room: bytes that the base64 text may take; kept as long as WebP can.
        quality: the best one to try.

    Raises:
        FcaError: the videos differ in size.
    """
    if len(sizes := {video.shape[1:] for video in videos.values()}) != 1:
        said = ", ".join(f"{name} {video.shape[2]}x{video.shape[1]}" for name, video in videos.items())
        raise FcaError(f"videos of one clip differ in size: {said}")
    cells, frames = _distinct(videos)
    height, width, _ = sizes.pop()
    scale = min(1.0, VIEW_SIDE / min(height, width), MOST_SIDE / max(height, width))
    while True:
        sheet, columns, size = _sheet(frames, max(1, round(width * scale)), max(1, round(height * scale)))
        fits = sheet.shape[0] * sheet.shape[1] <= MOST_PIXELS and max(sheet.shape) <= MOST_SIDE
        exact = scale == 1 and min(height, width) <= EXACT_SIDE
        for tried in [*([None] if exact else []), *(step for step in QUALITIES if step <= quality)] if fits else []:
            text = _webp(sheet, tried)
            if len(text) <= room or (tried == QUALITIES[-1] and min(size) <= 16):
                return Sprite(text, cells, columns, *size, tried)
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


def _sheet(frames: list[np.ndarray], width: int, height: int) -> tuple[np.ndarray, int, tuple[int, int]]:
    """Frames as cells of one picture uint8 (H', W', 3), how many side by side, and the size of a cell."""
    columns = max(1, min(COLUMNS, len(frames), MOST_SIDE // width))
    sheet = np.zeros((-(-len(frames) // columns) * height, columns * width, 3), np.uint8)
    for number, frame in enumerate(frames):
        top, left = number // columns * height, number % columns * width
        if frame.shape[:2] != (height, width):
            frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        sheet[top : top + height, left : left + width] = frame
    return sheet, columns, (width, height)


def _webp(sheet: np.ndarray, quality: int | None) -> str:
    from PIL import Image

    file = io.BytesIO()
    settings = {"lossless": True, "quality": 50} if quality is None else {"quality": quality}
    Image.fromarray(sheet).save(file, "WEBP", method=2, **settings)
    return base64.b64encode(file.getvalue()).decode()
