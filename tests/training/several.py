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
    """What `work(team)` gives in each of `size` processes: its value, the exception that it raised, or the signal that
    killed it, as a negative number."""
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


def _become(rank: int, size: int, port: int, answer: Path, work: Callable[[Any], Any]) -> None:
    from fcacli.training.team import joined

    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    try:
        with joined(torch.device("cpu")) as team:
            value: Any = work(team)
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
