"""What `fca prepare` has done so far, one line for each clip, so that running it again does only what is missing.

A clip is known by its name, its source's path, size and time stamp, and how it is stored: when one of these changes,
its line no longer counts. A line cut short by a crash is ignored.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcacli.data.manifest import Clip, Split, clip_from
from fcacli.errors import FcaError


@dataclass(frozen=True)
class Stored:
    """A clip that was written."""

    split: Split
    """Where its file lies now."""
    size: int
    """Bytes of the file."""
    clip: Clip


@dataclass(frozen=True)
class Skipped:
    """A clip that was left out."""

    id: str
    source: str
    reason: str
    frames: int | None = None
    """How many there are, if their number is the reason."""


Outcome = Stored | Skipped


class Journal:
    """data/<name>/journal.jsonl."""

    def __init__(self, dataset: Path):
        self.dataset = dataset
        self.path = dataset / "journal.jsonl"
        self._lines: dict[str, dict[str, Any]] = {}
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            text = ""
        except OSError as error:
            raise FcaError(f"cannot read {self.path}: {error.strerror}") from None
        self._torn = bool(text) and not text.endswith("\n")
        for line in text.split("\n"):
            try:
                entry = json.loads(line)
                self._lines[entry["key"]] = entry
            except (ValueError, RecursionError, KeyError, TypeError):
                continue

    def find(self, key: str) -> Outcome | None:
        """The outcome of an earlier run, if what it wrote is still there."""
        try:
            entry = self._lines[key]
            if "skipped" in entry:
                return Skipped(**entry["skipped"])
            stored = Stored(entry["split"], entry["size"], clip_from(entry["clip"], str(self.path)))
            there = (self.dataset / stored.split / stored.clip.file_name).stat().st_size == stored.size
        except (FcaError, KeyError, TypeError, ValueError, OSError):
            return None
        return stored if there else None

    def add(self, key: str, outcome: Outcome) -> None:
        """Append a line and hand it to the operating system."""
        if isinstance(outcome, Skipped):
            entry: dict[str, Any] = {"key": key, "skipped": dataclasses.asdict(outcome)}
        else:
            entry = {"key": key, "split": outcome.split, "size": outcome.size, "clip": dataclasses.asdict(outcome.clip)}
        self._lines[key] = entry
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(("\n" if self._torn else "") + json.dumps(entry) + "\n")
        except OSError as error:
            raise FcaError(f"cannot write {self.path}: {error.strerror}", "is the disk full or the folder read-only?") from None
        self._torn = False


def source_key(name: str, source: str, video: Path, settings: list[Any]) -> str:
    """Key of a clip: its name, and path, size and time stamp of its file, or of all files in its folder.

    Raises:
        OSError: the source is gone or not accessible.
    """
    files = sorted(video.iterdir()) if video.is_dir() else [video]
    states = [(file.name, state.st_size, state.st_mtime_ns) for file in files for state in [file.stat()]]
    return hashlib.sha256(json.dumps([name, source, states, settings]).encode()).hexdigest()[:32]
