"""The one output sink: talk (progress, messages, errors) goes to stderr, data to stdout.

Whatever came from a file or an argument is printed harmlessly: markup as it stands, control characters as \\u001b and so on.
Rich is imported when something is rendered, so that `fca --help` pays only for typer.
"""

import dataclasses
import json
import math
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from fcacli.errors import FcaError
from fcacli.events import Event, Message, Progress, Report

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

Talk = Literal["quiet", "normal", "verbose"]
HOSTILE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What would command the terminal, turn the text around or not encode: all controls but tab and newline."""


@contextmanager
def talking(verbose: bool = False, quiet: bool = False) -> Iterator[Report]:
    """Yield the report that a workflow talks through; bars and lines are finished when the block ends.

    Where nobody reads it any more (Ctrl-C ends a `| tee`, too), the workflow goes on without a word.
    """
    talk: Talk = "quiet" if quiet else "verbose" if verbose else "normal"
    console = _stderr()
    renderer: Renderer = Bars(console) if console.is_terminal and talk != "quiet" else Lines(console)
    heard = True

    def report(event: Event) -> None:
        nonlocal heard
        try:
            if heard:
                show(event)
        except OSError:
            heard = False

    def show(event: Event) -> None:
        if isinstance(event, Progress):
            if talk != "quiet":
                renderer.progress(event)
        elif event.level == "warning" or talk == "verbose" or (talk == "normal" and event.level == "note"):
            renderer.message(event)

    try:
        yield report
    finally:
        with suppress(OSError):
            renderer.close()


def print_text(text: str) -> None:
    """Print a line of data for people."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    sys.stdout.write(harmless(text).encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stdout.flush()


def harmless(text: str) -> str:
    """The text with characters of HOSTILE as JSON would escape them."""
    return HOSTILE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def print_json(value: Any) -> None:
    """Print one JSON document; dataclasses, paths and numbers without a JSON form are turned into what has one."""
    print_text(json.dumps(to_json(value), indent=2, ensure_ascii=False, allow_nan=False))


def to_json(value: Any) -> Any:
    """The JSON form of a result: dataclasses as objects, paths as text, infinity and NaN as the text "inf", "nan"."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return str(value) if isinstance(value, Path) else value


def print_error(error: FcaError) -> None:
    """One clear block on stderr: what went wrong and why, and what to try; a signal is no error."""
    if error.code > 128:
        _say("", error.message, "bold")
    else:
        _say("error: ", error.message, "bold red")
    if error.hint:
        _say("  try: ", error.hint.replace("\n", "\n       "), "bold")


def print_note(text: str) -> None:
    """One line of talk on stderr."""
    _say("", text, "")


def _say(label: str, text: str, style: str) -> None:
    from rich.text import Text

    with suppress(OSError):
        _stderr().print(Text.assemble((label, style), harmless(text)), soft_wrap=True)


def _stderr() -> "Console":
    from rich.console import Console

    class Talking(Console):
        def on_broken_pipe(self) -> None:
            """Rich would end the process."""
            raise BrokenPipeError

    return Talking(stderr=True, highlight=False)


class Renderer(Protocol):
    """How events look."""

    def progress(self, event: Progress) -> None: ...

    def message(self, event: Message) -> None: ...

    def close(self) -> None: ...


class Bars:
    """One bar per phase, for a terminal; a phase that starts anew takes its old bar."""

    def __init__(self, console: "Console"):
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bars = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[info]}", style="dim", markup=False),
            console=console,
            redirect_stdout=False,
        )
        self._tasks: dict[str, TaskID] = {}
        self._finished: set[str] = set()
        self._bars.start()

    def progress(self, event: Progress) -> None:
        if event.phase in self._finished and event.done != event.total:
            self._bars.remove_task(self._tasks.pop(event.phase))
            self._finished.discard(event.phase)
        if event.phase not in self._tasks:
            self._tasks[event.phase] = self._bars.add_task(event.phase, total=event.total, completed=event.done, info="")
        self._bars.update(self._tasks[event.phase], completed=event.done, total=event.total, info=_info(event))
        if event.done == event.total:
            self._finished.add(event.phase)

    def message(self, event: Message) -> None:
        from rich.text import Text

        self._bars.console.print(_message(event, Text.assemble), soft_wrap=True)

    def close(self) -> None:
        self._bars.stop()


class Lines:
    """A plain line at the start of a phase, at every tenth of it or every minute, and at its end."""

    every_seconds = 60.0
    least_seconds = 2.0

    def __init__(self, console: "Console"):
        self._console = console
        self._phases: dict[str, _Phase] = {}

    def progress(self, event: Progress) -> None:
        now = time.monotonic()
        phase = self._phases.get(event.phase)
        if phase is None:
            self._phases[event.phase] = _Phase(now, event.done, now, _tenth(event))
            self._line(event, "")
        elif event.done == event.total:
            del self._phases[event.phase]
            self._line(event, f"in {_clock(now - phase.started)}")
            return
        elif now - phase.last >= (self.every_seconds if _tenth(event) == phase.tenth else self.least_seconds):
            phase.last, phase.tenth = now, _tenth(event)
            self._line(event, _time_left(event, phase, now))
        if event.done == event.total:
            del self._phases[event.phase]

    def message(self, event: Message) -> None:
        from rich.text import Text

        self._console.print(_message(event, Text.assemble), soft_wrap=True)

    def close(self) -> None:
        pass

    def _line(self, event: Progress, when: str) -> None:
        amount = str(event.done) if event.total is None else f"{event.done}/{event.total}"
        parts = [f"{event.phase}: {amount}", _info(event), when]
        self._console.print(harmless("  ".join(part for part in parts if part)), soft_wrap=True, markup=False)


@dataclasses.dataclass
class _Phase:
    started: float
    """Seconds of the monotonic clock."""
    first: int
    """Units done when it opened."""
    last: float
    """When its last line was printed."""
    tenth: int


def _tenth(event: Progress) -> int:
    return event.done * 10 // event.total if event.total else 0


def _info(event: Progress) -> str:
    return "  ".join(f"{name} {value}" for name, value in event.info.items())


def _time_left(event: Progress, phase: _Phase, now: float) -> str:
    done = event.done - phase.first
    if event.total is None or done <= 0:
        return ""
    return f"{_clock((now - phase.started) / done * (event.total - event.done))} left"


def _clock(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _message(event: Message, assemble: Any) -> Any:
    styles = {"warning": "yellow", "detail": "dim", "note": ""}
    label = ("warning: ", "bold yellow") if event.level == "warning" else ""
    return assemble(label, (harmless(event.text), styles[event.level]))
