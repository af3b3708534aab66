"""Readers of raw datasets: a root folder -> Records, one by one. A new one is a module with `read` and a line in READERS."""

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from fcacli.data.manifest import Record
from fcacli.data.readers import bridge, epic_kitchens, folder, lerobot, ssv2, ucf101
from fcacli.errors import FcaError, Misuse, nearest

Note = Callable[[str], None]
"""Takes one line on what was found missing or left over."""


@dataclass(frozen=True, kw_only=True)
class ReaderOptions:
    """What a user may ask of readers; each takes those that its line in READERS names."""

    camera: str | None = None
    """Which camera's video; None: the only or first one."""
    trust_pickle: bool = False
    """Load NumPy files that can run programs."""
    fold: int = 1
    """Which of the published train / test lists."""
    protocol: Literal["ours", "seer"] = "ours"
    """Whose choice of clips, prompts and frames."""


READERS: dict[str, tuple[Callable[..., Iterator[Record]], tuple[str, ...]]] = {
    "ssv2": (ssv2.read, ()),
    "bridge": (bridge.read, ("camera", "trust_pickle", "protocol")),
    "epic-kitchens": (epic_kitchens.read, ("protocol",)),
    "ucf101": (ucf101.read, ("fold",)),
    "lerobot": (lerobot.read, ("camera",)),
    "folder": (folder.read, ()),
}
"""`read(root, note, **options)` of each, and which of ReaderOptions it takes."""
IGNORED = ("protocol",)
"""Options that change nothing for the readers that do not take them, instead of being wrong there."""


def read(reader: str, root: Path, note: Note, options: ReaderOptions | None = None) -> Iterator[Record]:
    """The clips below `root` whose video is there, in a fixed order; the text of a clip without a prompt is "".

    Raises:
        Misuse: no such reader, or an option that it does not take.
        FcaError: the folder is missing or empty, or does not hold what the reader needs.
    """
    check_reader(reader, root)
    function, taken = READERS[reader]
    given = _given(reader, options or ReaderOptions(), taken)
    where = f"fca prepare {reader} FOLDER, with the folder that holds the raw videos"
    if reader == "ssv2" and not root.is_file():
        where += f"\nor, to try it on a miniature world that is drawn there: fca toy {shlex.quote(str(root))}"
    if not root.exists():
        raise FcaError(f"{root} does not exist", where)
    if not root.is_dir():
        raise FcaError(f"{root} is not a folder", where)
    try:
        empty = next(root.iterdir(), None) is None
    except OSError as error:
        raise FcaError(f"cannot read {root}: {error.strerror}") from None
    if empty:
        raise FcaError(f"{root} is empty", where)
    return function(root, note, **given)


def check_reader(reader: str, root: Path) -> None:
    """Whether a command line begins with a reader that is known.

    Raises:
        Misuse: it does not; or the two arguments are in the other order.
    """
    if reader in READERS:
        return
    known, folder = ", ".join(READERS), shlex.quote(reader)
    if str(root) in READERS:
        raise Misuse(f"the reader comes first, then the folder: {reader!r} is no reader", f"fca prepare {root} {folder}")
    if len(Path(reader).parts) > 1 or reader == "." or _is_folder(reader):
        raise Misuse(f"the reader comes first, then the folder: {reader!r} is none of {known}", f"fca prepare ssv2 {folder}")
    meant = nearest(reader, READERS, "ssv2")
    raise Misuse(f"there is no reader {reader!r}; known: {known}", f"fca prepare {meant} {shlex.quote(str(root))}")


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except OSError:  # a name that is too long
        return False


def _given(reader: str, options: ReaderOptions, taken: tuple[str, ...]) -> dict[str, object]:
    """The options that differ from their defaults."""
    given = {f.name: value for f in fields(options) if (value := getattr(options, f.name)) != f.default}
    for name in given.keys() - set(taken) - set(IGNORED):
        takers = ", ".join(key for key, (_, names) in READERS.items() if name in names)
        raise Misuse(f"--{name.replace('_', '-')} is for {takers}, not for {reader}")
    return {name: value for name, value in given.items() if name in taken}
