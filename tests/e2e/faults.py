"""What can go wrong with a process, armed inside it before it runs its command."""

import importlib
import io
import os
import resource
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def kill(at: str, call: int = 1, where: str = "", after: bool = False, number: int = signal.SIGKILL) -> None:
    """The process sends itself a signal before, or right `after`, a call; see `_at`."""
    _at(at, call, where, after, lambda: os.kill(os.getpid(), number))


def fill_disk(at: str, folder: str, call: int = 1, where: str = "") -> None:
    """No byte is left free on the disk of `folder` before a call; see `_at`. The file "filler" there took them."""

    def fill() -> None:
        size = 1 << 20
        with open(os.path.join(folder, "filler"), "wb", buffering=0) as file:
            while size:
                try:
                    file.write(bytes(size))
                except OSError:
                    size //= 2

    _at(at, call, where, False, fill)


def deaf(at: str, call: int = 1) -> None:
    """Nobody reads stderr any more before a call, as after Ctrl-C of a `| tee`; see `_at`."""

    def close() -> None:
        read, write = os.pipe()
        os.close(read)
        os.dup2(write, 2)

    _at(at, call, "", False, close)


def remove(at: str, pattern: str, call: int = 1) -> None:
    """Files vanish from the current folder before a call; see `_at`."""

    def vanish() -> None:
        for path in Path.cwd().glob(pattern):
            path.unlink()

    _at(at, call, "", False, vanish)


def _at(at: str, call: int, where: str, after: bool, act: Callable[[], None]) -> None:
    """Act at the `call`-th call of `at` ("module:name") of which a path or text among the arguments contains `where`."""
    owner, name = _place(at)
    inner, seen = getattr(owner, name), 0

    def wrapped(*arguments: Any, **named: Any) -> Any:
        nonlocal seen
        meant = not where or any(where in text for text in map(_text, (*arguments, *named.values())))
        seen += meant
        now = meant and seen == call
        if now and not after:
            act()
        result = inner(*arguments, **named)
        if now and after:
            act()
        return result

    setattr(owner, name, wrapped)


def _text(argument: Any) -> str:
    """A text, a path, or the path of an open file."""
    argument = getattr(argument, "name", argument) if isinstance(argument, io.IOBase) else argument
    return str(argument) if isinstance(argument, str | Path) else ""


def put(at: str, value: Any) -> None:
    """Set a constant."""
    owner, name = _place(at)
    assert hasattr(owner, name)
    setattr(owner, name, value)


def slow(at: str, seconds: float, call: int = 0, done: bool = False) -> None:
    """Every call of `at` takes so much longer; or only the `call`-th, which prints "waiting". `done`: it waits at its end."""
    owner, name = _place(at)
    inner, seen = getattr(owner, name), 0

    def wrapped(*arguments: Any, **named: Any) -> Any:
        nonlocal seen
        seen += 1
        value = inner(*arguments, **named) if done else None
        if call == seen:
            print("waiting", flush=True)
        if call in (0, seen):
            time.sleep(seconds)
        return value if done else inner(*arguments, **named)

    setattr(owner, name, wrapped)


def ignore(number: int) -> None:
    """As nohup does for SIGHUP."""
    signal.signal(number, signal.SIG_IGN)


def _place(at: str) -> tuple[Any, str]:
    module, names = at.split(":")
    *path, name = names.split(".")
    owner = importlib.import_module(module)
    for part in path:
        owner = getattr(owner, part)
    return owner, name


def largest_file(size: int) -> None:
    """No file may grow beyond `size` bytes: writing further fails, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def no_privileges() -> None:
    """The superuser loses the right to write where permissions forbid it, in this process and those it starts."""
    import ctypes

    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    override = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    for capability in override:
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
    header, data = struct.pack("Ii", 0x20080522, 0), ctypes.create_string_buffer(24)
    assert libc.capget(header, data) == 0
    words = list(struct.unpack("6I", data.raw))
    for place in (0, 1, 2):  # effective, permitted, inheritable
        words[place] &= ~sum(1 << capability for capability in override)
    assert libc.capset(header, struct.pack("6I", *words)) == 0, os.strerror(ctypes.get_errno())


def no_network(note: str) -> None:
    """Any look-up or connection fails and leaves a line in the file `note`; local sockets of processes are free."""

    def refuse(*arguments: Any, **_: Any) -> Any:
        with open(note, "a") as file:
            file.write(f"{arguments!r}\n")
        raise OSError("this process may not use the network")

    def connect(self: socket.socket, address: Any) -> None:
        return inner(self, address) if self.family == socket.AF_UNIX else refuse(address)

    inner = socket.socket.connect
    socket.socket.connect = connect  # type: ignore[assignment, method-assign]
    socket.socket.connect_ex = connect  # type: ignore[assignment, method-assign]
    socket.getaddrinfo = socket.gethostbyname = refuse
