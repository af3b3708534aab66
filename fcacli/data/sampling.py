"""Which frames of a source a stored clip holds, and at which size: ours (nearest frames, never blended) or Seer's.

Seer's (dataset/data_utils.py of its release): the whole action, short side to 256 and the centre cut out, then linear
interpolation in time to the frame count, which blends neighbouring frames; shorter clips are continued in mid-grey. Theirs
stays in floating point, here the frames are rounded to 8 bits; and they are taken in order, which theirs (glob) are not.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from fcacli.data.decode import sample_indices
from fcacli.data.resize import Fit, resize_frame
from fcacli.errors import Misuse

Protocol = Literal["ours", "seer"]
GREY = 128
"""Zero of the range -1 to 1, with which Seer's short clips are continued."""
SEER_SIZE = 256
SEER_FRAMES: dict[str, tuple[int, int]] = {"ssv2": (2, 12), "bridge": (1, 16), "epic-kitchens": (1, 16)}
"""Given and total frames of Seer's published numbers, by reader."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a stored clip holds of its source; None: as the source has it."""

    frames: int | None = None
    """How many; None for every one."""
    init_frames: int | None = None
    """How many of them are the given ones; for the contact sheet and, like frames and size, as the default of training."""
    width: int | None = None
    """Pixels."""
    height: int | None = None
    """Pixels."""
    fit: Fit = "crop"
    fps: float | None = None
    """Frames per second: with `frames` the first ones at that rate, else the whole clip at that rate."""
    protocol: Protocol = "ours"

    def __post_init__(self) -> None:
        if self.protocol == "seer" and (self.fps is not None or self.fit != "crop" or self.width != self.height):
            raise Misuse("--protocol seer takes the whole action and cuts squares: no --fps, no --fit, a square --size")
        for side in (self.width, self.height):
            if side is not None and not 16 <= side <= 4096:
                raise Misuse(f"--size must be between 16x16 and 4096x4096, got {self.width}x{self.height}", "--size 256x256")
        if self.init_frames is not None and self.frames is not None and self.init_frames >= self.frames:
            raise Misuse(f"--init-frames must be below --frames {self.frames}, got {self.init_frames}")

    def settings(self) -> list[Any]:
        """What decides the stored frames, for JSON."""
        return [value for name, value in asdict(self).items() if name != "init_frames"]


class Pick(NamedTuple):
    """One stored frame: `(1 - share)` of source frame `first` and `share` of `second`; grey where `first` is None."""

    first: int | None
    second: int
    share: float
    time: float
    """Seconds from the clip's first frame."""


def picks(form: Form, times: Sequence[float]) -> list[Pick]:
    """The frames that a clip with source frames at `times` (seconds, rising) consists of; fewer than `form.frames` where
    the source is too short for them."""
    seconds = np.asarray(times, dtype=np.float64) - times[0]
    if form.protocol == "seer":
        return _seer_picks(seconds, form.frames or len(seconds))
    if form.fps is not None:
        count = int(np.floor(seconds[-1] * form.fps + 0.5)) + 1  # half a frame short of the last one still counts
        wanted = np.arange(count if form.frames is None else min(count, form.frames)) / form.fps
        return [Pick(index, index, 0.0, float(time)) for index, time in zip(nearest(seconds, wanted), wanted, strict=True)]
    if form.frames is None or len(seconds) < form.frames:
        return [Pick(index, index, 0.0, float(time)) for index, time in enumerate(seconds)]
    return [Pick(index, index, 0.0, float(seconds[index])) for index in sample_indices(times, form.frames)]


def nearest(times: np.ndarray, wanted: np.ndarray) -> list[int]:
    """Index of the time nearest to each wanted one, the earlier of two as near."""
    if len(times) == 1:
        return [0] * len(wanted)
    right = np.searchsorted(times, wanted).clip(1, len(times) - 1)
    earlier = wanted - times[right - 1] <= times[right] - wanted + 1e-9
    return [int(index) for index in np.where(earlier, right - 1, right)]


def _seer_picks(seconds: np.ndarray, frames: int) -> list[Pick]:
    """torch's linear interpolation without aligned corners: output i lies at (i + 0.5) n / frames - 0.5 of n frames."""
    there = len(seconds)
    if there <= frames:
        step = float(seconds[-1]) / max(1, there - 1) or 1.0
        own = [Pick(index, index, 0.0, float(seconds[index])) for index in range(there)]
        return own + [Pick(None, 0, 0.0, float(seconds[-1]) + step * extra) for extra in range(1, frames - there + 1)]
    places = np.maximum((np.arange(frames) + 0.5) * there / frames - 0.5, 0.0)
    first = np.floor(places).astype(int)
    second = np.minimum(first + 1, there - 1)
    share = places - first
    stamps = (1 - share) * seconds[first] + share * seconds[second]
    stamps = stamps - stamps[0]
    rows = zip(first, second, share, stamps, strict=True)
    return [Pick(int(a), int(b), float(weight), float(time)) for a, b, weight, time in rows]


def blend(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """uint8 (H, W, 3): `first` and a `share` of `second`, rounded."""
    if share == 0:
        return first
    return np.rint((1 - share) * first.astype(np.float32) + share * second.astype(np.float32)).astype(np.uint8)


def sized(frame: np.ndarray, width: int, height: int, form: Form) -> np.ndarray:
    """One frame at the stored size."""
    if form.protocol == "seer":
        return _seer_crop(frame, width)
    return resize_frame(frame, width, height, "stretch" if form.width is None else form.fit)


def _seer_crop(frame: np.ndarray, size: int) -> np.ndarray:
    """torchvision's Resize (Pillow's bilinear filter) and CenterCrop."""
    from PIL import Image

    height, width = frame.shape[:2]
    short = min(width, height)
    picture = Image.fromarray(np.ascontiguousarray(frame))
    picture = picture.resize((int(size * width / short), int(size * height / short)), Image.Resampling.BILINEAR)
    left, top = round((picture.width - size) / 2), round((picture.height - size) / 2)
    return np.asarray(picture.crop((left, top, left + size, top + size)))
