"""The border between the commands and the shell: what an exception looks like, and which exit status it gives."""

import functools
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import ParamSpec, TypeVar

import typer

from fcacli.cli import console
from fcacli.errors import FcaError, Stopped
from fcacli.libraries import debugging, quiet_libraries
from fcacli.workflows.ranks import is_main, tell_launcher

P = ParamSpec("P")
R = TypeVar("R")

INTERRUPTED = 130


def command(body: Callable[P, R]) -> Callable[P, R]:
    """Wrap the body of a command: known errors become one block, signals one line, the unexpected one line and a way on.

    With FCA_DEBUG=1 the traceback is shown as well.
    """

    @functools.wraps(body)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        quiet_libraries()
        try:
            with _stopped_by_signals():
                return body(*args, **kwargs)
        except Stopped as stop:
            number = signal.Signals(stop.args[0])
            _say_stopped(f"stopped by {number.name}", 128 + number)
            raise typer.Exit(128 + number) from None
        except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            _say_stopped("interrupted", INTERRUPTED)
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if debugging():
                import traceback

                traceback.print_exc()
            known = _with_a_way_on(error if isinstance(error, FcaError) else _name(error))
            if not tell_launcher(known):
                console.print_error(known)
            raise typer.Exit(known.code) from None

    return guarded


def _say_stopped(what: str, code: int) -> None:
    """In one line; of several processes the one that has started them says it."""
    text = f"{what}; run the same command to continue"
    if not tell_launcher(FcaError(text, code=code)) and is_main():
        console.print_note(text)


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind the command, so that nothing half-written stays; ignored ones (nohup) stay ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: FrameType | None) -> None:
        raise Stopped(number)

    watched = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in watched}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _with_a_way_on(error: FcaError) -> FcaError:
    """The same with a next command, where who raised it knew none."""
    if error.hint or error.code > 128:
        return error
    words = sys.argv[1:]
    hint = f"fca {' '.join([*words[:1], '--help'])}" if error.code == 2 else f"mend that, then again: fca {shlex.join(words)}"
    return FcaError(error.message, hint, error.code)


def _name(error: Exception) -> FcaError:
    """An unexpected exception as one line, with what helps: less memory, or the traceback."""
    if type(error).__name__ == "OutOfMemoryError":
        return FcaError(
            f"out of GPU memory: {_first_line(error)}",
            "a smaller --batch-size, --size, --frames or --adapter-width in train; --offload model or sequential in predict",
        )
    if isinstance(error, MemoryError):
        return FcaError("out of memory", "a smaller --batch-size, or fewer --workers")
    if isinstance(error, OSError) and error.strerror:  # of the file system: its reason says all
        return FcaError(": ".join([*(str(name) for name in (error.filename,) if name), error.strerror]))
    return FcaError(
        f"unexpected {type(error).__name__}: {_first_line(error)}",
        f"FCA_DEBUG=1 fca {shlex.join(sys.argv[1:])}   (shows the traceback; please report it)",
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"
