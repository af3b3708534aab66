"""Several processes in one test: forks of this one that meet on gloo."""

import os
import pickle
import signal
import socket
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

PATIENCE = 120
"""Seconds until a process that does not end is killed."""


def run_ranks(size: int, folder: Path, work: Callable[[Any], Any]) -> list[Any]:
    """What `work(team)` gives in each of `size` processes that have met: its value, kind and message of the exception that it
    raised, or its exit status, negative for a signal that killed it."""

    def met() -> Any:
        from fcacli.training.team import joined

        with joined(torch.device("cpu"), "the same command") as team:
            return work(team)

    return ranks_of(size, folder, met)


def ranks_of(size: int, folder: Path, work: Callable[[], Any]) -> list[Any]:
    """As `run_ranks`, with processes that have still to meet, as a launcher starts them."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pids = []
    for rank in range(size):
        if (pid := os.fork()) == 0:
            _become(rank, size, port, folder / f"{rank}.pickle", work)
        pids.append(pid)
    return [_ended(pid, folder / f"{rank}.pickle") for rank, pid in enumerate(pids)]


def _become(rank: int, size: int, port: int, answer: Path, work: Callable[[], Any]) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    _answer(answer, work)


def apart(folder: Path, work: Callable[[], Any]) -> Any:
    """What `work()` gives in a fork of this process, alone: for what would leave threads here that later forks have not."""
    folder.mkdir(parents=True, exist_ok=True)
    if (pid := os.fork()) == 0:
        _answer(folder / "apart.pickle", work)
    return _ended(pid, folder / "apart.pickle")


def _answer(answer: Path, work: Callable[[], Any]) -> None:
    try:
        value: Any = work()
    except Exception as error:
        traceback.print_exc()
        value = (type(error).__name__, getattr(error, "message", str(error)))
    answer.write_bytes(pickle.dumps(value))
    os._exit(0)


def _ended(pid: int, answer: Path) -> Any:
    end = time.monotonic() + PATIENCE
    while (found := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError(f"no end within {PATIENCE} s")
        time.sleep(0.02)
    code = os.waitstatus_to_exitcode(found[1])
    return pickle.loads(answer.read_bytes()) if code == 0 else code
