"""What a run writes about itself: log.jsonl (computed, reproducible), speed.jsonl (measured), TensorBoard (both)."""

import contextlib
import json
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Self

import torch

from fcacli.errors import FcaError
from fcacli.events import Report
from fcacli.training.board import Board


class RunLog:
    """Appends lines to the logs of a run, after cutting them back to the checkpoint that is continued.

    log.jsonl must be written, or the run stops; TensorBoard may fail.
    """

    def __init__(self, run: Path, step: int, log_bytes: int, report: Report):
        self._path = run / "log.jsonl"
        try:
            self._computed = _open_at(self._path, log_bytes)
            self._measured = _open_at(run / "speed.jsonl", _bytes_up_to(run / "speed.jsonl", step))
        except OSError as error:
            raise FcaError(f"cannot write {self._path}: {error.strerror or error}", "a folder that you may write to") from error
        self._board = Board(run / "tensorboard", step + 1, report)

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
            hint = "free some space there; fca train goes on from the last checkpoint"
            raise FcaError(f"cannot write {file.name}: {error.strerror or error}", hint) from error
        self._board.add(step, values)

    def synced_bytes(self) -> int:
        """Length of log.jsonl, all of it on the disk."""
        os.fsync(self._computed.fileno())
        return self._computed.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._computed, self._measured):
            with contextlib.suppress(OSError):  # said when it was written
                file.close()
        self._board.close()


class NoLog:
    """Of a process that writes nothing."""

    def computed(self, step: int, values: Mapping[str, float]) -> None:
        pass

    def measured(self, step: int, values: Mapping[str, float]) -> None:
        pass

    def synced_bytes(self) -> int:
        return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


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


def _bytes_up_to(path: Path, step: int) -> int:
    """Length of the lines of steps up to `step`; what a killed process left half-written does not count."""
    length = 0
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                try:
                    if not line.endswith(b"\n") or json.loads(line)["step"] > step:
                        break
                except (ValueError, KeyError, TypeError):
                    break
                length += len(line)
    return length


def memory(device: torch.device) -> dict[str, float]:
    """Peak memory so far in GB: of this process, and of the CUDA device."""
    unit = 1 if sys.platform == "darwin" else 1024
    peaks = {"host_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9}
    if device.type == "cuda":
        peaks["device_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
    return {name: round(peak, 3) for name, peak in peaks.items()}
