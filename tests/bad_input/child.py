"""Commands one after the other in one other process, watched: what they print, how long they take, how much memory.

The process imports everything once. One that hangs or dies is ended, named, and replaced by the next.
"""

import ctypes
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 60
HEADROOM = 4 << 30
"""Bytes of address space beyond what is taken after the imports: keeps a runaway from the machine."""


@dataclass(frozen=True)
class Watched:
    """What came of a command."""

    code: int
    """Exit status; -1 where the process hung or died."""
    out: str
    err: str
    noise: str
    """What C libraries wrote past Python, to the terminal itself."""
    failure: str
    """The traceback of what was not an exit; "" if there is none."""
    seconds: float
    memory: int
    """Bytes at the peak beyond those before."""


class Child:
    """The other process."""

    def __init__(self) -> None:
        self._process: Any = None

    def run(self, folder: Path, arguments: list[str]) -> Watched:
        """`fca ARGUMENTS` in `folder`; "adapter BASE FOLDER" loads an adapter onto a base."""
        if self._process is None:
            self._start()
        self._pipe.send((str(folder), arguments))
        started = time.monotonic()
        try:
            if self._pipe.poll(SECONDS):
                return self._pipe.recv()
            what = f"it hangs: nothing after {SECONDS} s"
        except EOFError:
            self._process.join(10)
            what = f"the process died: exit status {self._process.exitcode}"
        self.close()
        return Watched(-1, "", "", "", what, time.monotonic() - started, 0)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other,), daemon=True)
        self._process.start()
        other.close()
        assert self._pipe.poll(300) and self._pipe.recv() == "ready"


def serve(pipe: Any) -> None:
    """The loop of the other process."""
    os.environ["OMP_NUM_THREADS"] = "1"
    from fcacli.libraries import quiet_libraries

    quiet_libraries()
    import av  # noqa: F401
    import cv2
    import diffusers
    import torch
    import transformers

    from fcacli.cli.app import app  # noqa: F401

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _ = diffusers.CogVideoXTransformer3DModel, diffusers.AutoencoderKLCogVideoX, transformers.T5EncoderModel
    limit = _status("VmSize") + HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    pipe.send("ready")
    while True:
        try:
            folder, arguments = pipe.recv()
        except EOFError:
            return
        os.chdir(folder)
        with tempfile.TemporaryFile() as noise:
            kept = os.dup(1), os.dup(2)
            os.dup2(noise.fileno(), 1), os.dup2(noise.fileno(), 2)
            ctypes.CDLL(None).malloc_trim(0)  # what the command before left goes back to the system
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            before, started = _status("VmRSS"), time.monotonic()
            try:
                code, out, err, failure = _run(arguments)
            finally:
                os.dup2(kept[0], 1), os.dup2(kept[1], 2)
                os.close(kept[0]), os.close(kept[1])
            seconds, memory = time.monotonic() - started, _status("VmHWM") - before
            noise.seek(0)
            said = noise.read().decode(errors="replace")
        pipe.send(Watched(code, out, err, said, failure, seconds, memory))


def _run(arguments: list[str]) -> tuple[int, str, str, str]:
    if arguments[0] == "adapter":
        return _load_adapter(*arguments[1:])
    from typer.testing import CliRunner

    from fcacli.cli.app import app

    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "NO_COLOR": "1"})
    known = result.exception is None or isinstance(result.exception, SystemExit)
    failure = "" if known else "".join(traceback.format_exception(*result.exc_info))
    return result.exit_code, result.stdout, result.stderr, failure


_bases: dict[str, Any] = {}


def _load_adapter(base: str, folder: str) -> tuple[int, str, str, str]:
    from fcacli.errors import FcaError
    from fcacli.model.attach import attached, detach, load_adapter
    from fcacli.model.bases import load_base, resolve_base

    if base not in _bases:
        _bases[base] = load_base(resolve_base(base))
    loaded = _bases[base]
    try:
        load_adapter(loaded, folder)
        detach(loaded.transformer)
    except FcaError as error:
        if attached(loaded.transformer):
            return 1, "", error.message, "an adapter that was refused is still attached"
        return error.code, "", f"error: {error.message}", ""
    except Exception:
        return 1, "", "", traceback.format_exc()
    return 0, "", "", ""


def _status(field: str) -> int:
    """Bytes of a field of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    sys.exit(f"no {field} in /proc/self/status")
