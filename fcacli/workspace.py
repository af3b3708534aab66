"""Where things lie: data/, runs/ and predictions/ under one folder, and writes that are whole or not there.

data/<name>/{train,val,test}/metadata.jsonl + videos/     made by `fca prepare`
data/<name>/cache/                                        encoded clips, made by `fca train` or `fca prepare --base`
runs/<run>/                                               made by `fca train`; see training/checkpoint.py
predictions/<name>/                                       made by `fca predict`

A .lock in a folder names the process at work there (workflows/lock.py); a name like .x.tmp is a write that is not done.
"""

import contextlib
import errno
import itertools
import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fcacli.errors import FcaError, Misuse, nearest

UNFINISHED = "unfinished.json"
"""In place of dataset.json while `fca prepare` is at work, and after it was interrupted: the command that goes on."""


@dataclass(frozen=True)
class Workspace:
    """The folder that the commands share; by default the current one."""

    root: Path = field(default_factory=Path.cwd)

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def predictions(self) -> Path:
        return self.root / "predictions"

    def dataset(self, name: str | None = None) -> Path:
        """The prepared dataset `name`, or the only / most recently prepared one.

        Raises:
            FcaError: nothing is prepared, or not under that name.
        """
        found = sorted((p.parent for p in self.data.glob("*/dataset.json")), key=lambda p: (p / "dataset.json").stat().st_mtime)
        if name is not None:
            name = _name_below(self.data, name, "--data")
            if self.data / name not in found:
                known = ", ".join(p.name for p in found) or "none"
                message = f"no prepared dataset {name!r} in {self.data} (there: {known})"
                if self.data / slug(name) in found:
                    raise FcaError(message, f"--data {slug(name)}")
                raise self._not_prepared(message, name)
            return self.data / name
        if not found:
            raise self._not_prepared(f"no prepared data in {self.data}", "*")
        return found[-1]

    def _not_prepared(self, message: str, name: str) -> FcaError:
        """`message`, and the command that finishes what `fca prepare` has begun, if it has."""
        for path in sorted(self.data.glob(f"{name}/{UNFINISHED}")):
            begun = read_json(path)
            if isinstance(begun, dict) and "command" in begun:
                return FcaError(f"{message}; {path.parent.name} is being prepared or was interrupted", str(begun["command"]))
        above = "" if any(self.data.glob("*/dataset.json")) else self._above("data", "dataset.json")
        return FcaError(message, above or "fca prepare ssv2 ./raw")

    def new_dataset(self, name: str) -> Path:
        """The path of a dataset to prepare; nothing is created yet, and it may exist already."""
        _plain_name(name, "--name")
        return self.data / name

    def run(self, name: str | None = None, option: str = "--run") -> Path:
        """The run `name`, which the user gave as `option`, or the one started last.

        Raises:
            FcaError: there is no run, or not of that name.
        """
        found = self.all_runs()
        if name is not None:
            name = _name_below(self.runs, name, option)
            if self.runs / name not in found:
                known = ", ".join(p.name for p in found) or "none"
                message = f"no run {name!r} in {self.runs} (there: {known})"
                raise self._no_run(message) if not found else FcaError(message, f"{option} {_meant(name, found)}")
            return self.runs / name
        if not found:
            raise self._no_run(f"no run in {self.runs}")
        return found[-1]

    def _no_run(self, message: str) -> FcaError:
        return FcaError(message, self._above("runs", "config.json") or "fca train")

    def _above(self, name: str, file: str) -> str:
        """What to do where a command was typed in a folder of the workspace, or in one of those; "" where that is not so."""
        for place in self.root.resolve().parents[:2]:
            if next(place.glob(f"{name}/*/{file}"), None) is not None:
                way = shlex.quote(os.path.relpath(place))
                return f"cd {way} first, then the same command: {place / name} lies there"
        return ""

    @staticmethod
    def continuing(run: Path) -> str:
        """The command that goes on with an unfinished run."""
        runs = Workspace(run.parent.parent).all_runs()
        return "fca train" if not runs or runs[-1].name == run.name else f"fca train --run {run.name}"

    def all_runs(self) -> list[Path]:
        """Every run, oldest first (by the creation time kept in its config)."""
        return sorted((p.parent for p in self.runs.glob("*/config.json")), key=lambda p: (_created(p), p.name))

    def new_run(self, name: str | None = None) -> Path:
        """A path for a new run: of a name that is given nothing is created yet, else an empty folder, so that another command
        of the same second takes another name. `drop_empty` removes it where no run came of it.

        Raises:
            FcaError: a run of that name exists; a folder that a process left before it wrote anything there is none. Or
                nothing can be created.
        """
        if name is not None:
            _plain_name(name, "--run")
            if (self.runs / name).exists() and not _is_empty(self.runs / name):
                raise FcaError(f"run {name!r} exists already in {self.runs}", "choose another --run name")
            return self.runs / name
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        for number in itertools.count(1):
            path = self.runs / (stamp if number == 1 else f"{stamp}-{number}")
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                continue
            except OSError as error:
                reason = f"cannot create {path}: {error.strerror or error}"
                raise FcaError(reason, "a folder that you may write to, with some space free") from error
            return path
        raise AssertionError


