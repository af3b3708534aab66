"""Which video of one folder belongs to which of another, by name without the suffix, and how a video of either is read."""

from pathlib import Path

import numpy as np

from fcacli.data.decode import VIDEO_SUFFIXES, Track, Unreadable, frames_of
from fcacli.data.images import list_images
from fcacli.errors import FcaError
from fcacli.evaluation.arrays import ARRAY_SUFFIXES, read_array
from fcacli.events import Message, Report

NAMED = 5
"""Names that an error spells out."""
MOST_PIXELS = 2**27
"""Of all frames of a video that is scored: 2,048 of 256x256, or 145 of 1280x720."""
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
    """Name -> video file, array file or folder of images, directly below `folder`."""
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise FcaError(f"{option} {folder} {what}", "fca eval --pred DIR --real DIR, two folders of videos")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not _is_video(path):
            continue
        name = path.name if path.is_dir() else path.stem
        if name in found:
            raise FcaError(f"{option} {folder} holds two videos named {name!r}: {found[name].name} and {path.name}", "keep one")
        found[name] = path
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


def _is_video(path: Path) -> bool:
    if path.is_dir():
        return bool(list_images(path))
    return path.suffix.lower() in VIDEO_SUFFIXES | ARRAY_SUFFIXES


def read_video(path: Path) -> np.ndarray:
    """All frames of a video, uint8 (T, H, W, 3).

    Raises:
        Unreadable: it cannot be read as a whole, or is longer than what is scored at once.
    """
    if path.suffix.lower() in ARRAY_SUFFIXES and path.is_file():
        return read_array(path, MOST_PIXELS)
    track, pixels = Track(), 0
    frames: list[np.ndarray] = []
    for frame in frames_of(path, track):
        pixels += frame.shape[0] * frame.shape[1]
        if pixels > MOST_PIXELS:
            raise Unreadable(
                path, f"over {len(frames)} frames of {frame.shape[1]}x{frame.shape[0]}, more than is scored at once"
            )
        frames.append(frame)
    if track.problem:
        raise Unreadable(path, track.problem)
    return np.stack(frames)
