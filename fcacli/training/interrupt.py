"""Ctrl-C, SIGTERM and SIGHUP while training: the first is a wish to stop at the next safe place, the second stops at once."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from fcacli.errors import NAMES, Stopped, name_of
from fcacli.events import Message, Report


class Signals:
    """Which of the watched signals has arrived."""

    def __init__(self) -> None:
        self.received: int | None = None


@contextmanager
def watch(report: Report) -> Iterator[Signals]:
    """Note these signals instead of dying of them; a second one raises KeyboardInterrupt. Ignored ones (nohup) stay so.

    Outside the main thread, where Python allows no handlers, nothing is watched.
    """
    signals = Signals()

    def note(number: int, _: FrameType | None) -> None:
        if signals.received is not None:
            raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)
        signals.received = number
        with suppress(RuntimeError):  # in the middle of another line
            report(Message(f"{name_of(number)}: finishing this step and saving; once more stops at once", "warning"))

    with handled(note):
        yield signals


@contextmanager
def watch_launched() -> Iterator[Signals]:
    """As `watch`, for a process with a launcher: that says it, passes signals on, perhaps twice, and kills if it has to.

    The death of the launcher counts as SIGTERM.
    """
    signals = _LaunchedSignals()

    def note(number: int, _: FrameType | None) -> None:
        signals.received = number

    with handled(note):
        yield signals


class _LaunchedSignals(Signals):
    def __init__(self) -> None:
        self._launcher = os.getppid()
        self._noted: int | None = None

    @property
    def received(self) -> int | None:
        return self._noted if os.getppid() == self._launcher else self._noted or signal.SIGTERM

    @received.setter
    def received(self, number: int | None) -> None:
        self._noted = number


@contextmanager
def handled(note: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have these signals handled by `note`, but for ignored ones, and where Python allows handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    watched = [number for number in NAMES if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in watched}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