def _meant(name: str, runs: list[Path]) -> str:
    """The run that a wrong name was meant for; the last one where none is like it."""
    return nearest(name, [run.name for run in reversed(runs)], runs[-1].name)


def drop_empty(run: Path) -> None:
    """Remove the folder of a run that did not begin, and runs/ where nothing else is there."""
    with suppress(OSError):  # it did begin
        run.rmdir()
        run.parent.rmdir()


def _is_empty(folder: Path) -> bool:
    """Whether it holds nothing but a lock and temporary files."""
    return folder.is_dir() and all(path.name == ".lock" or _is_temporary(path) for path in folder.iterdir())


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(".") and ".tmp" in path.name


def _created(run: Path) -> str:
    """When a run was created; of a damaged config, when the file was written, so that the run keeps its place."""
    path = run / "config.json"
    try:
        return str(read_json(path)["created"])
    except (FcaError, KeyError, TypeError):
        return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat()


def _name_below(folder: Path, name: str, option: str) -> str:
    """The name of what lies in a folder, given as such or, as commands print it, as its path."""
    path = Path(name)
    if len(path.parts) > 1 and path.parent.resolve() == folder.resolve():
        name = path.name
    _plain_name(name, option)
    return name


def _plain_name(name: str, option: str) -> None:
    if not re.fullmatch(r"[\w][\w.+-]*", name):
        raise Misuse(f"{option} takes a plain name (letters, digits, '-', '_', '.'), got {name!r}")


def cache_home() -> Path:
    """Where what belongs to no workspace is kept for the next time; safe to delete."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fca"


def slug(text: str, limit: int = 48) -> str:
    """`text` as a file name: letters and digits of any alphabet, the rest dashes; never empty."""
    return re.sub(r"[^\w]+", "-", text.lower()).strip("-")[:limit].strip("-") or "untitled"


def read_json(path: Path, errors: str = "strict") -> Any:
    """Parse a JSON file; `errors` says what becomes of bytes that are not UTF-8, as in `bytes.decode`.

    Raises:
        FcaError: it is missing, unreadable or not JSON; the message names the file and the place.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8", errors=errors))
    except FileNotFoundError:
        raise FcaError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise FcaError(f"cannot read {path}: {error}") from None
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        raise FcaError(f"{path} is not valid JSON: {error}") from None


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(
            json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", errors="backslashreplace"
        )


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed over `path`, else removed."""
    with renamed_file(path) as temporary:
        yield temporary
        _sync(temporary)


@contextmanager
def renamed_file(path: Path) -> Iterator[Path]:
    """As `atomic_file`, whole even after kill -9, but it does not wait for the disk: for many files, which a later run
    finds damaged if the power fails."""
    _make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it is synced and takes the place of `path`, else removed."""
    _make_folder(path.parent)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        yield temporary
        temporary.chmod(0o755)
        for inside in (*temporary.rglob("*"), temporary):
            _sync(inside)
        _take_place(temporary, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _take_place(temporary: Path, path: Path) -> None:
    """Rename; what is there moves aside before it is removed, so that a half-removed folder never bears the name."""
    aside = temporary.with_name(f"{temporary.name}.old")
    if path.exists():
        path.rename(aside)
    temporary.rename(path)
    shutil.rmtree(aside, ignore_errors=True)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Bring a file to the disk; a folder, where its file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def require_writable(folder: Path, asked: Path | None = None) -> None:
    """Before work whose result will lie in a folder, which may have to be made then; nothing is left behind.

    Args:
        asked: the path that the user knows, to be named; None for the folder.

    Raises:
        FcaError: nothing can be written there.
    """
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise _cannot_write(asked or folder, error) from error


def remove_leftovers(folder: Path, *patterns: str) -> None:
    """Remove what killed processes left of unfinished writes in `folder` and where `patterns` lead from it.

    Only for a caller who knows that nobody else writes there: who holds its lock.
    """
    for place in (folder, *(found for pattern in patterns for found in folder.glob(pattern))):
        for path in place.glob(".*.tmp*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()


def _cannot_write(path: Path, error: OSError) -> FcaError:
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return FcaError(f"cannot write {path}: {reason}", "free some space there and run the same command: it goes on")
    return FcaError(f"cannot write {path}: {reason}", "a folder that you may write to, or give yourself the right to this one")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from error
