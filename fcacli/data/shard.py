"""A safetensors file with one row in each of its tensors for each entry, written in place row by row, read through a map.

    key    uint64 (n,)   of each row, fixed when the file is made
    done   uint8  (n,)   1 when the row is whole; set after the row's bytes have reached the disk
    ...    (n, *shape)   the entries' tensors

The file has its full size from the start, so that a disk that is too small is found before the work is done, and kill -9
loses no more than the rows in flight.
"""

import json
import mmap
import os
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fcacli.workspace import atomic_file

Row = dict[str, tuple[torch.dtype, tuple[int, ...]]]
"""Type and shape of an entry's tensors by name."""

TYPES = {
    "U64": torch.uint64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in TYPES.items()}
HEADER_LIMIT = 1 << 16
"""Bytes of a header that this module would have written; a longer one is damage."""


class Damaged(Exception):
    """The file is not a shard, or not all of one."""


def row_bytes(row: Row) -> int:
    """Bytes of an entry, with its key."""
    return 9 + sum(dtype.itemsize * prod(shape) for dtype, shape in row.values())


def create(path: Path, keys: np.ndarray, row: Row) -> None:
    """Make an empty shard for entries of the keys (n,) uint64.

    Raises:
        FcaError: there is no room for it, or the folder cannot be written.
    """
    n, at = len(keys), 0
    header: dict[str, Any] = {}
    whole: Row = {"key": (torch.uint64, ()), **row, "done": (torch.uint8, ())}
    for name, (dtype, shape) in sorted(whole.items(), key=lambda item: (-item[1][0].itemsize, item[0] != "key")):
        size = n * dtype.itemsize * prod(shape)
        header[name] = {"dtype": NAMES[dtype], "shape": [n, *shape], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + keys.astype("<u8").tobytes())
        file.flush()
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, 8 + len(text) + at)
        file.truncate(8 + len(text) + at)


class Shard:
    """An open shard; travels to other processes, which map it anew."""

    def __init__(self, path: Path):
        """
        Raises:
            Damaged: it is missing, cut short, or something else.
        """
        self.path = path
        self._map: mmap.mmap | None = None
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                if not 0 < length <= HEADER_LIMIT:
                    raise Damaged
                header = json.loads(file.read(length))
                header.pop("__metadata__", None)
                self._start = 8 + length
                self._places = {name: _place(about) for name, about in header.items()}
                if os.fstat(file.fileno()).st_size != self._start + max(place[2] for place in self._places.values()):
                    raise Damaged
                n = self._places["key"][1][0]
                self.keys = self._column(file, "key", np.dtype("<u8"), n)
                self.done = self._column(file, "done", np.dtype("u1"), n).astype(bool)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise Damaged from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}

    def row(self, index: int) -> dict[str, torch.Tensor]:
        """An entry's tensors, copied from the map.

        Raises:
            Damaged: the file has gone.
        """
        if self._map is None:
            try:
                with self.path.open("rb") as file:
                    self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            except (OSError, ValueError) as error:
                raise Damaged from error
        entry = {}
        for name, (dtype, shape, _, begin) in self._places.items():
            if name not in ("key", "done"):
                count = prod(shape[1:])
                at = self._start + begin + index * count * dtype.itemsize
                entry[name] = torch.frombuffer(self._map, dtype=dtype, count=count, offset=at).view(shape[1:]).clone()
        return entry

    def write(self, rows: Mapping[int, Mapping[str, torch.Tensor]]) -> None:
        """Write entries by row; then, when the disk has them, note that they are whole.

        Raises:
            OSError: the disk is full (on file systems that promise room they do not have), or has gone.
        """
        descriptor = os.open(self.path, os.O_RDWR)
        try:
            for index, entry in rows.items():
                for name, value in entry.items():
                    dtype, shape, _, begin = self._places[name]
                    if value.dtype != dtype or tuple(value.shape) != tuple(shape[1:]):
                        raise ValueError(f"{name} is {value.dtype} {tuple(value.shape)}, not {dtype} {tuple(shape[1:])}")
                    data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
                    _write(descriptor, data.data, self._start + begin + index * len(data))
            os.fsync(descriptor)
            for index in rows:
                _write(descriptor, memoryview(b"\1"), self._start + self._places["done"][3] + index)
        finally:
            os.close(descriptor)
        self.done[list(rows)] = True

    def _column(self, file: Any, name: str, dtype: np.dtype, n: int) -> np.ndarray:
        file.seek(self._start + self._places[name][3])
        return np.frombuffer(file.read(n * dtype.itemsize), dtype=dtype)


def _place(about: Mapping[str, Any]) -> tuple[torch.dtype, Sequence[int], int, int]:
    """Type, shape, end and begin of a tensor.

    Raises:
        ValueError, KeyError, TypeError: its description is damaged.
    """
    dtype, shape, (begin, end) = TYPES[about["dtype"]], about["shape"], about["data_offsets"]
    if begin < 0 or end - begin != prod(shape) * dtype.itemsize:
        raise ValueError
    return dtype, shape, end, begin


def _write(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
