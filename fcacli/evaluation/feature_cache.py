"""Features of clips, computed once: kept by what decides them, the frames and what reads them, never by names.

    <folder>/<first two digits>/<sha256 of the extractor's identity and the clip's frames>.npy      float64 (rows, D)

Clips come one at a time and are not kept. A file is whole or not there, so that an interrupted run goes on, and several
processes may share a folder.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from fcacli.errors import FcaError
from fcacli.events import Report, silent, track
from fcacli.workspace import renamed_file


class Extractor(Protocol):
    """What makes features of clips: I3DFeatures, InceptionFeatures and the like."""

    identity: str
    """Equal where equal frames give equal features."""

    def __call__(self, videos: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 (T, H, W, 3) each -> (rows, D), the rows of a clip following each other."""


class FeatureCache:
    """A folder of features."""

    def __init__(self, folder: Path):
        self.folder = folder

    def features(
        self,
        extractor: Extractor,
        names: Sequence[str],
        video: Callable[[str], np.ndarray],
        report: Report = silent,
        phase: str = "features",
    ) -> np.ndarray:
        """Of the clips `names`, each given by `video(name)` as uint8 (T, H, W, 3): (rows, D) in their order.

        Raises:
            FcaError: features of a clip are not finite, naming it; the folder cannot be written; or what the extractor raises,
                with the clip's name before it.
        """
        return np.concatenate([self._of_clip(extractor, name, video(name)) for name in track(names, report, phase)])

    def _of_clip(self, extractor: Extractor, name: str, video: np.ndarray) -> np.ndarray:
        """(rows, D)"""
        key = content_key(video, extractor.identity)
        path = self.folder / key[:2] / f"{key}.npy"
        kept = _read(path)
        if kept is not None:
            return kept
        try:
            rows = np.asarray(extractor([video]), np.float64)
        except FcaError as error:
            raise FcaError(f"{name}: {error.message}", error.hint, error.code) from error
        if not np.isfinite(rows).all():
            raise FcaError(f"{name}: features that are not finite, of which no distance can be computed", "leave this clip out")
        with renamed_file(path) as temporary:
            np.save(temporary, rows)
        return rows


def content_key(video: np.ndarray, identity: str = "") -> str:
    """sha256 of a clip's frames and shape, and of what reads them."""
    digest = hashlib.sha256(f"{identity} {video.shape} {video.dtype}".encode())
    digest.update(np.ascontiguousarray(video).data)
    return digest.hexdigest()


def _read(path: Path) -> np.ndarray | None:
    """(rows, D); None where it is missing or damaged."""
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return rows if rows.ndim == 2 and rows.dtype == np.float64 and np.isfinite(rows).all() else None
