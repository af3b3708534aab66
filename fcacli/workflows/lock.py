"""One `fca train` per run: a lock that its process holds and that dies with it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fcacli.errors import FcaError


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold `run`/.lock, which names the process; the system frees it whatever ends that process.

    Raises:
        FcaError: another process holds it, or the folder cannot be written.
    """
    path = run / ".lock"
    try:
        run.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise FcaError(f"cannot write {path}: {error.strerror or error}", "a folder that you may write to") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise FcaError(
                f"run {run.name} is being trained by process {holder}", "fca train --new starts another run"
            ) from None
        except OSError:
            pass  # a file system without locks: nothing to hold
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
