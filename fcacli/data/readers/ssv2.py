"""Something-Something V2: <id>.webm, frame folders or the downloaded archives, and labels/{train,validation,test}.json.

Everything may lie in the root or some levels below, under the names of the download or of its older version. The prompt is
`label`, the filled template; test.json has none. A broken row of a label file is left out and said; the rest goes on.
Label files are read twice, row by row, so that 168,913 clips need no more memory than a hundred.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fcacli.data.manifest import SPLITS, Record, Split, first_of, is_text
from fcacli.data.readers.tables import json_list
from fcacli.data.readers.tar import streamed_members
from fcacli.data.source import Pictures, Source, Video, VideoBytes
from fcacli.errors import FcaError

Note = Callable[[str], None]
VIDEOS = (".webm", ".mp4")
MEMBER = re.compile(r"(\d{1,9})\.webm")
LABELS = re.compile(r"(?:something-something-v2-)?(train|validation|val|test)\.json", re.IGNORECASE)
PARTS = re.compile(r"20bn-something-something-v2-(\d\d)(\.zip|\.tgz|\.tar\.gz)?", re.IGNORECASE)
FRAME_FOLDERS = ("rawframes", "frames", "rgb_frames")
SPLIT_OF: dict[str, Split] = {"train": "train", "validation": "val", "val": "val", "test": "test"}
FPS = 12.0
"""Of the dataset; folders of frames do not say it."""
MOST_NUMBERS = 2**20
"""The dataset's ids are 1 to 220847."""
DEPTH = 4
"""Levels of folders that are searched."""


@dataclass
class Layout:
    """What lies where."""

    videos: dict[str, list[str]] = field(default_factory=dict)
    """Folders that hold video files, each with the suffixes of its files."""
    frames: list[str] = field(default_factory=list)
    """Folders that hold one folder of frames for each clip."""
    found: int = 0
    """Video files and folders of frames."""
    example: str = ""
    """The id of one of them."""
    labels: dict[Split, Path] = field(default_factory=dict)
    parts: dict[int, Path] = field(default_factory=dict)
    """Downloaded archives by their number."""

    def source(self, id: str) -> Source | None:
        """The clip of that id, the video before its frames; None if it is not there."""
        if not id.isalnum():
            return None
        for folder, suffixes in self.videos.items():
            for suffix in suffixes:
                if os.path.isfile(path := os.path.join(folder, id + suffix)):
                    return Video(Path(path))
        for folder in self.frames:
            if os.path.isdir(path := os.path.join(folder, id)):
                return Pictures(Path(path), FPS)
        return None


@dataclass
class Count:
    """What the label files hold, found in a first pass over them."""

    known: int = 0
    """Different clips."""
    missing: int = 0
    unprompted: int = 0
    both: int = 0
    """Clips of train that are in validation or test as well."""
    there: "Ids" = field(default_factory=lambda: Ids())
    held_out: "Ids" = field(default_factory=lambda: Ids())
    example: str = "none"


def read(root: Path, note: Note) -> Iterator[Record]:
    """Clips with a video and a prompt: train, then val, each in the order of its label file; those in the downloaded
    archives in the order of these.

    Raises:
        FcaError: there are no labels or no videos, no two of them match, or a label file is broken.
    """
    layout = Layout()
    _search(str(root), layout, DEPTH)
    for folder in layout.frames:  # of clips that have no video
        layout.found += sum(isinstance(layout.source(entry.name), Pictures) for entry in _entries(folder))
    if not layout.found and not layout.parts:
        raise FcaError(
            f"no clips below {root}: expected 20bn-something-something-v2/<id>.webm, rawframes/<id>/*.jpg or the archives",
            "give the folder that holds the clips and the labels that come with them",
        )
    if not layout.labels:
        raise FcaError(
            f"no labels below {root}: expected labels/train.json and labels/validation.json",
            "give the folder that holds the clips and the labels that come with them",
        )
    if layout.found:
        return _labelled(root, layout, _count(layout, note), note)
    return _archived(layout, note)


