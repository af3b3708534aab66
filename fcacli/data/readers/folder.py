"""A folder of videos with captions, in one of three conventions, the first that is there:

    metadata.jsonl or metadata.csv       columns file_name (or video) and caption (or text, prompt)
    videos.txt + prompts.txt             line by line (also video.txt, captions.txt, ...)
    a.mp4 + a.txt                        anywhere below the folder

Folders train, val (validation, ...) and test directly below the root are splits; without them everything is "train".
A broken row, or a caption that is not UTF-8, is left out and said; the rest goes on.
"""

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from fcacli.data.decode import VIDEO_SUFFIXES
from fcacli.data.manifest import Record, Split, first_of, is_text
from fcacli.data.source import Video
from fcacli.errors import FcaError

VIDEO_COLUMNS = ("file_name", "video")
TEXT_COLUMNS = ("caption", "text", "prompt")
METADATA = ("metadata.jsonl", "metadata.csv")
VIDEO_LISTS = ("videos.txt", "video.txt")
TEXT_LISTS = ("prompts.txt", "captions.txt", "prompt.txt", "caption.txt")
SPLIT_OF: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
EXPECTED = "expected metadata.jsonl or metadata.csv, videos.txt + prompts.txt, or a.mp4 + a.txt"

Pair = tuple[Path, str]
"""A video and its caption, "" if it has none."""


def read(root: Path, note: Callable[[str], None]) -> Iterator[Record]:
    """Clips with a video and a caption, sorted by convention: rows in their order, files by name.

    Raises:
        FcaError: there are no captions or no videos, or a list of them is broken.
    """
    broken: list[str] = []
    pairs = _listed(root, broken)
    if pairs is None:
        pairs = _side_by_side(root, broken)
    if broken:
        what = first_of(broken)
        if not pairs:
            raise FcaError(what, EXPECTED)
        note(f"left out: {what}")
    there = [(video, text) for video, text in pairs if _is_file(video)]
    if not there:
        raise FcaError(
            f"none of the {len(pairs)} videos listed below {root} is there, e.g. {pairs[0][0]}", "are the paths right?"
        )
    captioned = [(video, text) for video, text in there if text]
    if not captioned:
        raise FcaError(f"no video below {root} has a caption", EXPECTED)
    if lost := len(pairs) - len(there):
        first = next(video for video, _ in pairs if not _is_file(video))
        note(f"{lost:,} of {len(pairs):,} listed videos are not there, e.g. {first}")
    if bare := len(there) - len(captioned):
        note(f"{bare:,} of {len(there):,} videos have no caption")
    for video, text in captioned:
        below = video.relative_to(root) if video.is_relative_to(root) else Path(video.name)
        split = SPLIT_OF.get(below.parts[0].lower(), "train") if len(below.parts) > 1 else "train"
        yield Record(str(below.with_suffix("")), text, split, Video(video))


def _listed(root: Path, broken: list[str]) -> list[Pair] | None:
    """The rows of all lists in the root, or else in its split folders; None if there is no list."""
    splits = sorted(path for path in root.iterdir() if path.is_dir() and path.name.lower() in SPLIT_OF)
    for folders in ([root], splits):
        lists = [pairs for folder in folders if (pairs := _list_in(folder, broken)) is not None]
        if lists:
            pairs = [pair for pairs in lists for pair in pairs]
            if not pairs and not broken:
                raise FcaError(f"the lists below {root} name no videos", EXPECTED)
            return pairs
    if any(folder.joinpath("metadata.parquet").exists() for folder in [root, *splits]):
        raise FcaError(f"{root} has its captions in metadata.parquet, which is not read", "convert it to metadata.csv")
    return None


