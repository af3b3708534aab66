"""The border between the commands and the shell: what an exception looks like, and which exit status it gives."""

import functools
import logging
import os
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import ParamSpec, TypeVar

import typer

from fcacli.cli import console
from fcacli.errors import FcaError, Stopped
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
            if console.debugging():
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


def quiet_libraries() -> None:
    """Silence the libraries' own bars, banners and warnings; with FCA_DEBUG=1 they keep talking.

    Environment variables, because the libraries are imported later and in worker processes; what the user set stays.
    Code from a model repository is never run, and nothing is told to anyone about the use of this program. OpenMP threads
    wait awake for a moment, then asleep: ones that spin on make torch 40 times slower as soon as another program uses one of
    the cores; ones that sleep at once cost a training step of the miniature on two quiet cores 38 % more.
    """
    os.environ["DIFFUSERS_DISABLE_REMOTE_CODE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in NO_TELEMETRY:
        os.environ.setdefault(name, "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    if console.debugging():
        return
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.simplefilter("ignore")
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)


NO_TELEMETRY = ("HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY", "DO_NOT_TRACK", "HF_HUB_DISABLE_UPDATE_CHECK")
"""Variables by which the hub's libraries are told to report nothing."""
QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "DIFFUSERS_VERBOSITY": "error",
    "PYTHONWARNINGS": "ignore",
    "OPENCV_LOG_LEVEL": "OFF",
    "TORCH_CPP_LOG_LEVEL": "FATAL",
}
"""Variables that the libraries read when they are imported."""
NOISY = ("accelerate", "bitsandbytes", "huggingface_hub", "peft", "torch")
"""Loggers whose warnings are about the installation, not about what the user asked for."""
