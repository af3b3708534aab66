"""What a run writes about itself: log.jsonl (computed, reproducible), speed.jsonl (measured), TensorBoard (both)."""

import json
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Self

import torch

from fcacli.errors import FcaError


class RunLog:
    """Appends lines to the logs of a run, after cutting log.jsonl back to the checkpoint that is continued."""

    def __init__(self, run: Path, step: int, log_bytes: int):
        from torch.utils.tensorboard import SummaryWriter

        self._path = run / "log.jsonl"
        try:
            self._computed = _open_at(self._path, log_bytes)
            self._measured = (run / "speed.jsonl").open("ab")
            self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1, flush_secs=10)
        except OSError as error:
            raise FcaError(f"cannot write {self._path}: {error.strerror or error}", "a folder that you may write to") from error

    def computed(self, step: int, values: Mapping[str, float]) -> None:
        """A line of numbers that depend on configuration and data alone."""
        self._write(self._computed, step, values)

    def measured(self, step: int, values: Mapping[str, float]) -> None:
        """A line of times and memory."""
        self._write(self._measured, step, values)

    def _write(self, file: BinaryIO, step: int, values: Mapping[str, float]) -> None:
        try:
            file.write((json.dumps({"step": step, **values}) + "\n").encode())
            file.flush()
        except OSError as error:
            raise FcaError(f"cannot write {self._path}: {error.strerror or error}", "free disk space") from error
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def synced_bytes(self) -> int:
        """Length of log.jsonl, all of it on the disk."""
        os.fsync(self._computed.fileno())
        return self._computed.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._computed.close()
        self._measured.close()
        self._board.close()


def _open_at(path: Path, length: int) -> BinaryIO:
    """Open for appending after the first `length` bytes.

    Raises:
        FcaError: the file is shorter than that.
    """
    file = path.open("ab")
    if file.tell() < length:
        raise FcaError(f"{path} has {file.tell()} bytes, but had {length} at the checkpoint", "fca train --new")
    file.truncate(length)
    return file


def memory(device: torch.device) -> dict[str, float]:
    """Peak memory so far in GB: of this process, and of the CUDA device."""
    unit = 1 if sys.platform == "darwin" else 1024
    peaks = {"host_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9}
    if device.type == "cuda":
        peaks["device_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
    return {name: round(peak, 3) for name, peak in peaks.items()}