def _list_in(folder: Path, broken: list[str]) -> list[Pair] | None:
    for name in METADATA:
        if (path := folder / name).is_file():
            rows = _jsonl_rows(path, broken) if path.suffix == ".jsonl" else _csv_rows(path, broken)
            return [(folder / _unquote(video), _unquote(text)) for video, text in _readable(rows, path, broken)]
    videos = next((folder / name for name in VIDEO_LISTS if (folder / name).is_file()), None)
    texts = next((folder / name for name in TEXT_LISTS if (folder / name).is_file()), None)
    if videos is None or texts is None:
        return None
    video_lines, text_lines = _lines(videos), _lines(texts)
    if len(video_lines) != len(text_lines):
        raise FcaError(f"{videos} has {len(video_lines)} lines and {texts.name} {len(text_lines)}; line n belongs to line n")
    rows = zip(video_lines, text_lines, strict=True)
    return [(folder / _unquote(video), _unquote(text)) for video, text in _readable(rows, texts, broken)]


def _readable(rows: Iterable[tuple[str, str]], path: Path, broken: list[str]) -> Iterator[tuple[str, str]]:
    for video, text in rows:
        if is_text(text):
            yield video, text
        else:
            broken.append(f"{path}: the caption of {video} is not valid UTF-8")


def _jsonl_rows(path: Path, broken: list[str]) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(_lines(path), 1):
        if line.strip():
            try:
                yield _jsonl_row(line, f"{path} line {number}")
            except FcaError as error:
                broken.append(error.message)


def _jsonl_row(line: str, where: str) -> tuple[str, str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FcaError(f"{where} is not valid JSON: {error}") from None
    if not isinstance(row, dict):
        raise FcaError(f"{where} should be an object, found {type(row).__name__}")
    video, text = _columns(list(row), where)
    for name in (video, text):
        if not isinstance(row[name], str):
            raise FcaError(f"{where}: {name} should be text, found {type(row[name]).__name__}")
    return row[video], row[text]


def _csv_rows(path: Path, broken: list[str]) -> Iterator[tuple[str, str]]:
    try:
        rows = csv.DictReader(_lines(path, keep_ends=True), strict=True)
        video, text = _columns(list(rows.fieldnames or ()), str(path))
        for row in rows:
            if None in row:
                broken.append(f"{path} line {rows.line_num} has more values than columns (captions with commas need quotes)")
            elif row[video]:
                yield row[video], row[text] or ""
    except csv.Error as error:
        raise FcaError(f"{path} is not valid CSV: {error}") from None


def _columns(names: list[str], where: str) -> tuple[str, str]:
    video = next((name for name in VIDEO_COLUMNS if name in names), None)
    text = next((name for name in TEXT_COLUMNS if name in names), None)
    if video is None or text is None:
        wanted = " or ".join(VIDEO_COLUMNS if video is None else TEXT_COLUMNS)
        raise FcaError(f"{where} has no column {wanted}; it has {', '.join(names) or 'none'}")
    return video, text


def _side_by_side(root: Path, broken: list[str]) -> list[Pair]:
    pairs = []
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(names):
            video = Path(folder, name)
            if video.suffix.lower() in VIDEO_SUFFIXES and not name.startswith("."):
                caption = video.with_suffix(".txt")
                text = " ".join(" ".join(_lines(caption)).split()) if caption.is_file() else ""
                if is_text(text):
                    pairs.append((video, _unquote(text)))
                else:
                    broken.append(f"cannot read {caption}: it is not valid UTF-8")
    if not pairs and not broken:
        raise FcaError(f"no videos below {root}", EXPECTED)
    return pairs


def _lines(path: Path, keep_ends: bool = False) -> list[str]:
    """Lines as editors count them, without a byte-order mark; blank ones at the end are no lines."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")  # a row that is not UTF-8 is found by is_text
    except OSError as error:
        raise FcaError(f"cannot read {path}: {error.strerror or error}") from None
    lines = text.rstrip().split("\n") if text.strip() else []
    return [line + "\n" for line in lines] if keep_ends else lines


def _is_file(path: Path) -> bool:
    """Whether a file is there; a name that no file can have (too long, with NUL) is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _unquote(text: str) -> str:
    """Without the literal quotes that some tools leave around a value."""
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"' and '"' not in text[1:-1]:
        return text[1:-1].strip()
    return text
