"""Something-Something V2: <id>.webm or frame folders, and labels/{train,validation,test}.json with the prompts.

Everything may lie in the root or some levels below, under the names of the download or of its older version.
A broken row of a label file is left out and said; the rest goes on.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fcacli.data.manifest import SPLITS, Record, Split, first_of, is_text
from fcacli.data.source import Pictures, Video
from fcacli.errors import FcaError
from fcacli.workspace import read_json

VIDEOS = (".webm", ".mp4")
LABELS = re.compile(r"(?:something-something-v2-)?(train|validation|val|test)\.json", re.IGNORECASE)
PARTS = re.compile(r"20bn-something-something-v2-\d\d(\.zip|\.tgz|\.tar\.gz)?", re.IGNORECASE)
FRAME_FOLDERS = ("rawframes", "frames", "rgb_frames")
SPLIT_OF: dict[str, Split] = {"train": "train", "validation": "val", "val": "val", "test": "test"}
FPS = 12.0
"""Of the dataset; folders of frames do not say it."""
DEPTH = 4
"""Levels of folders that are searched."""


@dataclass
class Layout:
    """What lies where."""

    videos: dict[str, str] = field(default_factory=dict)
    """id -> path of its video file."""
    folders: dict[str, str] = field(default_factory=dict)
    """id -> path of its folder of frames."""
    labels: dict[Split, Path] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)
    """Downloaded archives."""


def read(root: Path, note: Callable[[str], None]) -> Iterator[Record]:
    """Clips with a video and a prompt: train, then val, each in the order of its label file.

    Raises:
        FcaError: there are no labels or no videos, no two of them match, or a label file is broken.
    """
    layout = Layout()
    _search(str(root), layout, DEPTH)
    if not layout.videos and not layout.folders:
        raise _no_videos(root, layout)
    if not layout.labels:
        raise FcaError(
            f"no labels below {root}: expected labels/train.json and labels/validation.json",
            "give the folder that holds the clips and the labels that come with them",
        )
    broken: list[str] = []
    rows = {split: _rows(layout.labels[split], broken) for split in SPLITS if split in layout.labels}
    if broken:
        what = first_of(broken)
        if not any(rows.values()):
            raise FcaError(f"no row of the labels is right: {what}", "is it the label file of Something-Something V2?")
        note(f"rows of the labels left out: {what}")
    held_out = {id for split, entries in rows.items() if split != "train" for id, _ in entries}
    both = sum(id in held_out for id, _ in rows.get("train", ()))
    known = {id for entries in rows.values() for id, _ in entries}
    there = known & (layout.videos.keys() | layout.folders.keys())
    if not there:
        video, label = next(iter({**layout.folders, **layout.videos})), next(iter(known), "none")
        raise FcaError(f"no video below {root} has a label (a video: {video}; a label: {label})", "do they belong together?")
    unprompted = sum(not text for entries in rows.values() for _, text in entries)
    surplus = len(layout.videos.keys() | layout.folders.keys()) - len(there)
    _tell(note, len(known), len(known) - len(there), surplus, unprompted, both)
    for split, entries in rows.items():
        for id, text in entries:
            if id in there and text and not (split == "train" and id in held_out):
                there.remove(id)  # a second row of the same clip is left out
                file = layout.videos.get(id)
                yield Record(id, text, split, Video(Path(file)) if file else Pictures(Path(layout.folders[id]), FPS))


def _search(folder: str, layout: Layout, depth: int) -> None:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise FcaError(f"cannot read {folder}: {error.strerror}") from None
    holds_frames = os.path.basename(folder).lower() in FRAME_FOLDERS
    below = []
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        stem, suffix = os.path.splitext(entry.name)
        if suffix.lower() in VIDEOS:
            layout.videos.setdefault(stem, entry.path)
        elif match := LABELS.fullmatch(entry.name):
            layout.labels.setdefault(SPLIT_OF[match[1].lower()], Path(entry.path))
        elif PARTS.fullmatch(entry.name) and entry.is_file():
            layout.parts.append(entry.path)
        elif entry.is_dir():
            if holds_frames or entry.name.isdecimal():
                layout.folders.setdefault(entry.name, entry.path)
            else:
                below.append(entry.path)
    for path in below if depth else ():
        _search(path, layout, depth - 1)


def _rows(path: Path, broken: list[str]) -> list[tuple[str, str]]:
    """(id, prompt) of each row of a label file, the prompt "" where there is none (test.json); what is wrong to `broken`."""
    rows = read_json(path, errors="surrogateescape")
    if not isinstance(rows, list):
        raise FcaError(
            f"{path} should hold a list of clips, found {_kind(rows)}", "is it the label file of Something-Something V2?"
        )
    right = []
    for number, row in enumerate(rows, 1):
        try:
            right.append(_row(row, f"{path} row {number}"))
        except FcaError as error:
            broken.append(error.message)
    return right


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


def _no_videos(root: Path, layout: Layout) -> FcaError:
    if layout.parts:
        folder, names = os.path.dirname(layout.parts[0]), [os.path.basename(part) for part in layout.parts]
        return FcaError(
            f"{folder} holds the downloaded archives ({names[0]}{', ...' if len(names) > 1 else ''}), not the clips in them",
            f"unzip those that are ZIP files, then: cd {folder} && cat 20bn-something-something-v2-?? | tar -xz",
        )
    return FcaError(
        f"no clips below {root}: expected 20bn-something-something-v2/<id>.webm or rawframes/<id>/*.jpg",
        "give the folder that holds the clips and the labels that come with them",
    )


def _tell(note: Callable[[str], None], known: int, missing: int, surplus: int, unprompted: int, both: int) -> None:
    remarks = [
        f"{missing:,} have no video here" if missing else "",
        f"{unprompted:,} have no prompt" if unprompted else "",
        f"{both:,} are in train and held out too (not trained on)" if both else "",
        f"{surplus:,} videos have no label" if surplus else "",
    ]
    if any(remarks):
        note(f"labels list {known:,} clips: " + ", ".join(filter(None, remarks)))


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number", bool: "a boolean"}
    return "null" if value is None else names[type(value)]
