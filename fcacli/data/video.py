"""Video files -> upright RGB frames and presentation times, decoded by PyAV: of a whole file, or of a span of it.

A video that breaks off or is damaged says so. A file is only ever read as one of FORMATS, so that no play list in it opens
other files or addresses.
"""

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fcacli.data.images import Unreadable, too_large
from fcacli.data.resize import resize_frame
from fcacli.data.track import FALLBACK_FPS, Track

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv", ".3gp", ".gif"}
)
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegvideo,mpegts,m4v,asf,flv,ogg,gif"
"""FFmpeg's names of what those are."""
LARGEST_FRAME = 2**25
"""Pixels of a video's frame, 8K; more would fill the memory."""
LONGEST_TIME = 6 * 3600
"""Seconds between the first and the last frame; beyond that the time stamps are damaged."""
POINTER = b"version https://git-lfs.github.com/spec/"
"""How a file begins that stands for one not yet downloaded."""
REORDERED = 16
"""Frames by which decoding may be ahead of showing, at most, in H.264 and H.265."""


@dataclass(frozen=True)
class Span:
    """The part of a video from the frame nearest to `start` on."""

    start: float
    """Seconds."""
    stop: float | None = None
    """Seconds; the frame nearest to it is the first one that does not belong to it."""
    count: int | None = None
    """Instead of `stop`: so many frames."""

    def holds(self, time: float, taken: int, step: float) -> bool:
        """Whether the frame shown at `time`, after `taken` ones of the span, still belongs to it."""
        return (self.stop is None or time < self.stop - step / 2) and (self.count is None or taken < self.count)

    def missing(self, taken: int, end: float, step: float) -> str:
        """What is wrong if the video ends at `end` after `taken` frames of the span; "" if nothing."""
        if self.count is not None and taken < self.count:
            return f"{taken} of {self.count} frames are there: the video ends at {end:.2f} s"
        if self.stop is not None and end < self.stop - 1.5 * step:
            return f"the video ends at {end:.2f} s, the clip at {self.stop:.2f} s"
        return ""


def video_frames(path: Path, track: Track, data: bytes | None = None, span: Span | None = None) -> Iterator[np.ndarray]:
    """Decode a file (or `data`, then `path` is only its name) until the end or the first error, which becomes the track's
    problem."""
    import av

    with _opened(path, data) as container:
        stream = _video_stream(container, path)
        track.rate = float(stream.average_rate or stream.base_rate or FALLBACK_FPS)
        track.promised = stream.frames if span is None else 0
        try:
            damaged, end, whole = yield from _decoded(container, stream, track, span)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            track.problem = f"decoding ends after {len(track.stamps)} frames: {_say(error)}"
            return
        if damaged:
            track.problem = f"{damaged} of {len(track.stamps)} frames are damaged"
        elif whole and span is not None:
            track.problem = span.missing(len(track.stamps), end, 1 / track.rate)
        elif whole and track.stamps:
            track.problem = _missing_tail(container, stream, track, end)


def _opened(path: Path, data: bytes | None = None) -> "InputContainer":
    import av

    only = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    # absolute: a name like "a:b.mp4" is no protocol
    file: Any = str(path.absolute()) if data is None else BytesIO(data)
    # tags that are not UTF-8: PyAV 19 reads them as they are, and knows the word no more
    lenient: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
    try:
        return av.open(file, container_options=only, **lenient)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        pointer = data is None and _is_pointer(path)
        raise Unreadable(path, "it is a Git LFS pointer: git lfs pull fetches the video" if pointer else _say(error)) from None


def _is_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(POINTER)) == POINTER
    except OSError:
        return False


def video_header(path: Path) -> tuple[str, int, int]:
    """What a file says of itself: name of the codec (FFmpeg's: h264, mpeg4, av1, vp9), stored width and height.

    Raises:
        Unreadable: it is no video.
    """
    with _opened(path) as container:
        stream = _video_stream(container, path)
        return stream.codec.canonical_name, stream.width, stream.height


