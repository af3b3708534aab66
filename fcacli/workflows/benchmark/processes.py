"""Jobs of one command shared out among processes of this machine, what they report told in one place."""

import multiprocessing
import os
import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fcacli.errors import FcaError, Interrupted
from fcacli.events import Event, Report, silent
from fcacli.libraries import quiet_libraries
from fcacli.workflows.companions import end, follow_parent, leave_signals_to_parent, use_threads

T = TypeVar("T")


class OutOfTime(Exception):
    """The time that the user gave is up; everything is saved."""


@dataclass(frozen=True)
class Done:
    """Said by a process: one job is finished."""


@dataclass(frozen=True)
class Ended:
    """Said by a process that takes no more jobs: why."""

    time_up: bool = False
    failure: tuple[str, str, int] | None = None
    """Message, hint and code of an FcaError."""


def share_out(
    work: Callable[[T, Report], None], items: Sequence[T], processes: int, done: Callable[[], None], report: Report = silent
) -> None:
    """Call `work(item, report)` for every item, in their order, `processes` at a time; `done` after each.

    With one process, in this one. `work` and the items must be importable: others are started afresh.

    Raises:
        OutOfTime: in one of them.
        FcaError: what one of them raised; the others are ended, as by SIGTERM.
    """
    if processes == 1 or len(items) < 2:
        for item in items:
            work(item, report)
            done()
        return
    processes = min(processes, len(items))
    context = multiprocessing.get_context("spawn")
    events: Any = context.Queue()
    taken = context.Value("i", 0)
    threads = max(1, (os.cpu_count() or 1) // processes)
    arguments = (work, list(items), taken, events, threads)
    started = [context.Process(target=_serve, args=arguments) for _ in range(processes)]
    time_up = False
    try:
        for process in started:
            process.start()
        waited_for = len(started)
        while waited_for:
            said = _next(events, started)
            if isinstance(said, Done):
                done()
            elif isinstance(said, Ended):
                waited_for -= 1
                time_up = time_up or said.time_up
                if said.failure is not None:
                    message, hint, code = said.failure
                    raise FcaError(message, hint, code)
            else:
                report(said)
    finally:
        end(started)
    if time_up:
        raise OutOfTime


def _next(events: Any, processes: Sequence[Any]) -> Event | Done | Ended:
    """What is said next.

    Raises:
        FcaError: a process died without a word.
    """
    while True:
        try:
            return events.get(timeout=0.5)
        except queue.Empty:
            if dead := [process for process in processes if process.exitcode not in (None, 0)]:
                hint = "the same line goes on where it was; with fewer --processes it needs less memory"
                raise FcaError(f"a process of this command ended with status {dead[0].exitcode}", hint) from None


def _serve(work: Callable[[Any, Report], None], items: list[Any], taken: Any, events: Any, threads: int) -> None:
    """Take the next item until there is none; the SIGTERM of the process that shares out lets training save."""
    leave_signals_to_parent()
    follow_parent()
    use_threads(threads)
    quiet_libraries()
    try:
        while True:
            with taken.get_lock():
                index, taken.value = taken.value, taken.value + 1
            if index >= len(items):
                break
            work(items[index], events.put)
            events.put(Done())
        events.put(Ended())
    except OutOfTime:
        events.put(Ended(time_up=True))
    except (Interrupted, KeyboardInterrupt):
        return  # the process that shares out sent the signal
    except FcaError as error:
        events.put(Ended(failure=(error.message, error.hint, error.code)))
    except Exception as error:
        events.put(Ended(failure=(f"unexpected {type(error).__name__}: {error}", "--processes 1 shows where", 1)))
