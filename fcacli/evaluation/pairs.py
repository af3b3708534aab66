"""Which video of one folder belongs to which of another, by name without the suffix, and how a video of either is read."""

from pathlib import Path

import numpy as np

from fcacli.data.decode import VIDEO_SUFFIXES, Track, Unreadable, bounded, frames_of, pictures_of
from fcacli.data.images import list_images
from fcacli.errors import FcaError
from fcacli.evaluation.arrays import ARRAY_SUFFIXES, read_array
from fcacli.events import Message, Report

NAMED = 5
"""Names that an error spells out."""
MOST_PIXELS = 2**27
"""Of all frames of a video that is scored: 2,048 of 256x256, or 145 of 1280x720."""
FRAMES, SHEET = "frames", "contact_sheet.png"
"""In a folder of `fca predict`: the exact frames, and a picture that is none of them."""
Pairs = dict[str, tuple[Path, Path]]
"""Name -> (predicted video, true video), sorted by name; a video is a file or a folder of images."""


def pair(predictions: Path, truths: Path) -> Pairs:
    """The videos of two folders that have the same names.

    Raises:
        FcaError: one of the two is no folder or holds no video, a name stands for two, or the names differ.
    """
    predicted, true = find_videos(predictions, "--pred"), find_videos(truths, "--real")
    if complaints := _differences(predictions, predicted, truths, true):
        raise FcaError(
            f"the names of {len(predicted)} predicted and {len(true)} true videos differ; " + "; ".join(complaints),
            "give both folders the same file names (the suffix may differ), or --intersect",
        )
    return {name: (predicted[name], true[name]) for name in sorted(true)}


def pair_common(predictions: Path, truths: Path, report: Report) -> Pairs:
    """The names that both folders have; how many only one has is reported.

    Raises:
        FcaError: as `pair`, but for names that differ; there is none in common.
    """
    predicted, true = find_videos(predictions, "--pred"), find_videos(truths, "--real")
    for complaint in _differences(predictions, predicted, truths, true):
        report(Message(f"{complaint}; left out", "warning"))
    if not (common := sorted(set(predicted) & set(true))):
        raise FcaError(f"{predictions} and {truths} have no name in common", "give both folders the same file names")
    return {name: (predicted[name], true[name]) for name in common}


def _differences(predictions: Path, predicted: dict[str, Path], truths: Path, true: dict[str, Path]) -> list[str]:
    lost, extra = sorted(set(true) - set(predicted)), sorted(set(predicted) - set(true))
    sides = ((lost, truths), (extra, predictions))
    return [f"{len(names)} only in {folder}: {listed(names)}" for names, folder in sides if names]


def find_videos(folder: Path, option: str) -> dict[str, Path]:
    """Name -> video file, array file or folder of images, directly below `folder`.

    A folder is the video of its images, without any it is that of its `frames/`; contact_sheet.png is no frame. So what
    `fca predict`, a validation and an evaluation leave can be scored. Where one name stands for several videos the most exact
    is taken: a folder of images, then an array, then a video file, then a GIF.

    Raises:
        FcaError: `folder` is none or holds no video, or two of the same kind have one name.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise FcaError(f"{option} {folder} {what}", "fca eval --pred DIR --real DIR, two folders of videos")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        video = None if path.name.startswith(".") else _video_at(path)
        if video is None:
            continue
        name = path.name if path.is_dir() else path.stem
        known = found.get(name)
        if known is not None and _exactness(known) == _exactness(video):
            raise FcaError(f"{option} {folder} holds two videos named {name!r}: {known.name} and {path.name}", "keep one")
        if known is None or _exactness(video) < _exactness(known):
            found[name] = video
    if not found:
        kinds = ", ".join(sorted(VIDEO_SUFFIXES | ARRAY_SUFFIXES))
        raise FcaError(
            f"{option} {folder} holds no videos ({kinds}, or one folder of images per video)", "fca eval --pred DIR --real DIR"
        )
    return found


def listed(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _video_at(path: Path) -> Path | None:
    """The file or folder of images that holds the frames; None where there are none."""
    if path.is_dir():
        inside = path / FRAMES
        return path if _images(path) else inside if inside.is_dir() and _images(inside) else None
    return path if path.suffix.lower() in VIDEO_SUFFIXES | ARRAY_SUFFIXES else None


def _images(folder: Path) -> list[Path]:
    return [path for path in list_images(folder) if path.name != SHEET]


def _exactness(video: Path) -> int:
    """Which of several videos of one name counts: the lowest."""
    if video.is_dir():
        return 0
    suffix = video.suffix.lower()
    return 1 if suffix in ARRAY_SUFFIXES else 3 if suffix == ".gif" else 2


def read_video(path: Path) -> np.ndarray:
    """All frames of a video, uint8 (T, H, W, 3).

    Raises:
        Unreadable: it cannot be read as a whole, or is longer than what is scored at once.
    """
    if path.suffix.lower() in ARRAY_SUFFIXES and path.is_file():
        return read_array(path, MOST_PIXELS)
    track, pixels = Track(), 0
    frames: list[np.ndarray] = []
    decoded = bounded(pictures_of(path, _images(path), track), path, track) if path.is_dir() else frames_of(path, track)
    for frame in decoded:
        pixels += frame.shape[0] * frame.shape[1]
        if pixels > MOST_PIXELS:
            raise Unreadable(
                path, f"over {len(frames)} frames of {frame.shape[1]}x{frame.shape[0]}, more than is scored at once"
            )
        frames.append(frame)
    if track.problem:
        raise Unreadable(path, track.problem)
    return np.stack(frames)
