"""Where the machines of one command meet: looked at before their launcher is, which says little and hears no signal."""

import socket
import time
from collections.abc import Callable

from fcacli.errors import FcaError
from fcacli.events import Message, Report

PATIENCE = 600.0
"""Seconds that machines wait for each other, here and in the launcher."""
BETWEEN = 1.0


def await_meeting(
    address: str, report: Report, patience: float = PATIENCE, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Return when the machine of HOST:PORT is this one, or answers.

    Raises:
        FcaError: there is no such host, or it has not answered in all that time.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    end, told = time.monotonic() + patience, False
    while True:
        try:
            places = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise FcaError(
                f"--rendezvous {address}: {host} is no host that is known here ({reason})",
                "the name or number of one of the machines, the same on all of them",
            ) from error
        if any(_is_here(family, place[0]) for family, _, _, _, place in places) or _answers(host, int(port)):
            return
        if time.monotonic() > end:
            raise FcaError(
                f"no machine has answered at --rendezvous {address} within {patience / 60:.0f} minutes",
                f"the same line on {host} too, where port {port} has to be open",
            )
        if not told:
            report(Message(f"waiting for {host} to answer on port {port}"))
            told = True
        sleep(BETWEEN)


def _is_here(family: socket.AddressFamily, number: str | int) -> bool:
    """Whether it is an address of this machine."""
    with socket.socket(family, socket.SOCK_STREAM) as here:
        try:
            here.bind((number, 0))
        except OSError:
            return False
    return True


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True