def _video_stream(container: "InputContainer", path: Path) -> "VideoStream":
    streams = [stream for stream in container.streams.video if "attached" not in str(stream.disposition).lower()]
    if not streams:
        raise Unreadable(path, "it holds no video stream")
    stream = streams[0]
    if stream.codec_context is None:
        raise Unreadable(path, "its video is in a format that is not known here")
    if (stream.width or 0) * (stream.height or 0) > LARGEST_FRAME:
        raise Unreadable(path, too_large(stream.width, stream.height, LARGEST_FRAME))
    stream.codec_context.options = {"max_pixels": str(LARGEST_FRAME)}  # where the size changes on the way
    stream.codec_context.thread_count = 1  # clips are short, and cores are used by working on many
    return stream


def _decoded(
    container: "InputContainer", stream: "VideoStream", track: Track, span: Span | None
) -> Generator[np.ndarray, None, tuple[int, float, bool]]:
    """The pictures; then how many are damaged, when the last one ends, and whether the video ended with it."""
    from av.video.reformatter import VideoReformatter

    reformatter, step = VideoReformatter(), 1 / track.rate
    damaged, end = 0, 0.0
    if span is not None and span.start > 0 and stream.time_base is not None:
        # files are searched by time of decoding, and what is shown before a key frame may refer to what is not decoded then
        container.seek(max(0, int((span.start - (REORDERED + 1) * step) / stream.time_base)), stream=stream)
    for frame in container.decode(stream):
        if span is not None:
            if frame.time is None:
                raise ValueError("its frames have no time stamps")
            if frame.time < span.start - step / 2:
                end = frame.time + step
                continue
            if not span.holds(frame.time, len(track.stamps), step):
                return damaged, end, False
        damaged += frame.is_corrupt
        end = (frame.time or 0.0) + float((frame.duration or 0) * (frame.time_base or 0))
        picture = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        picture = _upright(picture, frame, stream, track)
        track.stamps.append(frame.time)
        _require_plausible(track)
        yield picture
    return damaged, end, True


def _require_plausible(track: Track) -> None:
    if abs(track.stamp(-1) - track.stamp(0)) > LONGEST_TIME:
        raise ValueError(f"its time stamps leap by {track.stamp(-1) - track.stamp(0):.0f} seconds")


def _upright(picture: np.ndarray, frame: "VideoFrame", stream: "VideoStream", track: Track) -> np.ndarray:
    """Apply the pixel aspect, then the frame's display matrix (quarter turns and mirrors)."""
    aspect = float(stream.sample_aspect_ratio or 1)
    height, width = picture.shape[:2]
    sane = 0.2 < aspect < 5 and width * height * max(aspect, 1 / aspect) <= LARGEST_FRAME  # else the header is nonsense
    if sane and abs(aspect - 1) > 0.01:
        size = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
        picture = resize_frame(picture, *size, "stretch")
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return picture
    # 3x3, 16.16 fixed point: x' = a x + c y, y' = b x + d y
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(matrix), dtype=np.int32)[:5])
    if abs(a) + abs(d) < abs(b) + abs(c):
        picture, a, d = picture.transpose(1, 0, 2), c, b
    track.rotated = track.rotated or a < 0 or d < 0 or b != 0
    return np.ascontiguousarray(picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _missing_tail(container: "InputContainer", stream: "VideoStream", track: Track, end: float) -> str:
    """Compare the end of the last frame with what the header promises: readers of WebM and AVI end silently at a cut."""
    promised = _promised_end(container, stream)
    times = track.times
    step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 1 / track.rate
    end = max(end, times[-1] + step)
    if promised is not None and promised - end > max(3 * step, 0.05 * promised):
        return f"it is truncated: {len(times)} frames decode, up to {end:.2f} s of {promised:.2f} s"
    # an AVI has no edit lists, so its count is a promise too; its duration is derived from the file's size
    if container.format.name == "avi" and len(times) < 0.9 * stream.frames:
        return f"it is truncated: {len(times)} of {stream.frames} frames decode"
    return ""


def _promised_end(container: "InputContainer", stream: "VideoStream") -> float | None:
    """When the video should end, seconds; None where the header does not say it of this stream."""
    if stream.duration is not None and stream.time_base is not None:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    if tag := re.match(r"(\d{1,4}):(\d\d?):(\d{1,4}(?:\.\d{1,9})?)", stream.metadata.get("DURATION", "")):
        return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / 1e6
    return None


def _say(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
