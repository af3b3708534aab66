"""Frames of one clip, kept until it is known which of them are wanted: in memory, and beyond some size on the disk."""

import tempfile
from types import TracebackType

import numpy as np

IN_MEMORY = 2**28
"""Bytes; more of one clip moves to a temporary file, so that an hour-long video does not fill the memory."""


class Spool:
    """A list of frames uint8 (H, W, 3) of one size; a context manager, as it may hold a file."""

    def __init__(self, in_memory: int = IN_MEMORY):
        self._file = tempfile.SpooledTemporaryFile(max_size=in_memory)  # noqa: SIM115 - closed by __exit__
        self._shape: tuple[int, ...] = ()
        self._count = 0

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._count

    def append(self, frame: np.ndarray) -> None:
        """Raises OSError where the disk is full."""
        self._shape = frame.shape
        self._file.write(np.ascontiguousarray(frame).data)
        self._count += 1

    def __getitem__(self, index: int) -> np.ndarray:
        size = int(np.prod(self._shape))
        self._file.seek(index * size)
        frame = np.frombuffer(self._file.read(size), dtype=np.uint8).reshape(self._shape)
        self._file.seek(0, 2)
        return frame
