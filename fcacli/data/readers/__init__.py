"""Readers of raw datasets: a root folder -> Records. A new one is a module with `read` and a line in READERS."""

from collections.abc import Callable, Iterator
from pathlib import Path

from fcacli.data.manifest import Record
from fcacli.data.readers import folder, ssv2
from fcacli.errors import FcaError, Misuse

Note = Callable[[str], None]
"""Takes one line on what was found missing or left over."""

READERS: dict[str, Callable[[Path, Note], Iterator[Record]]] = {"ssv2": ssv2.read, "folder": folder.read}


def read(reader: str, root: Path, note: Note) -> Iterator[Record]:
    """The clips below `root` whose video is there and that have a prompt, in a fixed order.

    Raises:
        Misuse: no such reader.
        FcaError: the folder is missing or empty, or does not hold what the reader needs.
    """
    if reader not in READERS:
        raise Misuse(f"there is no reader {reader!r}; known: {', '.join(READERS)}", "fca prepare ssv2 ./raw")
    if not root.exists():
        raise FcaError(f"{root} does not exist", f"fca prepare {reader} FOLDER, with the folder that holds the raw videos")
    if not root.is_dir():
        raise FcaError(f"{root} is not a folder", f"fca prepare {reader} FOLDER, with the folder that holds the raw videos")
    try:
        empty = next(root.iterdir(), None) is None
    except OSError as error:
        raise FcaError(f"cannot read {root}: {error.strerror}") from None
    if empty:
        raise FcaError(f"{root} is empty", f"fca prepare {reader} FOLDER, with the folder that holds the raw videos")
    return READERS[reader](root, note)
