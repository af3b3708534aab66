"""Many clips to their stored form, on several processes; a clip that cannot be read does not stop the others."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from fcacli.data.decode import Unreadable
from fcacli.data.journal import Outcome, Skipped, Stored
from fcacli.data.manifest import Split
from fcacli.data.transcode import TooShort, transcode
from fcacli.errors import FcaError

AHEAD = 4
"""Jobs for each process that are handed out at a time; memory does not grow with the dataset."""


@dataclass(frozen=True)
class Job:
    """A clip to convert."""

    key: str
    """Its key in the journal."""
    name: str
    """Its file name without suffix."""
    split: Split
    dataset: Path
    video: Path
    text: str
    source: str
    fps: float | None
    min_frames: int


def convert(job: Job) -> Outcome:
    """Store one clip.

    Raises:
        FcaError: it cannot be written; a source that cannot be read is an outcome.
    """
    target = job.dataset / job.split / "videos" / f"{job.name}.mp4"
    try:
        clip = transcode(job.video, target, text=job.text, source=job.source, fps=job.fps, min_frames=job.min_frames)
    except TooShort as error:
        return Skipped(job.name, job.source, error.reason, error.frames)
    except Unreadable as error:
        return Skipped(job.name, job.source, error.reason)
    return Stored(job.split, target.stat().st_size, clip)


def convert_all(jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, Outcome]]:
    """Every job with its outcome, in the order in which they are done; one worker works in this process.

    Leaving the loop early, or Ctrl-C, lets each process finish or undo its clip: no half-written file stays.

    Raises:
        FcaError: a clip cannot be written, or a process died.
    """
    if min(workers, len(jobs)) <= 1:
        for job in jobs:
            yield job, convert(job)
        return
    context = multiprocessing.get_context("spawn")  # forking a process with threads of torch or OpenCV may hang
    with _pool(ProcessPoolExecutor(min(workers, len(jobs)), context, initializer=_start_worker)) as pool:
        waiting = iter(jobs)
        running: dict[Future[Outcome | None], Job] = {}
        while True:
            for job in islice(waiting, workers * AHEAD - len(running)):
                running[pool.submit(_convert_in_worker, job)] = job
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                job = running.pop(future)
                if (outcome := future.result()) is not None:
                    yield job, outcome


@contextlib.contextmanager
def _pool(pool: ProcessPoolExecutor) -> Iterator[ProcessPoolExecutor]:
    try:
        yield pool
    except BrokenProcessPool:
        raise FcaError(
            "a process that converts videos died; it may have run out of memory",
            "run it again with --workers 1: it goes on where it stopped "
            "(in a script of your own, call it below `if __name__ == '__main__':`)",
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Between clips a worker ignores Ctrl-C and the like, which its parent handles; it ends when its parent is gone."""
    import cv2

    cv2.setNumThreads(1)
    _on_signals(signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _convert_in_worker(job: Job) -> Outcome | None:
    """`convert`; None if Ctrl-C or the like came, which undoes the clip at hand."""
    _on_signals(signal.default_int_handler)
    try:
        return convert(job)
    except KeyboardInterrupt:
        return None
    finally:
        _on_signals(signal.SIG_IGN)


def _on_signals(handler: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)
