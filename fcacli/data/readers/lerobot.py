"""LeRobot datasets, versions 2.0, 2.1 and 3.0: meta/info.json, and one video a camera for each episode or for many.

2.x    videos/chunk-000/<key>/episode_000000.mp4      meta/episodes.jsonl
3.0    videos/<key>/chunk-000/file-000.mp4            meta/episodes/chunk-*/file-*.parquet: which file, from which time on

The prompt is the episode's first task that is not a filler. In 3.0 an episode is `length` frames from `from_timestamp` on:
`to_timestamp` is one frame short in real sets. What info.json says of codecs and sizes is not used, only compared. Paths
are made from numbers and declared keys; the path templates in info.json (wrong in real sets) are not followed.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from fcacli.data.images import Unreadable
from fcacli.data.manifest import Record, Split, first_of, is_text
from fcacli.data.readers.tables import jsonl_rows, parquet_rows
from fcacli.data.source import Video
from fcacli.data.video import Span, video_header
from fcacli.errors import FcaError
from fcacli.workspace import read_json

Note = Callable[[str], None]
VERSIONS = ("v2.0", "v2.1", "v3.0")
FILLERS = frozenset({"valid", "invalid", ""})
"""Tasks that say nothing."""
SPLIT_OF: dict[str, Split] = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Episode:
    """One row of the episodes table."""

    index: int
    text: str
    length: int
    """Frames, as declared."""
    file: tuple[int, int] | None = None
    """Of 3.0: chunk and file number of its video."""
    start: float = 0.0
    """Of 3.0: seconds into that file."""


def read(root: Path, note: Note, *, camera: str | None = None) -> Iterator[Record]:
    """The episodes whose video is there, by their table's order; one camera of each.

    Raises:
        FcaError: this is no LeRobot dataset, or of another version, or the camera is not there.
    """
    info = _info(root)
    new = info["codebase_version"] == "v3.0"
    key = _camera(root, info, new, camera, note)
    return _records(root, info, new, key, note)


def _records(root: Path, info: dict[str, Any], new: bool, key: str, note: Note) -> Iterator[Record]:
    broken: list[str] = []
    listed, there, example, compared = 0, 0, "", False
    splits = _splits(info)
    for episode in _episodes_v3(root, key, broken) if new else _episodes_v2(root, broken):
        listed += 1
        video = _video_v3(root, key, episode) if new else _video_v2(root, key, episode, info)
        if not video.is_file():
            example = example or str(video)
            continue
        if not compared:
            compared = True
            _compare(video, key, info, note)
        there += 1
        span = Span(episode.start, count=episode.length) if new else None
        split = _split_of(episode.index, splits)
        yield Record(f"episode_{episode.index:06}", episode.text, split, Video(video, span), episode.length)
    if broken:
        note(f"episodes left out: {first_of(broken)}")
    if not listed:
        raise FcaError(f"{root / 'meta'} lists no episodes" + (f": {first_of(broken)}" if broken else ""))
    if not there:
        raise FcaError(
            f"none of the {listed:,} videos of {key} is there, e.g. {example}", "were the videos downloaded as well?"
        )
    if listed > there:
        note(f"{listed - there:,} of {listed:,} episodes have no video of {key} here, e.g. {example}")


def _info(root: Path) -> dict[str, Any]:
    path = root / "meta" / "info.json"
    if not path.is_file():
        raise FcaError(
            f"{path} is not there: this is no LeRobot dataset", "give the folder that holds meta/, data/ and videos/"
        )
    info = read_json(path)
    if not isinstance(info, dict) or not isinstance(info.get("features"), dict):
        raise FcaError(f"{path} is damaged: it has no features")
    if info.get("codebase_version") not in VERSIONS:
        raise FcaError(
            f"{path}: codebase_version is {info.get('codebase_version')!r}, known are {', '.join(VERSIONS)}",
            "LeRobot's own scripts convert older versions",
        )
    return info


def _camera(root: Path, info: dict[str, Any], new: bool, wanted: str | None, note: Note) -> str:
    """The key of the camera to take; what is declared but absent is said."""
    declared = [
        key for key, feature in info["features"].items() if isinstance(feature, dict) and feature.get("dtype") == "video"
    ]
    declared = [key for key in declared if re.fullmatch(r"[\w.-]+", key) and key not in (".", "..")]
    if not declared:
        stills = any(isinstance(feature, dict) and feature.get("dtype") == "image" for feature in info["features"].values())
        more = ", only pictures inside the Parquet files, which are not read" if stills else ""
        raise FcaError(f"{root / 'meta' / 'info.json'} declares no video{more}")
    there = [key for key in declared if _has_videos(root, key, new)]
    absent = [key for key in declared if key not in there]
    if not there:
        raise FcaError(f"{root / 'videos'} holds no video of {', '.join(declared)}", "were the videos downloaded as well?")
    if wanted is not None:
        chosen = [key for key in declared if key == wanted or key.rsplit(".", 1)[-1] == wanted]
        if len(chosen) != 1:
            raise FcaError(f"there is no camera {wanted!r} (there: {', '.join(there)})", f"--camera {there[0]}")
        if chosen[0] in absent:
            raise FcaError(
                f"camera {chosen[0]} is declared in meta/info.json but has no videos (there: {', '.join(there)})",
                f"--camera {there[0]}",
            )
        return chosen[0]
    if absent:
        note(f"declared in meta/info.json, but without videos: {', '.join(absent)}")
    if len(there) > 1:
        note(f"of the cameras {', '.join(there)}, {there[0]} is taken; --camera takes another one")
    return there[0]


def _has_videos(root: Path, key: str, new: bool) -> bool:
    pattern = f"{key}/chunk-*/file-*.mp4" if new else f"chunk-*/{key}/episode_*.mp4"
    return next((root / "videos").glob(pattern), None) is not None


def _video_v2(root: Path, key: str, episode: Episode, info: dict[str, Any]) -> Path:
    size = info.get("chunks_size")
    chunk = episode.index // (size if isinstance(size, int) and size > 0 else 1000)
    return root / "videos" / f"chunk-{chunk:03}" / key / f"episode_{episode.index:06}.mp4"


def _video_v3(root: Path, key: str, episode: Episode) -> Path:
    chunk, file = episode.file or (0, 0)
    return root / "videos" / key / f"chunk-{chunk:03}" / f"file-{file:03}.mp4"


def _episodes_v2(root: Path, broken: list[str]) -> Iterator[Episode]:
    path = root / "meta" / "episodes.jsonl"
    for number, row in jsonl_rows(path):
        if isinstance(row, FcaError):
            broken.append(row.message)
        elif (episode := _episode(row, f"{path} line {number}", broken)) is not None:
            yield episode


def _episodes_v3(root: Path, key: str, broken: list[str]) -> Iterator[Episode]:
    paths = sorted((root / "meta" / "episodes").glob("chunk-*/file-*.parquet"))
    if not paths:
        raise FcaError(f"{root / 'meta' / 'episodes'} holds no chunk-*/file-*.parquet")
    names = [f"videos/{key}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
    for path in paths:
        for number, row in enumerate(parquet_rows(path, ["episode_index", "tasks", "length", *names]), 1):
            where = f"{path} row {number}"
            chunk, file, start = (row.get(name) for name in names)
            if not (_is_count(chunk) and _is_count(file) and isinstance(start, float | int) and 0 <= start < 1e7):
                broken.append(f"{where}: {names[0].rsplit('/', 1)[0]} does not say where the video is")
            elif (episode := _episode(row, where, broken)) is not None:
                yield Episode(episode.index, episode.text, episode.length, (chunk, file), float(start))


def _episode(row: Any, where: str, broken: list[str]) -> Episode | None:
    values = row if isinstance(row, dict) else {}
    index, length, tasks = values.get("episode_index"), values.get("length"), values.get("tasks")
    tasks = [tasks] if isinstance(tasks, str) else tasks
    if not _is_count(index) or not _is_count(length) or length == 0:
        broken.append(f"{where}: episode_index and length should be numbers, found {index!r} and {length!r}")
        return None
    if not isinstance(tasks, list) or not all(isinstance(task, str) and is_text(task) for task in tasks):
        broken.append(f"{where}: tasks should be a list of texts")
        return None
    return Episode(index, _prompt(tasks), length)


def _prompt(tasks: Iterable[str]) -> str:
    return next((text for task in tasks if (text := " ".join(task.split())).lower() not in FILLERS), "")


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9


def _split_of(index: int, splits: list[tuple[Split, range]]) -> Split:
    return next((split for split, episodes in splits if index in episodes), "train")


def _splits(info: dict[str, Any]) -> list[tuple[Split, range]]:
    """Which episodes info.json gives to which split: {"train": "0:80", "val": "80:100"}."""
    declared = info.get("splits")
    splits = []
    for name, text in declared.items() if isinstance(declared, dict) else ():
        if name in SPLIT_OF and isinstance(text, str) and (match := re.fullmatch(r"(\d{1,9}):(\d{1,9})", text)):
            splits.append((SPLIT_OF[name], range(int(match[1]), int(match[2]))))
    return sorted(splits, key=lambda split: split[0] == "train")


def _compare(video: Path, key: str, info: dict[str, Any], note: Note) -> None:
    """Say where info.json and a video file disagree; the file counts."""
    feature = info["features"][key]
    about = feature.get("info") or feature.get("video_info") or {}
    try:
        codec, width, height = video_header(video)
    except Unreadable:
        return  # the audit says it
    shape, differs = feature.get("shape"), []
    if isinstance(shape, list) and shape not in ([height, width, 3], [3, height, width]):
        differs.append(f"shape {shape}, the video has {height} x {width}")
    declared = about.get("video.codec") if isinstance(about, dict) else None
    if isinstance(declared, str) and declared.lower() != codec:
        differs.append(f"codec {declared}, the video is {codec}")
    if differs:
        note(f"meta/info.json is wrong about {key}: {'; '.join(differs)}. The video counts")
