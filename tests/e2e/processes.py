"""Commands as real processes: started, watched, signalled and waited for."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE = 120
"""Seconds that anything may take on a loaded machine; a few on a free one."""
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"NO_COLOR": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

Fault = tuple[str, dict[str, Any]]
"""Name of a function of faults.py, and its arguments."""


class Server:
    """The other end of server.py."""

    def __init__(self, outputs: Path):
        self._outputs, self._count = outputs, 0
        words = [sys.executable, str(Path(__file__).with_name("server.py"))]
        environment = os.environ | ENVIRONMENT
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment
        )
        assert self._answer() == "ready"

    def start(self, folder: Path, *words: object, faults: tuple[Fault, ...] = ()) -> "Process":
        """Run `fca words` in `folder`."""
        self._count += 1
        output = self._outputs / str(self._count)
        request = {"words": list(map(str, words)), "folder": str(folder), "output": str(output), "environment": ENVIRONMENT}
        return Process(self._ask(request | {"faults": faults}), output, lambda pid: self._ask({"poll": pid}))

    def run(self, folder: Path, *words: object, faults: tuple[Fault, ...] = (), code: int = 0) -> "Process":
        """Run `fca words` to its end, which must have this exit status; minus the signal that killed it."""
        process = self.start(folder, *words, faults=faults)
        assert process.wait() == code, process.said
        return process

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the server has ended; its standard error says why"
        return json.loads(line)


@dataclass
class Process:
    """A command that was started."""

    pid: int
    output: Path
    poll: Callable[[int], int | None]
    code: int | None = None
    started: float = field(default_factory=time.monotonic)

    def running(self) -> bool:
        if self.code is None:
            self.code = self.poll(self.pid)
        return self.code is None

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit status; a process that does not end is killed, and that is a failure."""
        end = time.monotonic() + seconds
        while self.running():
            if time.monotonic() > end:
                self.send(signal.SIGKILL)
                raise AssertionError(f"no end within {seconds} s: {self.said}")
            time.sleep(0.02)
        assert self.code is not None
        return self.code

    def send(self, number: int) -> None:
        """A signal to this process alone."""
        if self.running():
            os.kill(self.pid, number)

    def send_all(self, number: int) -> None:
        """A signal to it and all that it started, as a terminal and most schedulers do."""
        if self.running():
            os.killpg(self.pid, number)

    @property
    def said(self) -> str:
        """All of its standard error."""
        return self._written("err")

    @property
    def printed(self) -> str:
        """All of its standard output."""
        return self._written("out")

    def _written(self, kind: str) -> str:
        path = self.output.with_name(f"{self.output.name}.{kind}")
        return path.read_text(encoding="utf-8") if path.exists() else ""  # at first it has not opened it yet

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait for something that it does; the condition's value."""
        end = time.monotonic() + PATIENCE
        while not (value := condition()):
            assert self.running(), f"ended with {self.code} before that: {self.said}"
            assert time.monotonic() < end, f"not in time: {self.said}"
            time.sleep(0.01)
        return value

    def wait_for_children(self, seconds: float = 30) -> None:
        """Until all that it started are gone, as they are to be soon after its own end."""
        end = time.monotonic() + seconds
        while found := self.children():
            assert time.monotonic() < end, f"{found} outlive their parent"
            time.sleep(0.05)

    def children(self) -> list[int]:
        """Processes of its session other than itself, workers of workers included."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdigit() else []
            except OSError:
                continue
            if fields and int(fields[3]) == self.pid and int(entry.name) != self.pid and fields[0] != "Z":
                found.append(int(entry.name))
        return found


def steps(folder: Path) -> int:
    """Lines of the log of the only run."""
    return max((len(log.read_text().splitlines()) for log in folder.glob("runs/*/log.jsonl")), default=0)


def tree(folder: Path, *but: str) -> dict[str, bytes]:
    """Every file's bytes by its path, without files and folders named in `but`, without locks, and without the videos to
    look at, whose bytes differ from one encoding to the next."""
    paths = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    shown = {short: path for short, path in paths.items() if path.suffix != ".mp4" or path.parent.name == "videos"}
    return {short.as_posix(): path.read_bytes() for short, path in shown.items() if not {*short.parts} & {*but}}


def leftovers(folder: Path) -> list[Path]:
    """Temporary files and folders."""
    return [path for path in folder.rglob(".*") if ".tmp" in path.name]
