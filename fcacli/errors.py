"""The one exception that a user is meant to see, the one that a signal raises, and memory that ran out, in words."""

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class FcaError(Exception):
    """A failure with a cause the user can act on.

    Args:
        message: what went wrong and why, one or two sentences, naming the file or option.
        hint: the next command to run or the thing to change; "" if there is none.
        code: exit status; 1 for a failure, 2 for misuse of an option.
    """

    def __init__(self, message: str, hint: str = "", code: int = 1):
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


def nearest(typed: str, known: Iterable[str], otherwise: str) -> str:
    """The known name that a wrong one was meant for, to be proposed in a hint: it begins so, or is spelled nearly so."""
    names, small = list(known), typed.lower()
    begun = [name for name in names if small and name.lower().startswith(small)]
    return next(iter(begun or get_close_matches(small, names, 1)), otherwise)


class Stopped(KeyboardInterrupt):
    """SIGTERM or the like, which unwinds what runs as Ctrl-C does; its argument is the signal's number."""


NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}
"""Signals that end a command in order, as people call them."""


def name_of(number: int) -> str:
    """What people call one of these signals."""
    return NAMES[signal.Signals(number)]


class Interrupted(FcaError):
    """A signal stopped the run after it was saved; exits with 128 + the signal's number, as shells have it."""

    def __init__(self, received: int, message: str, hint: str):
        super().__init__(message, hint, code=128 + received)


class Misuse(FcaError):
    """An option or argument that cannot be right whatever the files hold; exits with 2."""

    def __init__(self, message: str, hint: str = ""):
        super().__init__(message, hint, code=2)


class ProcessLost(FcaError):
    """Another process of the same run has ended; it, or its launcher, knows why."""


class OutOfMemory(FcaError):
    """Main memory or a device's ran out; says in which phase."""

    def __init__(self, phase: str, where: str, cause: str, hint: str):
        super().__init__(f"out of {where} in {phase}: {cause}", hint)
        self.phase, self.where, self.cause = phase, where, cause


@contextmanager
def naming_memory(phase: str, hint: str) -> Iterator[None]:
    """Where memory runs out inside, say so: in which phase, and what to change for it; also a decorator.

    A phase inside a phase is named after it, and the outer hint counts: it knows the command.

    Raises:
        OutOfMemory: instead of what Python, torch on the CPU or CUDA raise.
    """
    try:
        yield
    except OutOfMemory as inner:
        raise OutOfMemory(f"{phase}, {inner.phase}", inner.where, inner.cause, hint) from inner
    except (MemoryError, RuntimeError, OSError) as error:
        if not (where := memory_of(error)):
            raise
        cause = str(error).strip() or "no more can be had"
        raise OutOfMemory(phase, where, cause.splitlines()[0][:200], hint) from error


ALLOCATION = ("can't allocate memory", "cannot allocate memory", "out of memory", "bad_alloc", "alloc_failed")
"""What torch's allocators, C++, CUDA's libraries and the system say, in lower case."""


def memory_of(error: Exception) -> str:
    """Which memory an exception says is full; "" if it says something else."""
    text = str(error).lower()
    if type(error).__name__ == "OutOfMemoryError" or ("cuda" in text and any(words in text for words in ALLOCATION)):
        return "GPU memory"
    if isinstance(error, MemoryError) or any(words in text for words in ALLOCATION):
        return "memory"
    return ""