def _labelled(root: Path, layout: Layout, count: Count, note: Note) -> Iterator[Record]:
    if not count.there:
        raise FcaError(
            f"no video below {root} has a label (a video: {layout.example}; a label: {count.example})",
            "do they belong together?",
        )
    remarks = [
        f"{count.missing:,} have no video here" if count.missing else "",
        f"{count.unprompted:,} have no prompt" if count.unprompted else "",
        f"{count.both:,} are in train and held out too (not trained on)" if count.both else "",
        f"{surplus:,} videos have no label" if (surplus := layout.found - len(count.there)) else "",
    ]
    if any(remarks):
        note(f"labels list {count.known:,} clips: " + ", ".join(filter(None, remarks)))
    for split, id, text in _rows(layout, []):
        if text and id in count.there and not (split == "train" and id in count.held_out):
            count.there.remove(id)  # a second row of the same clip is left out
            if (source := layout.source(id)) is not None:
                yield Record(id, text, split, source)


def _archived(layout: Layout, note: Note) -> Iterator[Record]:
    """The clips of the downloaded archives, streamed: nothing is unpacked to the disk."""
    parts = [layout.parts[number] for number in sorted(layout.parts)]
    if gaps := sorted(set(range(max(layout.parts) + 1)) - layout.parts.keys()):
        raise FcaError(
            f"part {gaps[0]:02} of the downloaded archive is missing in {parts[0].parent} (there: {parts[0].name}, ...)",
            "all parts are needed: they are one archive, cut in pieces",
        )
    wanted: dict[int | str, tuple[Split, str]] = {}
    broken: list[str] = []
    for split, id, text in _rows(layout, broken):
        if text and (split != "train" or _key(id) not in wanted):
            wanted[_key(id)] = (split, text)  # held out goes before train
    _tell_broken(broken, bool(wanted), note)
    known, surplus, there = len(wanted), 0, 0
    try:
        for name, data in streamed_members(parts, MEMBER):
            id = name.removesuffix(".webm")
            row = wanted.pop(_key(id), None)
            if row is None:
                surplus += 1
            else:
                there += 1
                yield Record(id, row[1], row[0], VideoBytes(parts[0], name, data))
    except FcaError as error:
        if not there:
            raise
        note(f"{error.message}; {there:,} clips before that place are there")
    if not there:
        raise FcaError(f"the archives {parts[0]}, ... hold no clip that has a label", "do they belong together?")
    remarks = [
        f"{len(wanted):,} have no video here" if wanted else "",
        f"{surplus:,} videos have no label" if surplus else "",
    ]
    if any(remarks):
        note(f"labels list {known:,} clips with a prompt: " + ", ".join(filter(None, remarks)))


def _count(layout: Layout, note: Note) -> Count:
    """The first pass over the labels: what is there and what is not."""
    count, broken = Count(), list[str]()
    seen, right = Ids(), 0
    for split, id, text in _rows(layout, broken, held_out_first=True):
        right += 1
        count.unprompted += not text
        if split == "train":
            count.both += id in count.held_out
        else:
            count.held_out.add(id)
        if id not in seen:
            seen.add(id)
            count.known += 1
            count.example = id if count.known == 1 else count.example
            if layout.source(id) is None:
                count.missing += 1
            else:
                count.there.add(id)
    _tell_broken(broken, bool(right), note)
    return count


