"""Many clips stored or looked at, on several processes; a clip that cannot be used does not stop the others."""

import contextlib
import multiprocessing
import multiprocessing.resource_tracker
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_any
from pathlib import Path
from typing import Any, Literal

from fcacli.data.decode import Unreadable
from fcacli.data.journal import Outcome, Skipped, Stored, source_digest
from fcacli.data.manifest import Split
from fcacli.data.transcode import Task, Unusable, inspect, transcode
from fcacli.errors import FcaError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AHEAD = 4
"""Jobs for each process that are handed out at a time; memory does not grow with the dataset."""


@dataclass(frozen=True)
class Job:
    """A clip to work on."""

    position: int
    """Its place in the order of the reader."""
    name: str
    """Its file name without suffix."""
    split: Split
    dataset: Path
    task: Task
    work: Literal["store", "check", "measure"] = "store"
    """Store it; look at it; or look at it and see what it would take on the disk."""
    digest: str = ""
    """Of the source when it was stored; if it still has it there is nothing to do. "" if it was not."""


@dataclass(frozen=True)
class Done:
    """A job's end."""

    outcome: Outcome | None
    """None: the source is what it was."""
    digest: str
    seconds: float
    """That it took."""


def convert(job: Job) -> Done:
    """Do one job.

    Raises:
        FcaError: the clip cannot be written; a source that cannot be used is an outcome.
    """
    start = time.perf_counter()
    digest = source_digest(job.task.source)
    outcome = None if digest and digest == job.digest else _outcome(job)
    return Done(outcome, digest, time.perf_counter() - start)


def _outcome(job: Job) -> Outcome:
    target = job.dataset / job.split / "videos" / f"{job.name}.mp4"
    try:
        if job.work == "store":
            taken, size = transcode(job.task, target), target.stat().st_size
        elif job.work == "measure":
            taken, size = _measured(job, target)
        else:
            taken, size = inspect(job.task, target.name), None
    except Unusable as error:
        return Skipped(job.name, job.task.label, error.reason, error.fault, error.frames)
    except Unreadable as error:
        fault = "unreadable" if job.task.source.path.exists() else "missing"
        return Skipped(job.name, job.task.label, error.reason, fault)
    return Stored(job.split, size, taken.clip, taken.facts, taken.strip)


def _measured(job: Job, target: Path) -> tuple[Any, int]:
    """What `transcode` gives and the size of its file, which is not kept."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="fca-") as folder:
        path = Path(folder) / target.name
        return transcode(job.task, path), path.stat().st_size


def convert_all(jobs: Iterable[Job], workers: int) -> Iterator[tuple[Job, Done]]:
    """Every job with its end, in the order in which they are done; one worker works in this process.

    Leaving the loop early, or Ctrl-C, lets each process finish or undo its clip: no half-written file stays.

    Raises:
        FcaError: a clip cannot be written, or a process died.
    """
    if workers <= 1:
        for job in jobs:
            yield job, convert(job)
        return
    context = multiprocessing.get_context("spawn")  # forking a process with threads of torch or OpenCV may hang
    with _pool(workers, context) as pool:
        waiting = iter(jobs)
        running: dict[Future[Done | None], Job] = {}
        while True:
            for job in islice(waiting, workers * AHEAD - len(running)):
                with _signals_wait():  # the pool starts its workers one by one, as there is work for them
                    running[pool.submit(_convert_in_worker, job)] = job
            if not running:
                return
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                job = running.pop(future)
                if (done := future.result()) is not None:
                    yield job, done
                del future  # with its result


@contextlib.contextmanager
def _pool(workers: int, context: Any) -> Iterator[ProcessPoolExecutor]:
    told, end = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(told,))
    try:
        yield pool
    except BrokenProcessPool:
        end.close()  # of one that has died Python tells the others by SIGTERM alone, which they do not mind, and waits for them
        raise FcaError(
            "a process that converts videos died; it may have run out of memory",
            "run it again with --workers 1: it goes on where it stopped "
            "(in a script of your own, call it below `if __name__ == '__main__':`)",
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        told.close()
        end.close()


CONVERTING = threading.Lock()
"""Of a worker, while it is at a clip."""


def _start_worker(told: Connection) -> None:
    """Between clips a worker ignores Ctrl-C and the like, which its parent handles; it ends when its parent is gone, or has
    closed the other end."""
    import cv2

    cv2.setNumThreads(1)
    _on_signals(signal.SIG_IGN)
    _mask(signal.SIG_UNBLOCK)
    threading.Thread(target=_follow_parent, args=(told,), daemon=True).start()


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Ctrl-C and the like wait; processes that are started meanwhile mind none until they have chosen to."""
    multiprocessing.resource_tracker.ensure_running()  # which lets signals through when it starts
    _mask(signal.SIG_BLOCK)
    try:
        yield
    finally:
        _mask(signal.SIG_UNBLOCK)


def _mask(how: int) -> None:
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        signal.pthread_sigmask(how, SIGNALS)


def _follow_parent(told: Connection) -> None:
    if (parent := multiprocessing.parent_process()) is None:
        return
    ready = wait_for_any([parent.sentinel, told])
    with CONVERTING if parent.sentinel not in ready else contextlib.nullcontext():
        os._exit(1)


def _convert_in_worker(job: Job) -> Done | None:
    """`convert`; None if Ctrl-C or the like came, which undoes the clip at hand."""
    _on_signals(signal.default_int_handler)
    try:
        with CONVERTING:
            return convert(job)
    except KeyboardInterrupt:
        return None
    finally:
        _on_signals(signal.SIG_IGN)


def _on_signals(handler: Callable[..., Any] | int) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)
