"""One process at a time in a run, a dataset, an evaluation: a lock that its process holds and that dies with it."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fcacli.errors import FcaError
from fcacli.events import Message, Report
from fcacli.workspace import remove_leftovers

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)

_held: set[int] = set()
"""File descriptors of the locks of this process."""


@contextmanager
def locked(
    folder: Path, what: str = "", hint: str = "fca train --new starts another run", *, waiting: Report | None = None
) -> Iterator[None]:
    """Hold `folder`/.lock, which names the process; the system frees it whatever ends that process.

    Temporary files that lie in `folder` then belong to nobody and are removed.

    Args:
        what: begins the message that ends in "by process 123".
        waiting: where given, wait for the other process after saying so here, and do without a lock where the folder
            cannot be written: whoever reads there needs none.

    Raises:
        FcaError: another process holds it, or the folder cannot be written.
    """
    what = what or f"run {folder.name} is being trained"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        if waiting is not None and error.errno in READ_ONLY:
            yield
            return
        reason = f"cannot write {folder / '.lock'}: {error.strerror or error}"
        raise FcaError(reason, "a folder that you may write to, with some space free") from error
    _held.add(file)
    try:
        _lock(file, what, hint, waiting)
        remove_leftovers(folder)
        yield
    finally:
        _held.discard(file)
        os.close(file)


def _lock(file: int, what: str, hint: str, waiting: Report | None) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        busy = f"{what} by process {os.pread(file, 32, 0).decode(errors='replace').strip() or 'unknown'}"
        if waiting is None:
            raise FcaError(busy, hint) from None
        waiting(Message(f"{busy}; waiting for its end"))
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        return  # a file system without locks: nothing to hold
    with contextlib.suppress(OSError):  # on a full disk nobody learns who holds it
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)


def _let_go() -> None:
    """A forked worker must not hold its parent's locks when that is killed."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)
