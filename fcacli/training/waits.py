"""Waiting for clips: said when it takes much of the time, and, while it lasts, when a single wait is long."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

from fcacli.events import Message, Report
from fcacli.training.pace import WINDOW


class Waits:
    """An iterator over batches that times how long each takes to come.

    Args:
        batches: in their order.
        names: the clips of each batch, in the same order.
        workers: processes that load them.
        patience: seconds of a single wait after which its clips are named.
        share: of the time of the last `window` steps above which waiting is named.
        pause: seconds until it is named again.
        clock: in seconds.
    """

    def __init__(
        self,
        batches: Iterator[Any],
        names: Iterator[Sequence[str]],
        workers: int,
        report: Report,
        *,
        patience: float = 30.0,
        share: float = 0.2,
        window: int = WINDOW,
        pause: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._batches, self._names, self._workers, self._report = batches, names, workers, report
        self._patience, self._share, self._pause, self._clock = patience, share, pause, clock
        self._recent: deque[tuple[float, float]] = deque(maxlen=window)
        self._waited = 0.0
        self._started = False
        self._said = -float("inf")

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        clips = next(self._names, [])
        alarm = threading.Timer(self._patience, self._say_waiting, [clips])
        alarm.daemon = True
        began = self._clock()
        alarm.start()
        try:
            return next(self._batches)
        finally:
            alarm.cancel()
            self._waited += self._clock() - began

    def close(self) -> None:
        """End the workers: a process that exits while they live would wait for them for ever."""
        if (close := getattr(self._batches, "close", None)) is not None:
            close()

    def stepped(self, seconds: float) -> float:
        """A step is done that took so long in all; returns how much of it was waiting. The first starts the workers."""
        waited, self._waited = self._waited, 0.0
        if self._started:
            self._recent.append((waited, seconds))
            self._say_share()
        self._started = True
        return waited

    def _say_share(self) -> None:
        waited, seconds = (sum(column) for column in zip(*self._recent, strict=True))
        if len(self._recent) < (self._recent.maxlen or 0) or waited <= self._share * seconds:
            return
        if self._clock() - self._said >= self._pause:
            self._said = self._clock()
            self._report(
                Message(
                    f"waiting for clips took {waited / seconds:.0%} of the last {len(self._recent)} steps: more processes "
                    f"load them with --workers {max(2, 2 * self._workers)} (stop with Ctrl-C, the run goes on with it), or a "
                    "faster disk below data/",
                    "warning",
                )
            )

    def _say_waiting(self, clips: Sequence[str]) -> None:
        named = ", ".join(clips[:8]) + (", ..." if len(clips) > 8 else "")
        self._report(Message(f"waiting for {self._patience:g} s for clips {named}: a slow disk or a busy machine", "warning"))
