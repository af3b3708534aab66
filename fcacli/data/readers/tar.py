"""Tar archives of pictures and of small videos. Nothing is extracted: of a member, only the last part of its name counts,
as a number or an id, and its bytes are read where they lie. Links, devices and sparse files are no members here."""

import gzip
import io
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from fcacli.data.source import LARGEST_FILE
from fcacli.errors import FcaError

GREATEST_RATIO = 16
"""Videos and pictures do not shrink; what unpacks to more than so many times its size is no archive of them."""
BROKEN = (tarfile.TarError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""What the standard library raises on damaged archives."""


def numbered_members(path: Path, pattern: re.Pattern[str]) -> dict[int, tuple[int, int]]:
    """Offset and size (bytes) of the members of an uncompressed tar, by the number that `pattern` finds in the name.

    Raises:
        FcaError: it is no uncompressed tar, or broken off.
    """
    places: dict[int, tuple[int, int]] = {}
    try:
        with path.open("rb") as file, tarfile.open(fileobj=_Careful(file), mode="r:") as archive:
            for member in _members(archive):
                if _is_plain(member) and (match := pattern.fullmatch(member.name.rsplit("/", 1)[-1])):
                    places.setdefault(int(match[1]), (member.offset_data, member.size))
    except (*BROKEN, ValueError, OSError) as error:
        raise FcaError(
            f"cannot read {path}: {getattr(error, 'strerror', None) or error}", "an uncompressed tar is read"
        ) from None
    return places


def streamed_members(parts: Sequence[Path], pattern: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of the members of a tar.gz whose `parts` follow each other, as far as `pattern` fits the name.

    A part may be wrapped as the only member of a ZIP file.

    Raises:
        FcaError: at the place where the archive is damaged, breaks off or unpacks to more than it can hold.
    """
    most = GREATEST_RATIO * sum(part.stat().st_size for part in parts) + LARGEST_FILE
    try:
        with (
            gzip.GzipFile(fileobj=io.BufferedReader(_Joined(parts), 2**20)) as unpacked,
            tarfile.open(fileobj=_Careful(unpacked), mode="r:") as archive,
        ):
            for member in _members(archive):
                if member.offset_data + member.size > most:
                    raise FcaError(f"{parts[0]} unpacks to more than {GREATEST_RATIO} times its size: it holds no videos")
                match = pattern.fullmatch(member.name.rsplit("/", 1)[-1])
                if match and _is_plain(member) and member.size <= LARGEST_FILE and (file := archive.extractfile(member)):
                    yield match[0], file.read()
    except (*BROKEN, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FcaError(f"the archive {parts[0].name}, ... is damaged or a part of it is missing: {reason}") from None


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined] # else tarfile keeps all of them
        yield member


def _is_plain(member: tarfile.TarInfo) -> bool:
    return member.isreg() and not member.issparse()


class _Careful(io.RawIOBase):
    """A file that gives no more at a time than a member may have: tarfile reads names as long as a header claims."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile):
        self.file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LARGEST_FILE:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self.file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


class _Joined(io.RawIOBase):
    """Files one after the other as one; a ZIP file stands for its only member."""

    def __init__(self, paths: Sequence[Path]):
        self.waiting = list(paths)
        self.current: IO[bytes] | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self.current is None:
                if not self.waiting:
                    return 0
                self.current = _open_part(self.waiting.pop(0))
            data = self.current.read(len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)
            self.current.close()
            self.current = None

    def close(self) -> None:
        if self.current is not None:
            self.current.close()
        super().close()


def _open_part(path: Path) -> IO[bytes]:
    """A part's bytes, unwrapped where it is a ZIP file by its first bytes; its name says nothing."""
    file = path.open("rb")
    start = file.read(4)
    file.seek(0)
    if start != b"PK\x03\x04":
        return file
    with file, zipfile.ZipFile(path) as wrapper:
        inside = [info for info in wrapper.infolist() if not info.is_dir() and "__MACOSX" not in info.filename]
        if len(inside) != 1:
            raise zipfile.BadZipFile(f"{path.name} holds {len(inside)} files, expected one part of the archive")
        if inside[0].file_size > GREATEST_RATIO * path.stat().st_size:
            raise zipfile.BadZipFile(f"{path.name} unpacks to more than {GREATEST_RATIO} times its size")
        return wrapper.open(inside[0])
