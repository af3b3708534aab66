"""Where the frames of a raw clip lie, and how they are read: a video or a span of it, pictures, or pieces of an archive.

A source is small, knows no open file and travels to other processes. Nothing is ever extracted: members of an archive
are read in place by their offset, or (in a compressed stream) carried along as the bytes of one small file.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fcacli.data.decode import bounded, frames_of, pictures_of
from fcacli.data.images import Unreadable, list_images
from fcacli.data.track import FALLBACK_FPS, Track
from fcacli.data.video import Span, video_frames

LARGEST_FILE = 2**26
"""Bytes of one member of an archive that is taken into memory; a clip of Something-Something has 0.1 MB."""


@dataclass(frozen=True)
class Source:
    """The frames of one raw clip; use one of the kinds below."""

    path: Path
    """What lies on the disk: a file, or a folder of pictures. Several clips may share it."""

    @property
    def piece(self) -> str:
        """Which part of `path` it is, "" for the whole of it; both together are unique."""
        return ""

    def label(self, root: Path) -> str:
        """The place in words, relative to the raw folder `root`: "videos/a.mp4", "file-000.mp4#12.400+221"."""
        below = self.path.relative_to(root) if self.path.is_relative_to(root) else self.path
        text = below.as_posix().encode(errors="backslashreplace").decode()
        return f"{text}#{self.piece}" if self.piece else text

    def frames(self, track: Track) -> Iterator[np.ndarray]:
        """uint8 (H, W, 3) RGB one by one, all of the first one's size; `track` grows with them, its `problem` is set at
        the end.

        Raises:
            Unreadable: not one frame can be decoded, or there are more than a clip can have.
        """
        raise NotImplementedError

    def state(self) -> list[Any]:
        """What is another one when the source has changed, for JSON: name, size and time stamp of each file, and the piece.

        Raises:
            OSError: the source is gone or not accessible.
        """
        return [_state(self.path), self.piece]

    def digest(self) -> str:
        """SHA-256 of the bytes of this piece; "" where other clips share the file and reading it would cost more than
        decoding the piece.

        Raises:
            OSError: the source is gone or not accessible.
        """
        return ""


@dataclass(frozen=True)
class Video(Source):
    """A video file, or a span of it."""

    span: Span | None = None

    @property
    def piece(self) -> str:
        if self.span is None:
            return ""
        until = f"+{self.span.count}" if self.span.stop is None else f"-{self.span.stop:.3f}"
        return f"{self.span.start:.3f}{until}"

    def frames(self, track: Track) -> Iterator[np.ndarray]:
        return bounded(video_frames(self.path, track, span=self.span), self.path, track)

    def digest(self) -> str:
        return _digest([self.path]) if self.span is None else ""


@dataclass(frozen=True)
class VideoBytes(Source):
    """A small video file, read from the compressed archive at `path`."""

    name: str
    """Of the member."""
    data: bytes = field(repr=False)

    @property
    def piece(self) -> str:
        return self.name

    def frames(self, track: Track) -> Iterator[np.ndarray]:
        place = self.path / self.name
        return bounded(video_frames(place, track, self.data), place, track)

    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class Pictures(Source):
    """All pictures of a folder, in natural order."""

    fps: float = FALLBACK_FPS

    def frames(self, track: Track) -> Iterator[np.ndarray]:
        return frames_of(self.path, track, self.fps)

    def state(self) -> list[Any]:
        return [_state(path) for path in list_images(self.path)]

    def digest(self) -> str:
        return _digest(list_images(self.path))


@dataclass(frozen=True)
class NumberedPictures(Source):
    """Some of a folder's numbered pictures; one that is not there is a problem."""

    pattern: str
    """Name of a picture, as "frame_{:010d}.jpg"."""
    numbers: range
    fps: float = FALLBACK_FPS

    @property
    def piece(self) -> str:
        return f"{self.numbers.start}-{self.numbers[-1]}" + (f"/{self.numbers.step}" if self.numbers.step > 1 else "")

    def frames(self, track: Track) -> Iterator[np.ndarray]:
        there = [path for path in self._paths() if path.is_file()]
        missing = len(self.numbers) - len(there)
        if not there:
            raise Unreadable(self.path, f"none of the {missing} frames {self.piece} is there")
        yield from bounded(pictures_of(self.path, there, track, self.fps), self.path, track)
        track.problem = f"{missing} of the {len(self.numbers)} frames {self.piece} are not there" if missing else ""

    def state(self) -> list[Any]:
        paths = [self.path / self.pattern.format(number) for number in (self.numbers[0], self.numbers[-1])]
        return [*(_state(path) for path in paths if path.exists()), self.piece]

    def digest(self) -> str:
        return _digest([path for path in self._paths() if path.exists()])

    def _paths(self) -> list[Path]:
        return [self.path / self.pattern.format(number) for number in self.numbers]


@dataclass(frozen=True)
class PictureBytes(Source):
    """Pictures that lie in the file `path`, uncompressed: in a tar, in a TFRecord."""

    name: str
    """What they are in there."""
    places: tuple[tuple[int, int], ...]
    """Offset and size of each, bytes."""
    fps: float = FALLBACK_FPS
    missing: int = 0
    """How many more there should be; that is a problem."""

    @property
    def piece(self) -> str:
        return self.name

    def frames(self, track: Track) -> Iterator[np.ndarray]:
        place, count = self.path / self.name, len(self.places) + self.missing
        if not self.places:
            raise Unreadable(place, f"none of its {count} frames is there")
        yield from bounded(pictures_of(place, self._read(), track, self.fps), place, track)
        track.problem = f"{self.missing} of its {count} frames are not there" if self.missing else ""

    def digest(self) -> str:
        digest = hashlib.sha256()
        for data in self._read():
            digest.update(data)
        return digest.hexdigest()

    def _read(self) -> Iterator[bytes]:
        try:
            with self.path.open("rb") as file:
                for offset, size in self.places:
                    if size > LARGEST_FILE:
                        raise Unreadable(self.path, f"{self.name} holds a picture of {size:,} bytes")
                    file.seek(offset)
                    yield file.read(size)
        except OSError as error:
            raise Unreadable(self.path, error.strerror or str(error)) from None


@dataclass(frozen=True)
class Array(Source):
    """Frames that a file at `path` holds as one array."""

    name: str
    pixels: np.ndarray = field(repr=False, compare=False)
    """uint8 (T, H, W, 3), RGB."""
    fps: float = FALLBACK_FPS

    @property
    def piece(self) -> str:
        return self.name

    def frames(self, track: Track) -> Iterator[np.ndarray]:
        return bounded(self._pictures(track), self.path / self.name, track)

    def digest(self) -> str:
        return hashlib.sha256(np.ascontiguousarray(self.pixels).data).hexdigest()

    def _pictures(self, track: Track) -> Iterator[np.ndarray]:
        track.rate = self.fps
        for index, frame in enumerate(self.pixels):
            track.stamps.append(index / self.fps)
            yield frame


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _state(path: Path) -> list[Any]:
    state = path.stat()
    return [path.name, state.st_size, state.st_mtime_ns]
