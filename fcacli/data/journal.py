"""What `fca prepare` has done so far, one line for each clip, so that running it again does only what is missing.

A clip is known by its key: its name, where its source lies, that file's size and time stamp, and the form it is stored in.
Where only the time stamp is another one, `place` (the key without the source's state) and the file's `digest` find the line
again. A line cut short by a crash is ignored. Each process that prepares a dataset at the same time (`--shard`) writes a
journal of its own and reads them all.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fcacli.data.contact_sheet import Strip
from fcacli.data.facts import Facts
from fcacli.data.manifest import SPLITS, Clip, Split, clip_from
from fcacli.data.source import Source
from fcacli.errors import FcaError


@dataclass(frozen=True)
class Stored:
    """A clip that can be used."""

    split: Split
    """Where its file lies now."""
    size: int | None
    """Bytes of the file; None if it was looked at and not stored."""
    clip: Clip
    facts: Facts
    strip: Strip | None = None
    """For the contact sheet."""


@dataclass(frozen=True)
class Skipped:
    """A clip that is left out."""

    id: str
    source: str
    reason: str
    fault: str
    """One word for many: missing, unreadable, damaged, too short, black, no caption, leaked."""
    frames: int | None = None
    """How many there are, if their number is the reason."""


Outcome = Stored | Skipped


@dataclass(frozen=True)
class Entry:
    """A line of a journal."""

    key: str
    place: str
    digest: str
    """SHA-256 of the source's bytes, "" where it was not taken."""
    outcome: dict[str, Any]
    """JSON form of an Outcome; `outcome_from` checks it."""


class Journal:
    """A file of JSON lines; a context manager."""

    def __init__(self, path: Path):
        self.path = path
        self._file: IO[str] | None = None

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            with suppress(OSError):  # of a full disk, which `add` has said
                self._file.close()
            self._file = None

    def entries(self) -> Iterator[Entry]:
        """All lines that are whole; of several with one key the last one counts.

        Raises:
            FcaError: the file is there and cannot be read.
        """
        try:
            with self.path.open(encoding="utf-8", errors="replace") as file:
                for line in file:
                    with suppress(ValueError, RecursionError, KeyError, TypeError):
                        yield Entry(**json.loads(line))
        except FileNotFoundError:
            return
        except OSError as error:
            raise FcaError(f"cannot read {self.path}: {error.strerror}") from None

    def add(self, entry: Entry) -> None:
        """Append a line and hand it to the operating system."""
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                torn = _is_torn(self.path)
                self._file = self.path.open("a", encoding="utf-8")
                self._file.write("\n" if torn else "")
            self._file.write(json.dumps(vars(entry)) + "\n")
            self._file.flush()
        except OSError as error:
            raise FcaError(f"cannot write {self.path}: {error.strerror}", "is the disk full or the folder read-only?") from None


def outcome_values(outcome: Outcome) -> dict[str, Any]:
    """The JSON form of an outcome; asdict would copy every time stamp."""
    values = dict(vars(outcome))
    return values | {name: vars(values[name]) for name in ("clip", "facts", "strip") if values.get(name) is not None}


def outcome_from(values: Any) -> Outcome:
    """An outcome from its JSON form.

    Raises:
        FcaError, KeyError, TypeError, ValueError: it is damaged.
    """
    if "reason" in values:
        return Skipped(**values)
    if values["split"] not in SPLITS or not isinstance(values["size"], int | None):
        raise ValueError("damaged")
    strip = None if values.get("strip") is None else Strip(**values["strip"])
    return Stored(values["split"], values["size"], clip_from(values["clip"], "journal"), Facts(**values["facts"]), strip)


def source_key(name: str, label: str, source: Source, settings: list[Any]) -> tuple[str, str]:
    """Key and place of a clip; no key ("") where its source is gone or not accessible."""
    place = _hash([name, label, settings])
    try:
        return _hash([place, source.state()]), place
    except OSError:
        return "", place


def source_digest(source: Source) -> str:
    """SHA-256 of a source's bytes; "" where reading them would cost too much, or cannot be done."""
    try:
        return source.digest()
    except OSError:
        return ""


def _is_torn(path: Path) -> bool:
    """Whether the last line has no end."""
    try:
        with path.open("rb") as file:
            return bool(file.seek(0, 2)) and file.seek(-1, 2) >= 0 and file.read(1) != b"\n"
    except FileNotFoundError:
        return False


def _hash(value: list[Any]) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]
