"""Other processes of this machine that share one part of a command with the process that the user has started.

What `fca demo` does in two processes on the CPU: this one stays the main one and goes on alone afterwards. Where a whole
command is shared, workflows/launch.py starts all of its processes.
"""

import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fcacli.errors import FcaError
from fcacli.libraries import quiet_libraries
from fcacli.workflows.ranks import ACCOMPANIED

PATIENCE = 60.0
"""Seconds that they have to end in order, before they are killed."""


@contextmanager
def companions(count: int, work: Callable[..., object], *given: Any) -> Iterator[None]:
    """Meanwhile `count` other processes call `work(*given)`, with this one as the main process: `team_of` has them meet.

    Args:
        work, given: importable and picklable, for they are started afresh.

    Raises:
        FcaError: one of them cannot be started.
    """
    if not count:
        yield
        return
    import torch

    size, before, threads = count + 1, dict(os.environ), torch.get_num_threads()
    shared = max(1, (os.cpu_count() or 1) // size)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(size), ACCOMPANIED: "1"}
    address["OMP_NUM_THREADS"] = str(shared)  # for what is loaded meanwhile, see use_threads
    places = [address | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]
    context = multiprocessing.get_context("spawn")
    there = context.Semaphore(0)
    started = [context.Process(target=_accompany, args=(there, place, shared, work, given)) for place in places[1:]]
    try:
        for process in started:
            process.start()
        _await(started, there)
        os.environ.update(places[0])
        torch.set_num_threads(shared)
        yield
        for process in started:
            process.join(PATIENCE)
    finally:
        torch.set_num_threads(threads)
        for name in places[0]:
            os.environ.pop(name, None)
        os.environ.update({name: before[name] for name in places[0] if name in before})
        end(started)
        if torch.distributed.is_initialized():  # left by an error
            torch.distributed.destroy_process_group()


def _await(processes: list[Any], there: Any) -> None:
    """Until each has begun: to meet those that never come takes hours."""
    for _ in processes:
        while not there.acquire(timeout=0.2):
            if ended := [process.exitcode for process in processes if process.exitcode]:
                raise FcaError(
                    f"another process of this command cannot be started, it ended with status {ended[0]}",
                    "in a script of your own, call this below `if __name__ == '__main__':`",
                )


def end(processes: list[Any]) -> None:
    """Those that are still at work save and end."""
    for process in processes:
        if process.is_alive():
            process.terminate()
    for process in processes:
        if process.pid is not None:
            process.join(PATIENCE)
            if process.is_alive():
                process.kill()
                process.join()


def follow_parent() -> None:
    """End this process when the one that has started it is gone."""

    def follow() -> None:
        if (parent := multiprocessing.parent_process()) is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, name="parent", daemon=True).start()


def leave_signals_to_parent() -> None:
    """Ctrl-C reaches all processes of a terminal; the one that has started this one decides."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def use_threads(count: int) -> None:
    """Have this process compute in so many threads; called before bitsandbytes is imported.

    bitsandbytes has an OpenMP of its own, which reads the variable when it is loaded: with two threads in each of two
    processes on two cores a training step of the miniature takes four times as long.
    """
    os.environ["OMP_NUM_THREADS"] = str(count)
    import torch

    torch.set_num_threads(count)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _accompany(there: Any, place: dict[str, str], threads: int, work: Callable[..., object], given: tuple[Any, ...]) -> None:
    there.release()
    leave_signals_to_parent()
    follow_parent()
    os.environ.update(place)
    use_threads(threads)
    quiet_libraries()
    try:
        work(*given)
    except FcaError:
        sys.exit(1)  # the main process has it too, or notices that this one is gone
