"""A folder of videos with captions, in one of three conventions, the first that is there:

    metadata.jsonl, .csv or .parquet     columns file_name (or video), caption (or text, prompt) and, where there is one, split
    videos.txt + prompts.txt             line by line (also video.txt, captions.txt, ...)
    a.mp4 + a.txt                        anywhere below the folder

Folders train, val (validation, ...) and test directly below the root are splits; without them, and without a column of that
name, everything is "train". A folder of pictures that is listed, or has a caption beside it, is a clip.
A broken row, or a caption that is not UTF-8, is left out and said; the rest goes on.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from fcacli.data.images import list_images
from fcacli.data.manifest import Record, Split, first_of, is_text
from fcacli.data.readers.tables import csv_names, csv_rows, jsonl_rows, lines, parquet_names, parquet_rows
from fcacli.data.source import Pictures, Source, Video
from fcacli.data.video import VIDEO_SUFFIXES
from fcacli.errors import FcaError

VIDEO_COLUMNS = ("file_name", "video")
TEXT_COLUMNS = ("caption", "text", "prompt")
SPLIT = "split"
METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
VIDEO_LISTS = ("videos.txt", "video.txt")
TEXT_LISTS = ("prompts.txt", "captions.txt", "prompt.txt", "caption.txt")
SPLIT_OF: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
EXPECTED = "expected metadata.jsonl, .csv or .parquet, videos.txt + prompts.txt, or a.mp4 + a.txt"

Row = tuple[str, str, str]
"""Of a list: a video, its caption and its split, "" if it has none."""
Pair = tuple[Path, str, str]
"""A video or a folder of pictures, its caption and its split, "" if it has none."""


def read(root: Path, note: Callable[[str], None]) -> Iterator[Record]:
    """Clips whose video is there, sorted by convention: rows in their order, files by name.

    Raises:
        FcaError: there are no captions or no videos, or a list of them is broken.
    """
    broken: list[str] = []
    listed, there, captioned, absent = 0, 0, 0, ""
    lists = _lists(root)
    for video, text, named in _listed(lists, broken) if lists else _side_by_side(root, broken):
        listed += 1
        if (source := _source(video)) is None:
            absent = absent or str(video)
            continue
        there += 1
        captioned += bool(text)
        below = video.relative_to(root) if video.is_relative_to(root) else Path(video.name)
        split = SPLIT_OF.get(below.parts[0].lower(), "train") if len(below.parts) > 1 else "train"
        name = below if isinstance(source, Pictures) else below.with_suffix("")
        yield Record(str(name), text, SPLIT_OF[named] if named else split, source)
    if broken:
        what = first_of(broken)
        if not listed:
            raise FcaError(what, EXPECTED)
        note(f"left out: {what}")
    if not listed:
        raise FcaError(f"the lists below {root} name no videos" if lists else f"no videos below {root}", EXPECTED)
    if not there:
        raise FcaError(f"none of the {listed} videos listed below {root} is there, e.g. {absent}", "are the paths right?")
    if not captioned:
        raise FcaError(f"no video below {root} has a caption", EXPECTED)
    if listed > there:
        note(f"{listed - there:,} of {listed:,} listed videos are not there, e.g. {absent}")


def _lists(root: Path) -> list[tuple[Path, ...]]:
    """Of the root, or else of its split folders: the metadata file, or the lists of videos and of captions."""
    splits = sorted(path for path in root.iterdir() if path.is_dir() and path.name.lower() in SPLIT_OF)
    for folders in ([root], splits):
        if found := [files for folder in folders if (files := _lists_in(folder))]:
            return found
    return []


def _lists_in(folder: Path) -> tuple[Path, ...]:
    for name in METADATA:
        if (path := folder / name).is_file():
            return (path,)
    files = [next((folder / name for name in names if (folder / name).is_file()), None) for names in (VIDEO_LISTS, TEXT_LISTS)]
    return tuple(path for path in files if path is not None) if None not in files else ()


def _listed(lists: list[tuple[Path, ...]], broken: list[str]) -> Iterator[Pair]:
    for files in lists:
        if len(files) == 2:
            rows = _two_lists(*files)
        else:
            rows = {".jsonl": _jsonl_pairs, ".csv": _csv_pairs, ".parquet": _parquet_pairs}[files[0].suffix](files[0], broken)
        for video, text, split in rows:
            split = split.strip().lower()
            if not is_text(text):
                broken.append(f"{files[-1]}: the caption of {video} is not valid UTF-8")
            elif split and split not in SPLIT_OF:
                broken.append(f"{files[0]}: the split {split!r} of {video} is none of train, val, test")
            else:
                yield files[0].parent / _unquote(video), _unquote(text), split


def _two_lists(videos: Path, texts: Path) -> Iterator[Row]:
    """Line n of one belongs to line n of the other; blank lines at the end are no lines."""
    lengths = [sum(1 for _ in _to_last(lines(path))) for path in (videos, texts)]
    if lengths[0] != lengths[1]:
        raise FcaError(f"{videos} has {lengths[0]} lines and {texts.name} {lengths[1]}; line n belongs to line n")
    for video, text in zip(_to_last(lines(videos)), _to_last(lines(texts)), strict=True):
        yield video, text, ""


def _to_last(rows: Iterable[str]) -> Iterator[str]:
    blank = 0
    for row in rows:
        if row.strip():
            yield from [""] * blank
            blank = 0
            yield row
        else:
            blank += 1


def _jsonl_pairs(path: Path, broken: list[str]) -> Iterator[Row]:
    for number, row in jsonl_rows(path):
        where = f"{path} line {number}"
        if isinstance(row, FcaError):
            broken.append(row.message)
        elif not isinstance(row, dict):
            broken.append(f"{where} should be an object, found {type(row).__name__}")
        else:
            try:
                yield _pair(row, *_columns(list(row), where), where)
            except FcaError as error:
                broken.append(error.message)


def _csv_pairs(path: Path, broken: list[str]) -> Iterator[Row]:
    video, text = _columns(csv_names(path), str(path))
    for number, row in csv_rows(path):
        if None in row:
            broken.append(f"{path} line {number} has more values than columns (captions with commas need quotes)")
        elif row[video]:
            yield row[video], row[text] or "", row.get(SPLIT) or ""


def _parquet_pairs(path: Path, broken: list[str]) -> Iterator[Row]:
    names = parquet_names(path)
    video, text = _columns(names, str(path))
    for number, row in enumerate(parquet_rows(path, [video, text, *[SPLIT] * (SPLIT in names)]), 1):
        try:
            yield _pair({**row, text: "" if row[text] is None else row[text]}, video, text, f"{path} row {number}")
        except FcaError as error:
            broken.append(error.message)


def _pair(row: dict[str, Any], video: str, text: str, where: str) -> Row:
    row = {**row, SPLIT: "" if row.get(SPLIT) is None else row[SPLIT]}
    for name in (video, text, SPLIT):
        if not isinstance(row[name], str):
            raise FcaError(f"{where}: {name} should be text, found {type(row[name]).__name__}")
    return row[video], row[text], row[SPLIT]


def _columns(names: list[str], where: str) -> tuple[str, str]:
    video = next((name for name in VIDEO_COLUMNS if name in names), None)
    text = next((name for name in TEXT_COLUMNS if name in names), None)
    if video is None or text is None:
        wanted = " or ".join(VIDEO_COLUMNS if video is None else TEXT_COLUMNS)
        raise FcaError(f"{where} has no column {wanted}; it has {', '.join(names) or 'none'}")
    return video, text


def _side_by_side(root: Path, broken: list[str]) -> Iterator[Pair]:
    for video in _videos(root):
        caption = _caption_of(video)
        text = " ".join(" ".join(lines(caption)).split()) if caption.is_file() else ""
        if is_text(text):
            yield video, _unquote(text), ""
        else:
            broken.append(f"cannot read {caption}: it is not valid UTF-8")


def _caption_of(clip: Path) -> Path:
    """Beside a.mp4, or a folder a of pictures: a.txt."""
    return clip.with_suffix(".txt") if clip.suffix.lower() in VIDEO_SUFFIXES else clip.with_name(f"{clip.name}.txt")


def _videos(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """The video files below a folder, its own ones first, and folders of pictures with a caption beside them; only their names
    are kept, not those of captions. Links are followed, but not to a folder `above`."""
    above = (*above, os.path.realpath(folder))
    videos: list[str] = []
    below: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    if entry.is_dir():
                        (videos if _caption_of(folder / entry.name).is_file() else below).append(entry.name)
                    elif os.path.splitext(entry.name)[1].lower() in VIDEO_SUFFIXES:
                        videos.append(entry.name)
    except OSError as error:
        raise FcaError(f"cannot read {folder}: {error.strerror}") from None
    for name in sorted(videos):
        yield folder / name
    for name in sorted(below):
        if os.path.realpath(folder / name) not in above:
            yield from _videos(folder / name, above)


def _source(path: Path) -> Source | None:
    """A file or a folder of pictures; None where there is none, as of a name that no file can have (too long, with NUL)."""
    try:
        if path.is_dir():
            return Pictures(path) if list_images(path) else None
        return Video(path) if path.is_file() else None
    except (OSError, ValueError, FcaError):
        return None


def _unquote(text: str) -> str:
    """Without the literal quotes that some tools leave around a value."""
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"' and '"' not in text[1:-1]:
        return text[1:-1].strip()
    return text
