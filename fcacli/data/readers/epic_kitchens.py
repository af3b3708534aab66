"""EPIC-KITCHENS-100 and -55: the annotations' CSV files, and videos, frame folders or tars of frames, anywhere below the root.

EPIC_100_train.csv, EPIC_100_validation.csv, EPIC_train_action_labels.csv (of EPIC-55)      the prompt is `narration`
P01_01/frame_0000000001.jpg, P01_01.tar, P01_01.MP4                                          taken in this order

start_frame and stop_frame count the extracted frames (about 60 a second, 50 in PXX_1YY), 1-based, both included; they do not
count those of the video, where the time stamps are used. Annotations without narrations (the test list) are not read.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fcacli.data.manifest import Record, Split, first_of, is_text
from fcacli.data.readers.tables import csv_names, csv_rows
from fcacli.data.readers.tar import numbered_members
from fcacli.data.source import NumberedPictures, PictureBytes, Source, Video
from fcacli.data.video import Span
from fcacli.errors import FcaError

Note = Callable[[str], None]
TABLE = re.compile(r"EPIC_(?:100_)?(train|validation)(?:_action_labels)?\.csv")
SPLIT_OF: dict[str, Split] = {"train": "train", "validation": "val"}
VIDEO_ID = re.compile(r"P\d\d_\d{2,3}")
FRAME = re.compile(r"frame_(\d{10})\.jpg")
FRAME_NAME = "frame_{:010d}.jpg"
TIME = re.compile(r"(\d{1,3}):(\d\d):(\d\d(?:\.\d{1,9})?)")
COLUMNS = ("video_id", "narration", "start_timestamp", "stop_timestamp", "start_frame", "stop_frame")
NAMES = ("narration_id", "uid")
"""The clip's name in EPIC-100 and in EPIC-55."""
FLOW = ("flow", "flow_frames")
"""Folders of optical flow, named like those of the frames."""
DEPTH = 6
"""Levels of folders that are searched."""
NAMED = 3
"""Videos that an error names."""
LONGEST = 100_000
"""Frames; the longest real clip has 8,820."""


@dataclass
class Layout:
    """What lies where, by video."""

    tables: dict[Split, Path] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    tars: dict[str, Path] = field(default_factory=dict)
    videos: dict[str, Path] = field(default_factory=dict)
    members: tuple[str, dict[int, tuple[int, int]]] = ("", {})
    """The video whose tar was used last, and its frames; the rows of one video follow each other."""


@dataclass(frozen=True)
class Action:
    """A row of the annotations."""

    name: str
    video: str
    text: str
    start: float
    """Seconds."""
    stop: float
    frames: range
    """Numbers of the extracted frames."""


def read(root: Path, note: Note, *, protocol: str = "ours") -> Iterator[Record]:
    """The annotated actions whose video is there: train, then validation, in the order of the tables.

    With `protocol` "seer", of an action of more than 100 extracted frames only about 100 at equal distance, as Seer does.

    Raises:
        FcaError: there are no annotations or no videos, or a table is broken.
    """
    layout = Layout()
    _search(root, layout)
    if not layout.tables:
        raise FcaError(
            f"no annotations below {root}: expected EPIC_100_train.csv and EPIC_100_validation.csv",
            "git clone https://github.com/epic-kitchens/epic-kitchens-100-annotations, into that folder",
        )
    if not (layout.folders or layout.tars or layout.videos):
        raise FcaError(
            f"no videos below {root}: expected P01_01.MP4, P01_01.tar or P01_01/frame_0000000001.jpg",
            "give the folder that holds EPIC-KITCHENS/ and the annotations",
        )
    for path in layout.tables.values():
        names = csv_names(path)
        if missing := [name for name in COLUMNS if name not in names] or ([] if set(NAMES) & set(names) else [NAMES[0]]):
            raise FcaError(f"{path} has no column {missing[0]}; it has {', '.join(names) or 'none'}")
    return _records(root, layout, 100 if protocol == "seer" else 0, note)


def _records(root: Path, layout: Layout, most: int, note: Note) -> Iterator[Record]:
    broken: list[str] = []
    listed, there, absent = 0, 0, dict[str, int]()
    for split, path in sorted(layout.tables.items()):
        for number, row in csv_rows(path):
            try:
                action = _action(row, f"{path} line {number}")
            except FcaError as error:
                broken.append(error.message)
                continue
            listed += 1
            source = _source(layout, action, most)
            if source is None:
                absent[action.video] = absent.get(action.video, 0) + 1
                continue
            there += 1
            claimed = None if isinstance(source, Video) else len(_thinned(action.frames, most))
            yield Record(action.name, action.text, split, source, claimed)
    if broken:
        note(f"rows left out: {first_of(broken)}")
    if not there:
        raise _unlike(root, layout, list(absent))
    if absent:
        lost = sum(absent.values())
        note(f"{lost:,} of {listed:,} actions lie in {len(absent):,} videos that are not there, e.g. {next(iter(absent))}")


