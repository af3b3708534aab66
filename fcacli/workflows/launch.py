"""Starting the processes of one `fca train` or `fca eval` on this machine, by torch's elastic launcher or `accelerate launch`.

The command that the user typed becomes their parent: it starts `python -m fcacli` with the same words once for each device,
passes signals on, waits, and says in one error why they ended if they did not succeed. When one of them dies, the launcher
ends the others. On several machines one such parent runs on each; they meet at the same address.
"""

import contextlib
import logging
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from fcacli.errors import FcaError, Interrupted, Misuse, Stopped, name_of
from fcacli.events import Message, Report
from fcacli.workflows.devices import count_gpus
from fcacli.workflows.meeting import PATIENCE, await_meeting
from fcacli.workflows.ranks import rank

MODULE = "fcacli"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Which processes do one command."""

    command: Literal["train", "eval", "plan"] = "train"
    processes: int
    """On each machine."""
    nodes: int = 1
    """Machines."""
    rendezvous: str | None = None
    """HOST:PORT where the machines meet; None on one machine."""
    accelerate_config: Path | None = None
    """File of `accelerate config`, which then says what else there is to say."""
    more: tuple[str, ...] = ()
    """Options that the file asks for; those of the command itself come after them and hold."""
    precision: Literal["bf16"] | None = None
    """The same, of one process too."""
    device: Literal["cuda", "cpu"]

    @property
    def size(self) -> int:
        """Processes on all machines."""
        return self.processes * self.nodes

    @property
    def single(self) -> bool:
        """Whether it is one process, which needs no launcher."""
        return self.size == 1

    @property
    def words(self) -> list[str]:
        """The options that ask for it."""
        count = ["--gpus", str(self.processes)]
        if self.device == "cpu":
            count = ["--gpus", "0", *(["--processes", str(self.processes)] if self.processes > 1 else [])]
        machines = ["--nodes", str(self.nodes)] if self.nodes > 1 else []
        meeting = ["--rendezvous", self.rendezvous] if self.rendezvous else []
        return [
            *count,
            *machines,
            *meeting,
            *(["--accelerate-config", str(self.accelerate_config)] * bool(self.accelerate_config)),
        ]


def layout(
    gpus: int | None,
    processes: int | None,
    nodes: int = 1,
    rendezvous: str | None = None,
    accelerate_config: Path | None = None,
    command: Literal["train", "eval", "plan"] = "train",
) -> Layout | None:
    """The processes to start; None where this one is alone, or has been started by a launcher itself.

    Raises:
        Misuse: the options contradict each other.
    """
    if rank() is not None:
        return None
    if processes is not None and gpus != 0:
        raise Misuse(
            "--processes is for the CPU; on CUDA devices there is one for each of --gpus",
            f"fca {command} --gpus 0 --processes 2",
        )
    if rendezvous is not None and not _is_address(rendezvous):
        raise Misuse(f"--rendezvous takes HOST:PORT, got {rendezvous!r}", "--nodes 2 --rendezvous node1:29500")
    if rendezvous is not None and nodes == 1:
        raise Misuse("--rendezvous is where machines meet, and this is one", f"--nodes 2 --rendezvous {rendezvous}")
    if accelerate_config is not None:
        from fcacli.workflows.accelerate_config import read_layout

        return read_layout(accelerate_config, gpus, processes, nodes, rendezvous)
    count = (processes or 1) if gpus == 0 else gpus or 1
    if count * nodes == 1:
        return None
    return Layout(command=command, processes=count, nodes=nodes, rendezvous=rendezvous, device="cpu" if gpus == 0 else "cuda")


def alone(gpus: int | None) -> Layout:
    """The layout of a training by one process."""
    return Layout(processes=1, device="cpu" if gpus == 0 else "cuda")


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 65536


def launch(words: Sequence[str], chosen: Layout, report: Report) -> None:
    """Run `fca words` in every process of the layout that belongs to this machine, to the end.

    Raises:
        Misuse: there are not so many devices here, or several machines have no place to meet.
        FcaError: a process has failed; with its own reason where it could give one, and its exit status.
    """
    if chosen.device == "cuda" and chosen.processes > (there := count_gpus()):
        again = f"fca {chosen.command} --gpus"
        hint = f"{again} {there}" if there else f"{again} 0 --processes 2   (on the CPU)"
        raise Misuse(f"--gpus {chosen.processes}, but {there or 'no'} CUDA devices are available here", hint)
    if chosen.nodes > 1 and chosen.rendezvous is None:
        raise Misuse(
            f"--nodes {chosen.nodes}: the machines have to know where to meet",
            "the same line on each of them with --rendezvous HOST:PORT, or a SLURM script by --print-launch",
        )
    if chosen.rendezvous is not None:
        await_meeting(chosen.rendezvous, report)
    if chosen.device == "cpu":
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // chosen.processes)))
    logging.disable(logging.CRITICAL)  # what matters of what the launcher logs is said here
    try:
        _Parent(report, chosen, words).run(_start([*words[:1], *chosen.more, *words[1:]], chosen))
    finally:
        logging.disable(logging.NOTSET)


def _start(words: Sequence[str], chosen: Layout) -> Callable[[], object]:
    """What starts the processes and returns when all have ended, or raises what the launcher raises.

    Several machines meet by torch's own launcher: the file that they share cannot say which of them each is.
    """
    if chosen.accelerate_config is not None and chosen.device == "cuda" and chosen.nodes == 1:
        from fcacli.workflows.accelerate_config import accelerate_launch

        return accelerate_launch(words, chosen)
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=chosen.nodes,
        max_nodes=chosen.nodes,
        nproc_per_node=chosen.processes,
        rdzv_backend="c10d",
        rdzv_endpoint=chosen.rendezvous or "localhost:0",
        rdzv_configs={"join_timeout": int(PATIENCE)},
        run_id=os.environ.get("SLURM_JOB_ID", "fca"),
        max_restarts=0,
    )
    return lambda: elastic_launch(config, sys.executable)("-m", MODULE, *words)


class _Parent:
    """Waits for the launcher, which works in a thread: there it leaves signals alone, which would end its processes unsaved."""

    def __init__(self, report: Report, chosen: Layout, words: Sequence[str]):
        import psutil

        self._report, self._chosen, self._process = report, chosen, psutil.Process()
        self._again = self._by_as_many(f"fca {chosen.command}")
        self._same = f"fca {shlex.join(words)}"
        self._received: int | None = None
        self._raised: BaseException | None = None

    def run(self, start: Callable[[], object]) -> None:
        from fcacli.training.interrupt import handled

        def work() -> None:
            try:
                start()
            except BaseException as error:
                self._raised = error

        thread = threading.Thread(target=work, name="launcher", daemon=True)  # or it would wait for other machines in the end
        with handled(self._pass_on):
            thread.start()
            thread.join()
        if self._raised is not None:
            raise self._reason(self._raised) from self._raised
        if self._received is not None:
            raise self._stopped()

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        """The first signal goes to the processes, which save and end; the next one kills them. Before there are any, where
        other machines are waited for, it ends this one."""
        if not self._process.children():
            raise Stopped(number)
        again, self._received = self._received is not None, number
        for child in self._process.children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL if again else number)
        if not again:
            what = (
                "finishing this step and saving" if self._chosen.command == "train" else "stopping, what is predicted is kept"
            )
            self._report(Message(f"{name_of(number)}: {what}; once more stops at once", "warning"))

    def _stopped(self) -> FcaError:
        return Interrupted(self._received or 0, f"stopped by {name_of(self._received or 0)}", self._same)

    def _reason(self, raised: BaseException) -> FcaError:
        """Of several failures the one that is the cause of the others: a reason given by a process, then a death."""
        failures = sorted(getattr(raised, "failures", {}).items(), key=lambda item: (item[1].timestamp, item[0]))
        if not failures:
            if isinstance(raised, FcaError):
                return raised
            if type(raised).__name__.startswith("Rendezvous"):
                return FcaError(
                    f"the {self._chosen.nodes} machines have not met at {self._chosen.rendezvous}: {_first_line(raised)}",
                    f"the same line on all of them, within {PATIENCE / 60:.0f} minutes",
                )
            return FcaError(f"the processes could not be started: {_first_line(raised)}", "fca doctor shows what is there")
        said = [about for _, failure in failures if (about := failure.error_file_data.get("fca"))]
        if self._received is not None:
            stopped = [about for about in said if about["code"] > 128 and "saved in" in about["message"]]
            return self._told(stopped[0]) if stopped else self._stopped()
        reasons = [about for about in said if not about["lost"] and about["code"] < 128]
        if reasons:
            return self._told(next((about for about in reasons if "saved in" in about["message"]), reasons[0]))
        saved = next((about["message"] for about in said if "saved in" in about["message"]), "")
        silent = [item for item in failures if not item[1].error_file_data.get("fca")]
        if silent:  # those that the launcher has ended come behind the one that has died
            place, failure = min(silent, key=lambda item: item[1].exitcode == -signal.SIGTERM)
            how = f"was killed by {failure.signal_name()}" if failure.exitcode < 0 else f"ended with status {failure.exitcode}"
            what = f"process {place} of {self._chosen.size} of this run {how}"
            what += "".join(f"; {part}" for part in saved.split("; ")[1:])
            return FcaError(what, f"{self._again}   (continues it; in fewer processes if memory ran out)")
        elsewhere = ", on another machine" if self._chosen.nodes > 1 else "; why is not known"
        return FcaError(saved or f"another process of this run has ended{elsewhere}", self._again)

    def _told(self, about: dict[str, Any]) -> FcaError:
        return FcaError(about["message"], self._by_as_many(about["hint"]), about["code"])

    def _by_as_many(self, hint: str) -> str:
        """The same, but that a command which continues does so by as many processes."""
        continuing = rf"(fca {self._chosen.command}(?: --run \S+)?)(?=$|   \()"
        return re.sub(continuing, lambda found: shlex.join([*shlex.split(found[1]), *self._chosen.words]), hint)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
