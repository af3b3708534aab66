"""One pass over a source, which stores its frames or only looks at them: what the dataset holds, and what the audit tells.

Stored clips are upright, with square pixels, short side up to 480 and every frame, or of the `Form` asked for, in
near-lossless H.264: 4:4:4 colour at crf 10, 43 to 46 dB from the source's RGB; odd widths (427x240) are kept, and coloured
objects of a few pixels keep their colour. One encoder thread and no macroblock tree (with it, x264 gives other bytes once in
some hundred times), so equal frames give equal files. A clip's content is the hash of the frames that are handed to the
encoder, and of its settings.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np

from fcacli.data.contact_sheet import Strip, StripMaker
from fcacli.data.decode import Track, Unreadable
from fcacli.data.facts import Facts, Gauge
from fcacli.data.manifest import Clip
from fcacli.data.sampling import GREY, Form, blend, picks, sized
from fcacli.data.source import Source
from fcacli.data.spool import Spool
from fcacli.workspace import renamed_file

SHORT_SIDE = 480
"""Pixels; larger frames are shrunk to it, smaller ones kept."""
LEAST_SIDE = 16
"""Pixels; anything smaller is no video."""
ENCODER = {"crf": "10", "preset": "veryfast", "bf": "0", "x264-params": "mbtree=0:rc-lookahead=0"}
"""Options of libx264."""
SETTINGS = [2, SHORT_SIDE, "yuv444p", ENCODER]
"""Everything that decides the stored file besides the source and the form; the first number is this module's version."""
CLOCK = 90_000
"""Ticks a second of the stored time stamps."""

Fault = Literal["missing", "unreadable", "damaged", "too short", "black"]


class Unusable(Unreadable):
    """A clip that is left out although something of it decodes."""

    def __init__(self, path: Path, reason: str, fault: Fault, frames: int | None = None):
        super().__init__(path, reason)
        self.fault = fault
        self.frames = frames
        """How many there are, if their number is the reason."""


def too_short(frames: int, needed: int) -> str:
    """Why a clip was left out."""
    return f"fewer frames than needed: {frames} of {needed}"


@dataclass(frozen=True)
class Task:
    """What is to be done with a source."""

    source: Source
    label: str
    """Where it lies, in words."""
    text: str
    form: Form
    min_frames: int
    """That have to be stored."""
    claimed: int = 0
    """Frames by the raw data's description; 0 where it has none."""
    shown: bool = False
    """Whether it stands on the contact sheet."""


@dataclass(frozen=True)
class Taken:
    """A source that can be used."""

    clip: Clip
    facts: Facts
    strip: Strip | None


def transcode(task: Task, target: Path) -> Taken:
    """Store a source as `target` (data/<name>/<split>/videos/<id>.mp4), whole or not at all.

    Raises:
        Unreadable: the source cannot be decoded from its first frame to its last; Unusable if it is of no use.
        FcaError: the target cannot be written.
    """
    with renamed_file(target) as temporary, Passage(task) as passage:
        _encode(passage, temporary)
        return passage.taken(target.name)


def inspect(task: Task, file_name: str) -> Taken:
    """What `transcode` would give, without encoding.

    Raises:
        Unreadable: as `transcode`.
    """
    with Passage(task) as passage:
        for _ in passage.frames():
            pass
        return passage.taken(file_name)


def stored_size(width: int, height: int) -> tuple[int, int]:
    """The size in which frames are kept: the source's, shrunk where its short side is above SHORT_SIDE."""
    scale = min(1.0, SHORT_SIDE / min(width, height))
    return round(width * scale), round(height * scale)