class Ids:
    """A set of ids that takes no memory to speak of: a bit for each number."""

    def __init__(self) -> None:
        self.bits = bytearray(MOST_NUMBERS // 8)
        self.others: set[str] = set()
        self.size = 0

    def __contains__(self, id: str) -> bool:
        number = _key(id)
        return bool(self.bits[number >> 3] >> (number & 7) & 1) if isinstance(number, int) else number in self.others

    def __len__(self) -> int:
        return self.size

    def add(self, id: str) -> None:
        self._put(id, id not in self)

    def remove(self, id: str) -> None:
        """An id that is there."""
        self._put(id, id in self)

    def _put(self, id: str, changes: bool) -> None:
        if changes:
            there, number = id in self, _key(id)
            self.size += -1 if there else 1
            if isinstance(number, int):
                self.bits[number >> 3] ^= 1 << (number & 7)
            elif there:
                self.others.remove(number)
            else:
                self.others.add(number)


def _tell_broken(broken: list[str], right: bool, note: Note) -> None:
    if broken:
        what = first_of(broken)
        if not right:
            raise FcaError(f"no row of the labels is right: {what}", "is it the label file of Something-Something V2?")
        note(f"rows of the labels left out: {what}")


def _search(folder: str, layout: Layout, depth: int) -> None:
    holds_frames = os.path.basename(folder).lower() in FRAME_FOLDERS
    below = []
    for entry in _entries(folder):
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        stem, suffix = os.path.splitext(entry.name)
        if suffix.lower() in VIDEOS:
            if suffix not in (suffixes := layout.videos.setdefault(folder, [])):
                suffixes.append(suffix)
                suffixes.sort(reverse=True)  # .webm, the download, first
            layout.found, layout.example = layout.found + 1, min(stem, layout.example or stem)
        elif match := LABELS.fullmatch(entry.name):
            split = SPLIT_OF[match[1].lower()]
            layout.labels[split] = min(layout.labels.get(split, Path(entry.path)), Path(entry.path))
        elif (match := PARTS.fullmatch(entry.name)) and entry.is_file():
            layout.parts[int(match[1])] = min(layout.parts.get(int(match[1]), Path(entry.path)), Path(entry.path))
        elif entry.is_dir():
            if holds_frames or entry.name.isdecimal():
                if layout.frames[-1:] != [folder]:
                    layout.frames.append(folder)
                layout.example = min(entry.name, layout.example or entry.name)
            else:
                below.append(entry.path)
    for path in sorted(below) if depth else ():
        _search(path, layout, depth - 1)


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """What a folder holds, in no order: a list of 220,847 videos would take memory."""
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        raise FcaError(f"cannot read {folder}: {error.strerror}") from None


def _rows(layout: Layout, broken: list[str], held_out_first: bool = False) -> Iterator[tuple[Split, str, str]]:
    """Split, id and prompt of each row of the label files, the prompt "" where there is none; what is wrong to `broken`."""
    order = [split for split in SPLITS if split in layout.labels]
    for split in reversed(order) if held_out_first else order:
        path = layout.labels[split]
        for number, row in enumerate(json_list(path), 1):
            try:
                id, text = _row(row, f"{path} row {number}")
            except FcaError as error:
                broken.append(error.message)
            else:
                yield split, id, text


def _row(row: Any, where: str) -> tuple[str, str]:
    if not isinstance(row, dict):
        raise FcaError(f'{where} should be an object like {{"id": "1", "label": "..."}}, found {_kind(row)}')
    id, text = row.get("id"), row.get("label", "")
    if not isinstance(id, str | int) or isinstance(id, bool):
        raise FcaError(f"{where}: id should be text or a number, found {_kind(id) if 'id' in row else 'nothing'}")
    if not isinstance(text, str):
        raise FcaError(f"{where}: label should be text, found {_kind(text)}")
    if not is_text(text):
        raise FcaError(f"{where}: label is not valid UTF-8")
    return str(id), text.strip()


def _key(id: str) -> int | str:
    """An id that is a number as a number."""
    return int(id) if id.isascii() and id.isdecimal() and id[0] != "0" and len(id) < 8 and int(id) < MOST_NUMBERS else id


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number", bool: "a boolean"}
    return "null" if value is None else names[type(value)]
