"""Videos and folders of pictures -> upright RGB frames and presentation times.

Frames are counted by decoding (headers lie), rotation and non-square pixels are applied (PyAV applies neither), and a
video that breaks off or is damaged says so. Frames are uint8 (H, W, 3) RGB, videos (T, H, W, 3), times seconds.
What a hostile file can claim is bounded before memory is taken: the pixels of a frame, those of a clip, its time stamps.
"""

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from fcacli.data.images import IMAGE_SUFFIXES, Unreadable, decode_image, list_images, read_image
from fcacli.data.resize import resize, resize_frame
from fcacli.data.track import FALLBACK_FPS, Track
from fcacli.data.video import VIDEO_SUFFIXES, video_frames
from fcacli.errors import FcaError
from fcacli.events import Message, Report, silent

__all__ = ["VIDEO_SUFFIXES", "Decoded", "Track", "Unreadable", "decode", "load_source", "resize", "sample_indices"]

LONGEST_CLIP = 2**33
"""Pixels of all frames together: twenty minutes of 640x360."""


@dataclass(frozen=True)
class Decoded:
    """A video in memory."""

    frames: np.ndarray
    """uint8 (T, H, W, 3), RGB."""
    times: list[float]
    """Presentation time of each frame, seconds."""
    problem: str
    """Why frames are missing or damaged; "" if none are."""

    @property
    def truncated(self) -> bool:
        return bool(self.problem)


def decode(path: Path, fps: float | None = None) -> Decoded:
    """All frames of a video file, or of a folder of pictures taken at `fps`.

    Raises:
        Unreadable: not one frame can be decoded.
    """
    track = Track()
    frames = list(frames_of(path, track, fps))
    return Decoded(np.stack(frames), track.times, track.problem)


def frames_of(path: Path, track: Track, fps: float | None = None) -> Iterator[np.ndarray]:
    """The frames one by one, each of the first one's size; `track` grows with them, its `problem` is set at the end.

    Raises:
        Unreadable: not one frame can be decoded, or there are more than LONGEST_CLIP allows.
    """
    if path.is_dir():
        source = pictures_of(path, _paths_in(path), track, fps)
    elif path.suffix.lower() in IMAGE_SUFFIXES:
        source = pictures_of(path, [path], track, fps)
    else:
        source = video_frames(path, track)
    return bounded(source, path, track)


def bounded(frames: Iterator[np.ndarray], path: Path, track: Track) -> Iterator[np.ndarray]:
    """`frames` with all of the first one's size.

    Raises:
        Unreadable: there is not one, or there are more than LONGEST_CLIP allows.
    """
    size, pixels = None, 0
    for frame in frames:
        size = size or (frame.shape[1], frame.shape[0])
        pixels += frame.shape[0] * frame.shape[1]
        if pixels > LONGEST_CLIP:
            raise Unreadable(path, f"it is longer than a clip can be: over {len(track.stamps)} frames of {size[0]}x{size[1]}")
        yield frame if (frame.shape[1], frame.shape[0]) == size else resize_frame(frame, *size, "crop")
    if not track.stamps:
        raise Unreadable(path, track.problem or "it holds no frames")


def sample_indices(times: Sequence[float], frames: int) -> list[int]:
    """The `frames` frames nearest to equal spacing in time from the first to the last one, the earlier of two as near.

    Raises:
        FcaError: there are fewer.
    """
    if len(times) < frames:
        raise FcaError(f"{frames} frames are needed, {len(times)} are there", "--frames N takes fewer")
    stamps = np.asarray(times, dtype=np.float64)
    wanted = np.linspace(stamps[0], stamps[-1], frames)
    if len(stamps) == 1:
        return [0] * frames
    right = np.searchsorted(stamps, wanted).clip(1, len(stamps) - 1)
    earlier = wanted - stamps[right - 1] <= stamps[right] - wanted + 1e-9
    return [int(index) for index in np.where(earlier, right - 1, right)]


def load_source(
    path: Path,
    count: int,
    frames: int | None = None,
    report: Report = silent,
    made: Callable[[np.ndarray], np.ndarray] = lambda frame: frame,
) -> np.ndarray:
    """What a prediction begins with, uint8 (count, H, W, 3), from a folder of pictures, a video or one picture; of a whole
    action what followed as well, (T, H, W, 3) in all. Each frame is kept as it is `made`.

    A model trained on `frames` = T frames over a whole action continues at that spacing, so the given frames should
    have it too. A source of T frames or more is therefore taken for the whole action: it is sampled as in training and
    the first `count` samples are given. A shorter source is taken for the given frames themselves: its first `count`.

    Raises:
        FcaError: there are fewer than `count`, or a file cannot be read.
    """
    if path.is_file() and path.suffix.lower() not in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
        raise Unreadable(path, f"neither a picture nor a video by its suffix {path.suffix!r}")
    if not path.exists():
        raise FcaError(f"{path} does not exist", "give a folder of pictures, a video file or a picture")
    if path.is_dir():
        _require_pictures(path)
    track = Track()
    first: list[np.ndarray] = []
    for frame in frames_of(path, track):
        if len(first) < count:
            first.append(frame)
    if track.problem:
        raise Unreadable(path, track.problem)
    if (total := len(track.stamps)) < count:
        raise FcaError(
            f"{path} holds {total} frame{'' if total == 1 else 's'}, {count} initial frames are needed",
            f"give more, or train for fewer: fca train --init-frames {max(1, total)}",
        )
    if frames is None or total < max(frames, count + 1):
        if frames is not None and total > count:
            why = f"a whole action would have {frames} or more"
            report(Message(f"{path}: {total} frames, given are the first {count}; {why}"))
        return np.stack([made(frame) for frame in first])
    times = track.times
    chosen = sample_indices(times, frames)
    seconds = ", ".join(f"{times[index]:.2f}" for index in chosen[:count])
    report(Message(f"{path}: {total} frames, taken for a whole action; given are those at {seconds} s"))
    again = enumerate(islice(frames_of(path, Track()), chosen[-1] + 1))  # a second pass, so that few frames are kept
    kept = {index: made(frame) for index, frame in again if index in chosen}
    return np.stack([kept[index] for index in chosen])


def pictures_of(where: Path, pictures: Iterable[Path | bytes], track: Track, fps: float | None = None) -> Iterator[np.ndarray]:
    """Pictures taken at `fps`; `where` they lie is named where one of them cannot be read."""
    track.rate = fps or FALLBACK_FPS
    for index, picture in enumerate(pictures):
        frame = read_image(picture) if isinstance(picture, Path) else decode_image(picture, where)
        track.stamps.append(index / track.rate)
        yield frame


def _require_pictures(folder: Path) -> None:
    """A folder with videos alone is a choice that only the user can make.

    Raises:
        FcaError: it is one; the hint names a video.
    """
    if _listed(folder):
        return
    videos = sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())
    if videos:
        holds = "a video" if len(videos) == 1 else f"{len(videos):,} videos"
        message = f"{folder} holds {holds} and no pictures; the given frames come from one video or a folder of pictures"
        raise FcaError(message, f"fca predict {shlex.quote(str(videos[0]))} TEXT")


def _listed(folder: Path) -> list[Path]:
    try:
        return list_images(folder)
    except OSError as error:
        raise Unreadable(folder, error.strerror or str(error)) from None


def _paths_in(folder: Path) -> list[Path]:
    if not (paths := _listed(folder)):
        raise Unreadable(folder, "it holds no pictures")
    return paths
