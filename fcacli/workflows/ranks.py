"""What a launcher (torchrun, accelerate launch, `fca train` itself) tells each of its processes, and what these tell it.

A launcher sets RANK, WORLD_SIZE and LOCAL_RANK, and names a file in TORCHELASTIC_ERROR_FILE: a process that fails writes its
reason there, so that one error is shown, by the launcher, and not one of each process.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcacli.errors import FcaError, Misuse, ProcessLost

if TYPE_CHECKING:
    from fcacli.training.team import Team

SHARDING = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM")
"""What `accelerate launch` sets where a model is to be spread over processes."""

ACCOMPANIED = "FCA_ACCOMPANIED"
"""Set where there is no launcher: the main process is the user's own, the others are its children; see companions.py."""


@dataclass(frozen=True)
class Rank:
    """The place of this process among those that do one command together."""

    number: int
    size: int
    local: int
    """Its place among those of this machine; the number of its CUDA device."""


def rank() -> Rank | None:
    """Of this process; None if it is the only one."""
    number, size, local = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if not (number.isdecimal() and size.isdecimal() and int(size) > 1):
        return None
    return Rank(int(number), int(size), int(local) if local.isdecimal() else int(number))


def here() -> int:
    """Processes on this machine that do one command."""
    count = os.environ.get("LOCAL_WORLD_SIZE", "")
    return int(count) if rank() is not None and count.isdecimal() and int(count) else 1


def require_whole_models() -> None:
    """
    Raises:
        Misuse: the launcher wants the model spread over the processes.
    """
    if asked := [name for name in SHARDING if os.environ.get(name, "").lower() in ("true", "1")]:
        raise Misuse(
            f"{asked[0]} is set: fca trains with the same weights in every process, and does not spread them",
            "accelerate launch --multi_gpu, or fca train --gpus N (with --shard-base the frozen base is spread)",
        )


def team_of(device: str | None, again: str) -> "AbstractContextManager[Team]":
    """The processes that a launcher has started for a command, met, or this one alone.

    Args:
        device: of this process; None for the CPU.
        again: the command that goes on where this one ends.

    Raises:
        Misuse: the launcher wants the model spread over the processes.
        FcaError: they cannot meet.
    """
    import torch

    from fcacli.training.team import ALONE, joined

    if rank() is None:
        return nullcontext(ALONE)
    require_whole_models()
    launched = ACCOMPANIED not in os.environ
    if launched:
        _end_with_launcher()
    return joined(torch.device(device or "cpu"), again, launched)


def _end_with_launcher() -> None:
    """Have this process end in order, as by SIGTERM, when the one that has started it is gone."""
    launcher = os.getppid()

    def follow() -> None:
        while os.getppid() == launcher:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, name="launcher", daemon=True).start()


def is_main() -> bool:
    """Whether this process prints results."""
    here = rank()
    return here is None or here.number == 0


def tell_launcher(error: FcaError) -> bool:
    """Write why this process ends to where its launcher looks; False if there is no launcher that shows it."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if rank() is None or not path:
        return False
    said = {"message": error.message, "hint": error.hint, "code": error.code, "lost": isinstance(error, ProcessLost)}
    told = " ".join([error.message, *([f"Try: {error.hint}"] if error.hint else [])])
    about: dict[str, Any] = {"message": told, "extraInfo": {"timestamp": str(int(time.time())), "py_callstack": ""}}
    try:
        Path(path).write_text(json.dumps({"message": about, "fca": said}), encoding="utf-8")
    except OSError:
        return False
    return True


@contextmanager
def end_among_others() -> Iterator[None]:
    """A process of several ends at once, after what Python has been told to do at the end: the threads of what joined them may
    wait for others that are gone, and the rest of Python's end would abort them, with words about it, or wait for them."""
    import atexit
    import sys

    try:
        yield
    except SystemExit as end:
        if rank() is None or not isinstance(end.code, int | None):
            raise
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code or 0)
