"""Processes that share a card: some phases have it to themselves, so that their seconds are those of a free card."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Turns:
    """Locks on two files, for all processes that name the same folder; without a folder, none waits for another.

    Whoever comes passes the gate first, so that one that wants the card alone is not kept waiting by newcomers.
    """

    def __init__(self, folder: Path | None):
        self._folder = folder
        self._held = None

    def take(self, alone: bool) -> None:
        """Wait for the card, to have it alone or beside others."""
        self.leave()
        if self._folder is None:
            return
        held = (self._folder / "card.lock").open("w")
        with (self._folder / "gate.lock").open("w") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            fcntl.flock(held, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        self._held = held

    def leave(self) -> None:
        """Let others have it."""
        if self._held is not None:
            self._held.close()
        self._held = None

    @contextmanager
    def taken(self, alone: bool = False) -> Iterator[None]:
        self.take(alone)
        try:
            yield
        finally:
            self.leave()
