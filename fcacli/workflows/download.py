"""One file from the web: whole or not there, gone on with where an earlier try stopped, and compared with its checksum."""

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from fcacli import __version__
from fcacli.errors import FcaError
from fcacli.evaluation.weights import file_sha256
from fcacli.workspace import atomic_file

BLOCK = 1 << 18
TIMEOUT = 30.0
"""Seconds of silence after which a connection counts as dead."""


def download(url: str, target: Path, sha256: str, advance: Callable[[int, int | None], None], hint: str) -> None:
    """Fetch `url` into `target`.

    What came so far lies beside it as .<name>.part; the caller sees to it that nobody else writes there.

    Args:
        advance: is told the bytes here and in all (None where the server does not say).
        hint: of the error when the network fails.

    Raises:
        FcaError: it cannot be reached or written, or what came has another checksum; that is then removed.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _receive(url, part, advance)
    except urllib.error.HTTPError as error:
        raise FcaError(f"cannot fetch {url}: the server answers {error.code} {error.reason}", hint) from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        cause = getattr(error, "reason", None) or error
        raise FcaError(f"cannot fetch {url}: {cause}", hint) from None
    except OSError as error:
        raise FcaError(f"cannot write {part}: {error.strerror or error}", "free some space there, or --weights-dir") from None
    if (digest := file_sha256(part)) != sha256:
        part.unlink()
        raise FcaError(f"what came from {url} is not what was meant: its sha256 begins {digest[:16]}, not {sha256[:16]}", hint)
    with atomic_file(target) as temporary:
        part.replace(temporary)


def _receive(url: str, part: Path, advance: Callable[[int, int | None], None]) -> None:
    """Append to `part` what the server still has; begin anew where it cannot go on."""
    here = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": f"fca/{__version__}"} | ({"Range": f"bytes={here}-"} if here else {})
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: nothing lies behind what is here; the checksum tells whether that is right
            raise
        return
    with answer, part.open("ab" if answer.status == 206 else "wb") as file:
        here = here if answer.status == 206 else 0
        length = answer.headers.get("Content-Length")
        total = here + int(length) if length and length.isdigit() else None
        advance(here, total)
        while block := answer.read(BLOCK):
            file.write(block)
            here += len(block)
            advance(here, total)
        os.fsync(file.fileno())
    if total is not None and here < total:
        raise ConnectionError(f"the connection ended after {here} of {total} bytes")
