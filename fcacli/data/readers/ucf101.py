"""UCF-101: UCF-101/<Class>/v_<Class>_gNN_cNN.avi, and the three published divisions ucfTrainTestlist/{train,test}list0N.txt.

The prompt is the class name split into words: ApplyEyeMakeup -> "Apply Eye Makeup". The test list becomes val: there is no
third list, and clips of one group (gNN) are cut from one video, so none of them may be held out of train at random.
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from fcacli.data.manifest import Record, Split, first_of
from fcacli.data.readers.tables import lines
from fcacli.data.source import Video
from fcacli.errors import FcaError, Misuse

LINE = re.compile(r"(\w+)/(v_\w+\.avi)(?:\s+\d+)?")
FOLDS = (1, 2, 3)
DEPTH = 4
"""Levels of folders that are searched."""


def read(root: Path, note: Callable[[str], None], *, fold: int = 1) -> Iterator[Record]:
    """The clips of one division: those of its train list, then those of its test list, in their order.

    Raises:
        Misuse: there is no such division.
        FcaError: the lists or the videos are not there.
    """
    if fold not in FOLDS:
        raise Misuse(f"--fold must be 1, 2 or 3, got {fold}")
    lists: dict[Split, Path | None] = {
        "train": _find(root, f"trainlist0{fold}.txt"),
        "val": _find(root, f"testlist0{fold}.txt"),
    }
    found = {split: path for split, path in lists.items() if path is not None}
    if not found:
        raise FcaError(f"no trainlist0{fold}.txt and no testlist0{fold}.txt below {root}", "they come in ucfTrainTestlist/")
    videos = _videos(root)
    for split, path in lists.items():
        if path is None:
            note(f"{'train' if split == 'train' else 'test'}list0{fold}.txt is not there: no {split} clips")
    return _records(found, videos, note)


def _records(lists: dict[Split, Path], videos: Path, note: Callable[[str], None]) -> Iterator[Record]:
    broken: list[str] = []
    listed, there, example = 0, 0, ""
    for split, path in lists.items():
        for number, line in enumerate(lines(path), 1):
            if not (line := line.strip()):
                continue
            if not (match := LINE.fullmatch(line)):
                broken.append(f"{path} line {number}: expected Class/v_Class_g01_c01.avi, found {line[:80]!r}")
                continue
            listed += 1
            video = videos / match[1] / match[2]
            if not video.is_file():
                example = example or str(video)
                continue
            there += 1
            yield Record(str(PurePosixPath(match[1], match[2]).with_suffix("")), words(match[1]), split, Video(video))
    if broken:
        note(f"lines left out: {first_of(broken)}")
    if not there:
        raise FcaError(f"none of the {listed:,} listed videos is there, e.g. {example}", "give the folder that holds UCF-101/")
    if listed > there:
        note(f"{listed - there:,} of {listed:,} listed videos are not there, e.g. {example}")


def words(name: str) -> str:
    """A CamelCase name as words: "YoYo" -> "Yo Yo"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)


def _find(root: Path, name: str) -> Path | None:
    return next((Path(folder, name) for folder, _, names in _walk(root, DEPTH) if name in names), None)


def _videos(root: Path) -> Path:
    """The folder that holds a folder for each class."""
    for folder, _, names in _walk(root, DEPTH):
        if any(name.startswith("v_") and name.lower().endswith(".avi") for name in names):
            return Path(folder).parent
    raise FcaError(
        f"no videos below {root}: expected UCF-101/<Class>/v_<Class>_g01_c01.avi", "the download is a RAR: unpack it"
    )


def _walk(root: Path, depth: int) -> Iterator[tuple[str, list[str], list[str]]]:
    for folder, below, names in os.walk(root):
        levels = len(Path(folder).relative_to(root).parts)
        below[:] = sorted(name for name in below if not name.startswith(".")) if levels < depth else []
        yield folder, below, names
