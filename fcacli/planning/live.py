"""Bytes that tensors hold at once: of real tensors, or of fake ones, which have shapes and no memory.

A storage counts from the operation that makes it until nothing holds it any more, views and autograd included. What an
operation takes for itself while it runs is not seen; `Meter.also` adds what is known of that.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Also = Callable[[Any, Any], int]
"""(operation, its arguments) -> bytes that it takes while it runs, besides its results."""


def nothing(operation: Any, args: Any) -> int:
    return 0


class Apart:
    """Of a stretch of work."""

    peak = 0
    """Bytes, all that was there included; when it has ended."""


class Meter:
    """Adds up live storages.

    Args:
        grain: storages are rounded up to a multiple of this, as the allocator does it (CUDA: 512).
        also: what operations take for themselves.
    """

    def __init__(self, grain: int = 1, also: Also = nothing):
        self.now = 0
        """Bytes."""
        self.marks: dict[str, int] = {}
        """Peaks by name, see `mark`."""
        self._peak = 0
        self._grain, self._also = grain, also
        self._living: dict[int, weakref.ref[Any]] = {}

    def mark(self, name: str) -> None:
        """The peak since the last mark is kept under that name, the largest if it is there already."""
        self.marks[name] = max(self.marks.get(name, 0), self._peak)
        self._peak = self.now

    def restart(self) -> None:
        """Forget the peak so far."""
        self._peak = self.now

    def passing(self, size: int) -> None:
        """So many bytes more have been there for a while."""
        self._peak = max(self._peak, self.now + size)

    @contextmanager
    def apart(self) -> Iterator[Apart]:
        """The peak of what is done inside, which counts outside too."""
        before, self._peak = self._peak, self.now
        apart = Apart()
        yield apart
        apart.peak = self._peak
        self._peak = max(before, self._peak)

    def made(self, operation: Any, args: Any, results: Any) -> None:
        """An operation has run."""
        for result in results if isinstance(results, list | tuple) else (results,):
            if isinstance(result, Tensor):
                self.see(result)
        if extra := self._also(operation, args):
            self.passing(extra)

    def see_all(self, tensors: Iterable[Tensor]) -> None:
        """Those that were there before."""
        for tensor in tensors:
            self.see(tensor)

    def see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._living:
            return
        size = -(-storage.nbytes() // self._grain) * self._grain

        def gone(_: object) -> None:
            del self._living[key]
            self.now -= size

        self._living[key] = weakref.ref(storage, gone)
        self.now += size
        self._peak = max(self._peak, self.now)


class Counting(TorchDispatchMode):
    """All that is computed inside is real, and counted; the check of the fakes."""

    def __init__(self, meter: Meter):
        super().__init__()
        self._meter = meter

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        self._meter.made(func, args, results)
        return results
