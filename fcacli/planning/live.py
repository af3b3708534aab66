"""Bytes that tensors hold at once: of real tensors, or of fake ones, which have shapes and no memory.

A storage counts from the operation that makes it until nothing holds it any more, views and autograd included. What an
operation takes for itself while it runs is not seen; `Meter.also` adds what is known of that.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

Also = Callable[[Any, Any], int]
"""(operation, its arguments) -> bytes that it takes while it runs, besides its results."""


def nothing(operation: Any, args: Any) -> int:
    return 0


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

    def made(self, operation: Any, args: Any, results: Any) -> None:
        """An operation has run."""
        for result in results if isinstance(results, list | tuple) else (results,):
            if isinstance(result, Tensor):
                self.see(result)
        if extra := self._also(operation, args):
            self._peak = max(self._peak, self.now + extra)

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


class CountingFakes(FakeTensorMode):
    """All that is computed inside is fake, and counted."""

    def __init__(self, meter: Meter):
        super().__init__(allow_non_fake_inputs=True)
        self._meter, self._inside = meter, False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._inside:  # torch finds out a result's shape by a slower form of the operation, which has results of its own
            return super().__torch_dispatch__(func, types, args, kwargs)
        self._inside = True
        try:
            results = super().__torch_dispatch__(func, types, args, kwargs)
        finally:
            self._inside = False
        self.fake_tensor_converter.meta_converter.tensor_memo.clear()  # of new parameters; peft could not convert them
        self._meter.made(func, args, results)
        return results


class Counting(TorchDispatchMode):
    """All that is computed inside is real, and counted; the check of the fakes."""

    def __init__(self, meter: Meter):
        super().__init__()
        self._meter = meter

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        self._meter.made(func, args, results)
        return results
