"""What a dataset is on disk: `Record`s as readers find them, `Clip`s as `fca prepare` leaves them.

data/<name>/dataset.json                       Dataset; written last, so that its presence means "prepared"
data/<name>/{train,val,test}/metadata.jsonl    one Clip a line (the Hugging Face VideoFolder convention)
data/<name>/{train,val,test}/videos/*.mp4
data/<name>/skipped.json                       clips left out, with the reason
"""

import dataclasses
import json
import operator
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args, get_origin, overload

import numpy as np

from fcacli.data.source import Source
from fcacli.errors import FcaError, Misuse
from fcacli.workspace import atomic_file

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
NAME_BYTES = 80
"""Bytes of a clip's file name without suffix."""


@dataclass(frozen=True)
class Record:
    """A clip as a reader finds it in the raw data."""

    id: str
    """The dataset's own name of the clip; any text."""
    text: str
    """The prompt."""
    split: Split
    source: Source
    """Where its frames lie, and how they are read."""
    claimed: int | None = None
    """Frames that the raw data's own description says it has; what counts is what decodes."""


@dataclass(frozen=True)
class Clip:
    """A prepared clip: a row of metadata.jsonl. The stored frames are what training and evaluation see."""

    file_name: str
    """Below the split's folder: "videos/<id>.mp4"."""
    text: str
    """The prompt."""
    source: str
    """Where it came from, below the raw folder."""
    frames: int
    width: int
    height: int
    frame_times: list[float]
    """Presentation time of each frame in seconds, the first at 0."""
    content: str
    """SHA-256 of the frames before they were encoded (shape and RGB bytes), and of the encoder's settings."""

    @property
    def id(self) -> str:
        return Path(self.file_name).stem


FIELDS: dict[str, type] = {f.name: get_origin(f.type) or f.type for f in dataclasses.fields(Clip)}  # type: ignore[misc]
"""Name and type of each column of metadata.jsonl; further columns are ignored."""


@dataclass(frozen=True)
class Dataset:
    """dataset.json."""

    name: str
    reader: str
    raw: str
    """The raw folder, absolute."""
    counts: dict[str, int]
    """Clips of each split."""
    skipped: int
    prepared: str
    """When, ISO 8601."""
    version: str
    """Of fca."""
    form: dict[str, Any]
    """What the clips were brought to (`fcacli.data.sampling.Form`); null: as the sources have it."""
    choice: dict[str, Any]
    """Which clips were asked for, by option; null: all of them, or the reader's default."""


class Clips(Sequence[Clip]):
    """Rows of a metadata.jsonl, read from the file when they are asked for: a hundred thousand take a megabyte.

    Raises, whenever a row is read:
        FcaError: the file has gone, or the row is damaged.
    """

    def __init__(self, path: Path, offsets: np.ndarray, numbers: np.ndarray):
        self._path, self._offsets, self._numbers = path, offsets, numbers  # (n,) int64: of lines, bytes and from 1

    def __len__(self) -> int:
        return len(self._offsets)

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice | np.ndarray) -> "Clips": ...
    def __getitem__(self, index: int | slice | np.ndarray) -> "Clip | Clips":
        """One row, or those of a slice or of places (m,)."""
        if isinstance(index, slice | np.ndarray):
            return Clips(self._path, self._offsets[index], self._numbers[index])
        with self._opened() as file:
            return self._read(file, range(len(self))[index])

    def __iter__(self) -> Iterator[Clip]:
        if len(self):
            with self._opened() as file:
                for index in range(len(self)):
                    yield self._read(file, index)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(operator.eq, self, other))

    def _read(self, file: BinaryIO, index: int) -> Clip:
        if file.tell() != self._offsets[index]:
            file.seek(self._offsets[index])
        return _clip(file.readline(), f"{self._path} line {self._numbers[index]}")

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        try:
            with self._path.open("rb") as file:
                yield file
        except OSError as error:
            raise FcaError(f"cannot read {self._path}: {error}", "run fca prepare again") from None


def read_split(dataset: Path, split: str, keep: Callable[[Clip], bool] = lambda clip: True) -> Clips:
    """The clips of one split of a prepared dataset, in the order of its file; none if the split is not there.

    Every row is read and checked once; `keep` says of each whether it belongs to the result.

    Raises:
        FcaError: the dataset is not prepared, or a row is damaged.
    """
    if split not in SPLITS:
        raise Misuse(f"there is no split {split!r}; expected one of {', '.join(SPLITS)}")
    if not (dataset / "dataset.json").is_file():
        raise FcaError(f"{dataset} holds no prepared data", "fca prepare ssv2 ./raw")
    path = dataset / split / "metadata.jsonl"
    offsets, numbers, at = array("q"), array("q"), 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip() and keep(_clip(line, f"{path} line {number}")):
                    offsets.append(at)
                    numbers.append(number)
                at += len(line)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise FcaError(f"cannot read {path}: {error}", "run fca prepare again") from None
    return Clips(path, np.array(offsets, np.int64), np.array(numbers, np.int64))


def write_split(dataset: Path, split: Split, clips: Iterable[Clip]) -> None:
    """Write a split's metadata.jsonl, whole or not at all."""
    with atomic_file(dataset / split / "metadata.jsonl") as temporary, temporary.open("w", encoding="utf-8") as file:
        for clip in clips:
            file.write(json.dumps(vars(clip)) + "\n")


def _clip(line: bytes, where: str) -> Clip:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:  # also bytes that are not UTF-8
        raise FcaError(f"{where} is not valid JSON: {error}", "run fca prepare again") from None
    return clip_from(values, where)


def clip_from(values: Any, where: str) -> Clip:
    """A clip from its JSON form, every field checked.

    Raises:
        FcaError: naming `where` and the field.
    """
    hint = "run fca prepare again"
    if not isinstance(values, dict):
        raise FcaError(f"{where} is damaged: expected an object, found {type(values).__name__}", hint)
    for name, kind in FIELDS.items():
        if not isinstance(values.get(name), kind):
            found = type(values[name]).__name__ if name in values else "nothing"
            raise FcaError(f"{where} is damaged: {name} should be {kind.__name__}, found {found}", hint)
    clip = Clip(**{name: values[name] for name in FIELDS})
    if clip.frames < 1 or len(clip.frame_times) != clip.frames:
        raise FcaError(f"{where} is damaged: {clip.frames} frames, {len(clip.frame_times)} times", hint)
    if not all(isinstance(time, float | int) and abs(time) < 1e9 for time in clip.frame_times):
        raise FcaError(f"{where} is damaged: frame_times should be numbers", hint)
    if "\0" in clip.file_name or Path(clip.file_name).is_absolute() or ".." in Path(clip.file_name).parts:
        raise FcaError(f"{where} is damaged: {clip.file_name!r} leaves the dataset", hint)
    if not is_text(clip.text):
        raise FcaError(f"{where} is damaged: its text is not valid Unicode", hint)
    return clip


def is_text(text: str) -> bool:
    """Whether it is valid Unicode; JSON, and decoded bytes, may hold lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def first_of(faults: Sequence[str]) -> str:
    """The first of several faults, and how many more there are."""
    return f"{faults[0]} and {len(faults) - 1:,} more" if len(faults) > 1 else faults[0]