def _unlike(root: Path, layout: Layout, absent: list[str]) -> FcaError:
    """Videos and annotations that do not belong together: which these are."""
    read = " and ".join(str(path.relative_to(root)) for _, path in sorted(layout.tables.items()))
    there = sorted({*layout.folders, *layout.tars, *layout.videos})
    if not absent:
        return FcaError(f"no row of {read} below {root} can be used", "is the table whole? fetch it again")
    return FcaError(
        f"none of the {len(absent):,} videos of {read} ({_some(absent)}) is below {root}; the videos there are {_some(there)}",
        f"put the annotations of {there[0]}, or videos of those annotations, there, then the same command",
    )


def _some(names: list[str]) -> str:
    """The first of many names."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _source(layout: Layout, action: Action, most: int) -> Source | None:
    """By index where frames are there, else by time; None if neither is."""
    numbers, fps = _thinned(action.frames, most), rate(action.video)
    if (folder := layout.folders.get(action.video)) is not None:
        return NumberedPictures(folder, FRAME_NAME, numbers, fps / numbers.step)
    if (path := layout.tars.get(action.video)) is not None:
        if layout.members[0] != action.video:
            layout.members = (action.video, numbered_members(path, FRAME))
        places = tuple(layout.members[1][number] for number in numbers if number in layout.members[1])
        name = FRAME_NAME.format(numbers[0]) + f"-{numbers[-1]}"
        return PictureBytes(path, name, places, fps / numbers.step, missing=len(numbers) - len(places))
    if (path := layout.videos.get(action.video)) is not None:
        return Video(path, Span(action.start, action.stop))
    return None


def rate(video: str) -> float:
    """Extracted frames per second of a video: EPIC-100's own recordings (P01_101) have 50, EPIC-55's (P01_01) 59.94."""
    return 50.0 if len(video.partition("_")[2]) == 3 else 60000 / 1001


def _thinned(frames: range, most: int) -> range:
    """Seer's: every n-th frame, so that at least `most` are left."""
    distance = frames[-1] - frames[0]
    return range(frames.start, frames.stop, distance // most) if most and distance >= most else frames


def _search(root: Path, layout: Layout) -> None:
    for folder, below, names in os.walk(root):
        deep = len(Path(folder).relative_to(root).parts) >= DEPTH
        for name in [name for name in below if VIDEO_ID.fullmatch(name)]:
            layout.folders.setdefault(name, Path(folder, name))  # its 30,000 names are not read
        below[:] = sorted(
            name for name in below if not (deep or name in FLOW or name.startswith(".") or VIDEO_ID.fullmatch(name))
        )
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            if match := TABLE.fullmatch(name):
                layout.tables.setdefault(SPLIT_OF[match[1]], Path(folder, name))
            elif VIDEO_ID.fullmatch(stem) and suffix.lower() in (".mp4", ".tar"):
                (layout.tars if suffix.lower() == ".tar" else layout.videos).setdefault(stem, Path(folder, name))


def _action(row: dict[str, str], where: str) -> Action:
    values = {name: (row.get(name) or "").strip() for name in (*COLUMNS, *NAMES)}
    video, text = values["video_id"], " ".join(values["narration"].split())
    if not VIDEO_ID.fullmatch(video):
        raise FcaError(f"{where}: video_id should be like P01_01, found {video[:40]!r}")
    if not is_text(text):
        raise FcaError(f"{where}: narration is not valid UTF-8")
    start, stop = (_seconds(values[name], f"{where}: {name}") for name in ("start_timestamp", "stop_timestamp"))
    first, last = (_number(values[name], f"{where}: {name}") for name in ("start_frame", "stop_frame"))
    if not (start < stop and 0 < first <= last < first + LONGEST):
        raise FcaError(f"{where}: an action from {start} s to {stop} s, frames {first} to {last}, cannot be")
    name = values["narration_id"] or f"{video}_{values['uid']}"
    return Action(name, video, text, start, stop, range(first, last + 1))


def _seconds(text: str, where: str) -> float:
    if not (match := TIME.fullmatch(text)):
        raise FcaError(f"{where} should be a time like 00:00:01.25, found {text[:40]!r}")
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])


def _number(text: str, where: str) -> int:
    if not re.fullmatch(r"\d{1,10}", text):
        raise FcaError(f"{where} should be a number, found {text[:40]!r}")
    return int(text)