class Passage:
    """One pass over a task's source; a context manager. `track`, `size` and `times` grow with `frames`."""

    def __init__(self, task: Task):
        self.task = task
        self.track = Track()
        self.size = (0, 0)
        """Of the stored frames: width, height."""
        self.times: list[float] = []
        """Seconds of the stored frames, the first at 0; complete when the frames have passed."""
        self._gauge = Gauge()
        self._digest = hashlib.sha256(json.dumps(SETTINGS).encode())
        self._open = ExitStack()
        self._strip = self._open.enter_context(StripMaker()) if task.shown else None

    def __enter__(self) -> "Passage":
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def frames(self) -> Iterator[tuple[np.ndarray, float]]:
        """The frames to store, uint8 (H, W, 3), with their times in seconds from the first one's.

        Raises:
            Unreadable: at the end, if the source is damaged; Unusable if it is of no use.
        """
        form = self.task.form
        if form.frames is None and form.fps is None and form.protocol == "ours":
            for frame in self._sized():
                self._note(frame)
                yield frame, self.track.stamp(-1) - self.track.stamp(0)
            self._check(len(self.track.stamps))
            start = self.track.times[0]
            self.times = [round(time - start, 6) for time in self.track.times]
            return
        with Spool() as spool:
            for frame in self._sized():
                spool.append(frame)
            chosen = picks(form, self.track.times)
            self._check(len(chosen))
            self.times = [round(pick.time, 6) for pick in chosen]
            for pick in chosen:
                if pick.first is None:
                    frame = np.full((self.size[1], self.size[0], 3), GREY, np.uint8)
                else:
                    frame = blend(spool[pick.first], spool[pick.second], pick.share)
                self._note(frame)
                yield frame, pick.time

    def taken(self, file_name: str) -> Taken:
        """When the frames have passed."""
        task, (width, height) = self.task, self.size
        content = self._digest.hexdigest()
        clip = Clip(f"videos/{file_name}", task.text, task.label, len(self.times), width, height, self.times, content)
        strip = None if self._strip is None else self._strip.strip()
        return Taken(clip, self._gauge.facts(self.track, task.claimed), strip)

    def _sized(self) -> Iterator[np.ndarray]:
        """Every source frame at the stored size."""
        form = self.task.form
        for frame in self.task.source.frames(self.track):
            self._gauge.see(frame)
            if self.size == (0, 0):
                wide, high = stored_size(frame.shape[1], frame.shape[0])
                if min(wide, high) < LEAST_SIDE:
                    raise Unusable(self.task.source.path, f"its frames are only {wide}x{high} pixels", "damaged")
                self.size = (form.width or wide, form.height or high)
            yield sized(frame, *self.size, form)

    def _check(self, stored: int) -> None:
        """Raise Unusable where the source, of which so many frames would be stored, is of no use."""
        path, needed = self.task.source.path, self.task.min_frames
        if self.track.problem:
            raise Unusable(path, self.track.problem, "damaged")
        if self._gauge.black:
            raise Unusable(path, f"all of its {len(self.track.stamps)} frames are black", "black")
        if stored < needed:
            raise Unusable(path, too_short(stored, needed), "too short", stored)

    def _note(self, frame: np.ndarray) -> None:
        self._digest.update(f"{frame.shape[1]}x{frame.shape[0]}".encode())
        self._digest.update(np.ascontiguousarray(frame).data)
        if self._strip is not None:
            self._strip.see(frame)


def _encode(passage: Passage, path: Path) -> None:
    """Write the frames of `passage` to an MP4 file at their times."""
    import av
    from av.video.reformatter import VideoReformatter

    frames = passage.frames()
    first = next(frames)
    rate = Fraction(passage.track.rate).limit_denominator(1000) if 1 <= passage.track.rate <= 240 else Fraction(25)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options=dict(ENCODER))
        stream.width, stream.height = passage.size
        stream.pix_fmt = "yuv444p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, CLOCK)
        stream.codec_context.colorspace, stream.codec_context.color_range = 6, 1  # SMPTE 170M, limited: what swscale makes
        reformatter, tick = VideoReformatter(), -1
        for picture, time in chain([first], frames):
            # a stamp that falls back (broken files) moves just behind the frame before it
            tick = max(tick + 1, round(time * CLOCK))
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame = reformatter.reformat(frame, format="yuv444p", threads=1)
            frame.pts, frame.time_base = tick, Fraction(1, CLOCK)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
