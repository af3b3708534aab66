"""TensorBoard's event file, written by the thread that trains: a full disk costs the curves, not the run.

torch's SummaryWriter has a thread of its own, which dies of a full disk with a traceback and then lets `close` hang.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from fcacli.events import Message, Report


class Board:
    """Scalars of a run below `folder`; off, with one warning, once it cannot be written.

    Args:
        purge_step: from this step on, what an earlier session of the run wrote does not count.
    """

    def __init__(self, folder: Path, purge_step: int, report: Report):
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        self._folder, self._report = folder, report
        self._file: BinaryIO | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = _open(folder)
        except OSError as error:
            self._off(error)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        restart = SessionLog(status=SessionLog.START)
        self._write(Event(wall_time=time.time(), step=purge_step, session_log=restart))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """One point of each curve."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=points)))

    def close(self) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                self._off(error)

    def _write(self, event: object) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        if self._file is None:
            return
        try:
            RecordWriter(self._file).write(event.SerializeToString())  # type: ignore[attr-defined]
            self._file.flush()
        except OSError as error:
            self._off(error)

    def _off(self, error: OSError) -> None:
        self._file = None
        self._report(Message(f"TensorBoard is off: cannot write {self._folder}: {error.strerror or error}", "warning"))


def _open(folder: Path) -> BinaryIO:
    """A new file; TensorBoard reads them in the order of their names."""
    return (folder / f"events.out.tfevents.{int(time.time()):010d}.{os.getpid()}.{time.time_ns()}").open("ab")
