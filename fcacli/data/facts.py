"""What a pass over a clip's frames tells about its source: what the audit counts, by decoding and not by headers."""

from dataclasses import dataclass

import numpy as np

from fcacli.data.decode import Track

BLACK = 16
"""Of 255: a clip without a single brighter value was filmed by a camera that is not there."""
UNEVEN = 0.25
"""Share of the usual time between two frames by which another one may differ at a steady rate."""
ROUNDING = 0.002
"""Seconds; WebM stores milliseconds."""


@dataclass(frozen=True)
class Facts:
    """A source as it decodes."""

    frames: int
    seconds: float
    """From the first frame to the last."""
    width: int
    """Pixels, upright and with square pixels."""
    height: int
    fps: float
    """Frames per second by the times of the frames; 0 of a single one."""
    uneven: bool
    """Variable frame rate."""
    rotated: bool
    """A rotation in the file was applied."""
    promised: int
    """Frames by the header or the raw data's own description; 0 where neither says it."""


class Gauge:
    """Looks at the frames as they pass."""

    def __init__(self) -> None:
        self.width = self.height = 0
        self.black = True

    def see(self, frame: np.ndarray) -> None:
        """One frame, uint8 (H, W, 3)."""
        self.height, self.width = frame.shape[:2]
        if self.black:  # every fourth pixel each way; ends at the first bright one
            self.black = int(frame[::4, ::4].max()) <= BLACK

    def facts(self, track: Track, promised: int) -> Facts:
        """When all frames have passed."""
        times = np.asarray(track.times)
        seconds = float(times[-1] - times[0])
        return Facts(
            frames=len(times),
            seconds=round(seconds, 3),
            width=self.width,
            height=self.height,
            fps=round((len(times) - 1) / seconds, 2) if seconds > 0 else 0.0,
            uneven=is_uneven(times),
            rotated=track.rotated,
            promised=promised or track.promised,
        )


def is_uneven(times: np.ndarray) -> bool:
    """Whether frames at `times` (seconds, rising) come at a variable rate."""
    steps = np.diff(times)
    if len(steps) < 2:
        return False
    usual = float(np.median(steps))
    return bool(np.abs(steps - usual).max() > UNEVEN * usual + ROUNDING)
