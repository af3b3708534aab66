"""Which video of one folder belongs to which of another: by name, without the suffix."""

from pathlib import Path

from fcacli.data.decode import VIDEO_SUFFIXES
from fcacli.data.images import list_images
from fcacli.errors import FcaError

NAMED = 5
"""Names that an error spells out."""


def pair(predictions: Path, truths: Path) -> dict[str, tuple[Path, Path]]:
    """Name -> (predicted video, true video), sorted by name; a video is a file or a folder of images.

    Raises:
        FcaError: one of the two is no folder or holds no video, a name stands for two, or the names differ.
    """
    predicted, true = find_videos(predictions, "--pred"), find_videos(truths, "--real")
    complaints = []
    if lost := sorted(set(true) - set(predicted)):
        complaints.append(f"{len(lost)} only in {truths}: {listed(lost)}")
    if extra := sorted(set(predicted) - set(true)):
        complaints.append(f"{len(extra)} only in {predictions}: {listed(extra)}")
    if complaints:
        raise FcaError(
            f"the names of {len(predicted)} predicted and {len(true)} true videos differ; " + "; ".join(complaints),
            "give both folders the same file names (the suffix may differ)",
        )
    return {name: (predicted[name], true[name]) for name in sorted(true)}


def find_videos(folder: Path, option: str) -> dict[str, Path]:
    """Name -> video file or folder of images, directly below `folder`."""
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
        kinds = ", ".join(sorted(VIDEO_SUFFIXES))
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
    return path.suffix.lower() in VIDEO_SUFFIXES
