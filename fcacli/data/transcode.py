"""Source video -> stored clip: upright, square pixels, short side up to 480, every frame, near-lossless H.264.

4:4:4 colour at crf 10: 43 to 46 dB from the source's RGB, odd widths (427x240) are kept, and coloured objects of a few
pixels keep their colour. One encoder thread and no macroblock tree (with it, x264 gives other bytes once in some hundred
times), so equal sources give equal files. The frames' times are the source's. What counts afterwards are the stored
frames as they decode; their hash names the clip's content.
"""

import hashlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from fcacli.data.decode import Track, Unreadable, frames_of
from fcacli.data.manifest import Clip
from fcacli.data.resize import resize_frame
from fcacli.errors import FcaError
from fcacli.workspace import atomic_file

SHORT_SIDE = 480
"""Pixels; larger frames are shrunk to it, smaller ones kept."""
LEAST_SIDE = 16
"""Pixels; anything smaller is no video."""
ENCODER = {"crf": "10", "preset": "veryfast", "bf": "0", "x264-params": "mbtree=0:rc-lookahead=0"}
"""Options of libx264."""
SETTINGS = [1, SHORT_SIDE, "yuv444p", ENCODER]
"""Everything that decides the stored file besides the source; the first number is this module's version."""
CLOCK = 90_000
"""Ticks a second of the stored time stamps."""


class TooShort(Unreadable):
    """A clip with fewer frames than asked."""

    def __init__(self, path: Path, frames: int, needed: int):
        super().__init__(path, too_short(frames, needed))
        self.frames = frames


def too_short(frames: int, needed: int) -> str:
    """Why a clip was left out."""
    return f"fewer frames than needed: {frames} of {needed}"


def transcode(video: Path, target: Path, *, text: str, source: str, fps: float | None = None, min_frames: int = 1) -> Clip:
    """Store `video` as `target` (data/<name>/<split>/videos/<id>.mp4), whole or not at all, and describe it.

    Raises:
        Unreadable: the source cannot be decoded from its first frame to its last, or is too short.
        FcaError: the target cannot be written.
    """
    track = Track()
    with atomic_file(target) as temporary:
        width, height = _encode(video, frames_of(video, track, fps), track, temporary)
        if track.problem:
            raise Unreadable(video, track.problem)
        if len(track.stamps) < min_frames:
            raise TooShort(video, len(track.stamps), min_frames)
        content, frames = _content(temporary)
        if frames != len(track.stamps):
            raise FcaError(f"{target} decodes to {frames} frames, {len(track.stamps)} were written", "is the disk full?")
    start = track.times[0]
    times = [round(time - start, 6) for time in track.times]
    return Clip(f"videos/{target.name}", text, source, frames, width, height, times, content)


def stored_size(width: int, height: int) -> tuple[int, int]:
    """The size in which frames are kept: the source's, shrunk where its short side is above SHORT_SIDE."""
    scale = min(1.0, SHORT_SIDE / min(width, height))
    return round(width * scale), round(height * scale)


def _encode(video: Path, frames: Iterator[np.ndarray], track: Track, path: Path) -> tuple[int, int]:
    """Write `frames` to an MP4 file at the times of `track`, which grows with them; the size, (width, height)."""
    import av
    from av.video.reformatter import VideoReformatter

    first = next(frames)
    width, height = stored_size(first.shape[1], first.shape[0])
    if min(width, height) < LEAST_SIDE:
        raise Unreadable(video, f"its frames are only {width}x{height} pixels")
    rate = Fraction(track.rate).limit_denominator(1000) if 1 <= track.rate <= 240 else Fraction(25)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options=dict(ENCODER))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, CLOCK)
        stream.codec_context.colorspace, stream.codec_context.color_range = 6, 1  # SMPTE 170M, limited: what swscale makes
        reformatter, tick = VideoReformatter(), -1
        for picture in _with_first(first, frames):
            # a stamp that falls back (broken files) moves just behind the frame before it
            tick = max(tick + 1, round((track.stamp(-1) - track.stamp(0)) * CLOCK))
            frame = av.VideoFrame.from_ndarray(resize_frame(picture, width, height, "stretch"), format="rgb24")
            frame = reformatter.reformat(frame, format="yuv444p", threads=1)
            frame.pts, frame.time_base = tick, Fraction(1, CLOCK)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return width, height


def _with_first(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from rest


def _content(path: Path) -> tuple[str, int]:
    """SHA-256 of a stored file's frames and their number."""
    digest, track = hashlib.sha256(), Track()
    for frame in frames_of(path, track):
        digest.update(f"{frame.shape[1]}x{frame.shape[0]}".encode())
        digest.update(np.ascontiguousarray(frame).data)
    return digest.hexdigest(), len(track.stamps)
