"""Where things lie: data/, runs/ and predictions/ under one folder, and writes that are whole or not there.

data/<name>/{train,val,test}/metadata.jsonl + videos/     made by `fca prepare`
data/<name>/cache/                                        encoded clips, made by `fca train` or `fca prepare --base`
runs/<run>/                                               made by `fca train`; see training/checkpoint.py
predictions/<name>/                                       made by `fca predict`
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from fcacli.errors import FcaError, Misuse


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
            _plain_name(name, "--data")
            if self.data / name not in found:
                known = ", ".join(p.name for p in found) or "none"
                raise FcaError(f"no prepared dataset {name!r} in {self.data} (there: {known})", "fca prepare ssv2 ./raw")
            return self.data / name
        if not found:
            raise FcaError(f"no prepared data in {self.data}", "fca prepare ssv2 ./raw")
        return found[-1]

    def new_dataset(self, name: str) -> Path:
        """The path of a dataset to prepare; nothing is created yet, and it may exist already."""
        _plain_name(name, "--name")
        return self.data / name

    def run(self, name: str | None = None) -> Path:
        """The run `name`, or the one started last.

        Raises:
            FcaError: there is no run, or not of that name.
        """
        found = self.all_runs()
        if name is not None:
            _plain_name(name, "--run")
            if self.runs / name not in found:
                known = ", ".join(p.name for p in found) or "none"
                raise FcaError(f"no run {name!r} in {self.runs} (there: {known})", "fca train")
            return self.runs / name
        if not found:
            raise FcaError(f"no run in {self.runs}", "fca train")
        return found[-1]

    def all_runs(self) -> list[Path]:
        """Every run, oldest first (by the creation time kept in its config)."""
        return sorted((p.parent for p in self.runs.glob("*/config.json")), key=lambda p: (_created(p), p.name))

    def new_run(self, name: str | None = None) -> Path:
        """A path for a new run; nothing is created yet.

        Raises:
            FcaError: a run of that name exists.
        """
        if name is not None:
            _plain_name(name, "--run")
            if (self.runs / name).exists():
                raise FcaError(f"run {name!r} exists already in {self.runs}", "choose another --run name")
            return self.runs / name
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        number = 1
        while (path := self.runs / (stamp if number == 1 else f"{stamp}-{number}")).exists():
            number += 1
        return path


def _created(run: Path) -> str:
    return str(read_json(run / "config.json").get("created", ""))


def _plain_name(name: str, option: str) -> None:
    if not re.fullmatch(r"[\w][\w.+-]*", name):
        raise Misuse(f"{option} takes a plain name (letters, digits, '-', '_', '.'), got {name!r}")


def slug(text: str, limit: int = 48) -> str:
    """`text` as a file name: letters and digits of any alphabet, the rest dashes; never empty."""
    return re.sub(r"[^\w]+", "-", text.lower()).strip("-")[:limit].strip("-") or "untitled"


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        FcaError: it is missing, unreadable or not JSON; the message names the file and the place.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FcaError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise FcaError(f"cannot read {path}: {error}") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise FcaError(f"{path} is not valid JSON: {error}") from None


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed over `path`, else removed."""
    _make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise FcaError(f"cannot write {path}: {error.strerror or error}", "free some space, or another folder") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it is synced and takes the place of `path`, else removed."""
    _make_folder(path.parent)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    except OSError as error:
        raise FcaError(f"cannot write {path}: {error.strerror or error}", "free some space, or another folder") from error
    try:
        yield temporary
        temporary.chmod(0o755)
        for file in temporary.rglob("*"):
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
    except OSError as error:
        raise FcaError(f"cannot write {path}: {error.strerror or error}", "free some space, or another folder") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FcaError(f"cannot create {path}: {error.strerror or error}", "choose a folder you may write to") from error
