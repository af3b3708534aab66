"""Room for checkpoints on the disk of a run."""

import shutil
from pathlib import Path

from fcacli.events import Message, Report

ROOM = 3
"""Checkpoints' worth of free disk below which it is said."""


class Room:
    """What is left on the disk below `folder`; said once when it gets tight."""

    def __init__(self, folder: Path, report: Report):
        self._folder, self._report = folder, report
        self._said = False

    def left(self) -> float:
        """GB."""
        return round(shutil.disk_usage(self._folder).free / 1e9, 3)

    def saved(self, checkpoint: Path) -> None:
        """A checkpoint was written: will there be room for the next ones?"""
        size, left = sum(path.stat().st_size for path in checkpoint.iterdir()) / 1e9, self.left()
        if left < ROOM * size and not self._said:
            self._said = True
            text = f"{left:.1f} GB are left on the disk of {self._folder}, a checkpoint takes {size:.1f} GB"
            self._report(Message(f"{text}: free some space, or keep fewer with --keep 1", "warning"))
