"""A few frames of a clip as one small JPEG, for the contact sheet of the audit."""

import base64
import io
from dataclasses import dataclass

import numpy as np

from fcacli.data.resize import resize_frame
from fcacli.data.spool import Spool

HEIGHT = 96
"""Pixels of a thumbnail."""
SHOWN = 16
"""Most frames of a clip."""
COLUMNS = 8
"""Thumbnails side by side."""


@dataclass(frozen=True)
class Strip:
    """Thumbnails of one clip in one picture, row by row, COLUMNS in each."""

    jpeg: str
    """Base64."""
    shown: list[int]
    """Which of the stored frames they are."""
    width: int
    """Pixels of one thumbnail."""
    height: int


class StripMaker:
    """Collects the stored frames of one clip; a context manager."""

    def __init__(self) -> None:
        self._thumbs = Spool()

    def __enter__(self) -> "StripMaker":
        return self

    def __exit__(self, *exception: object) -> None:
        self._thumbs.__exit__(None, None, None)

    def see(self, frame: np.ndarray) -> None:
        """One stored frame, uint8 (H, W, 3)."""
        width = max(1, min(4 * HEIGHT, round(frame.shape[1] * HEIGHT / frame.shape[0])))
        self._thumbs.append(resize_frame(frame, width, HEIGHT, "stretch"))

    def strip(self) -> Strip:
        """When all frames have passed, at least one: SHOWN of them at equal spacing, from the first to the last."""
        from PIL import Image

        count = len(self._thumbs)
        shown = [int(index) for index in np.unique(np.linspace(0, count - 1, min(SHOWN, count)).round().astype(int))]
        thumbs = [self._thumbs[index] for index in shown]
        height, width = thumbs[0].shape[:2]
        sheet = np.full((-(-len(thumbs) // COLUMNS) * height, min(COLUMNS, len(thumbs)) * width, 3), 128, np.uint8)
        for index, thumb in enumerate(thumbs):
            top, left = index // COLUMNS * height, index % COLUMNS * width
            sheet[top : top + height, left : left + width] = thumb
        file = io.BytesIO()
        Image.fromarray(sheet).save(file, "JPEG", quality=82)
        return Strip(base64.b64encode(file.getvalue()).decode(), shown, width, height)
