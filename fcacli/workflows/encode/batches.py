"""Batches for the encoders: the next ones decoded by threads meanwhile, smaller ones where memory ends."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch

from fcacli.data.eightbit import Packed, error
from fcacli.errors import FcaError, OutOfMemory, naming_memory
from fcacli.events import Message, Progress, Report

T = TypeVar("T")
R = TypeVar("R")

SIZES = {
    "cpu": {"captions": 4, "videos": 1, "images": 4},
    "cuda": {"captions": 16, "videos": 4, "images": 16},
}
"""Clips or captions in a batch; the last one is filled up, so that what a clip becomes does not depend on its neighbours'
number."""
AHEAD = 16
"""Clips decoded beforehand: 16 frames of 256x256 are 3 MB each."""
UNUSUAL = 0.02
"""Error of a packed entry above which it is a warning."""


def batches_of(device: str) -> dict[str, int]:
    return SIZES.get(device, SIZES["cpu"])


def ahead(load: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R | FcaError]]:
    """Each item with what `load` gives for it, or its error, in order; threads are some items ahead."""
    running: deque[tuple[T, Future[Any]]] = deque()
    pool = ThreadPoolExecutor(min(AHEAD, os.cpu_count() or 1), thread_name_prefix="decode")
    try:
        for item in items:
            running.append((item, pool.submit(load, item)))
            if len(running) > AHEAD:
                yield _loaded(running.popleft())
        while running:
            yield _loaded(running.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _loaded(running: tuple[T, Future[Any]]) -> tuple[T, Any]:
    item, future = running
    try:
        return item, future.result()
    except FcaError as fault:
        return item, fault


def tracked(items: Iterable[T], size: int, missing: int, total: int, phase: str, report: Report) -> Iterator[list[T]]:
    """Batches of `size` of the `missing` items, with progress; items may turn out to be fewer. Silent where none is."""
    if not missing:
        return
    done = total - missing
    report(Progress(phase, done, total))
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
        done += len(batch)
        if done < total:
            report(Progress(phase, done, total))
    report(Progress(phase, total, total))


def in_batches(compute: Callable[[Any], Any], items: Any, phase: str, hint: str) -> Any:
    """compute(items), in two halves where memory does not suffice for all; a tuple or dictionary of tensors (n, ...).

    Raises:
        OutOfMemory: not even one fits.
    """
    try:
        with naming_memory(phase, hint):
            return compute(items)
    except OutOfMemory:
        if len(items) == 1:
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(items) // 2
    halves = [in_batches(compute, part, phase, hint) for part in (items[:middle], items[middle:])]
    if isinstance(halves[0], Mapping):
        return {name: torch.cat([half[name] for half in halves]) for name in halves[0]}
    return tuple(torch.cat(parts) for parts in zip(*halves, strict=True))


class Error:
    """What packing has cost, over all entries of a kind."""

    def __init__(self, what: str):
        self._what = what
        self._errors: list[np.ndarray] = []

    def add(self, packed: Mapping[str, torch.Tensor], exact: torch.Tensor) -> None:
        self._errors.append(error(packed, exact).cpu().numpy())

    def say(self, report: Report) -> None:
        """Mean and worst; a warning where that is more than the encoders that were measured give."""
        if not self._errors:
            return
        errors = np.concatenate(self._errors)
        text = f"{self._what} in 8 bits: relative RMS error {errors.mean():.2%}, at worst {errors.max():.2%}"
        report(Message(text, "warning" if errors.max() > UNUSUAL else "note"))


def packed_entries(
    name: str, exact: torch.Tensor, pack: Callable[[torch.Tensor], Packed], error: Error
) -> list[dict[str, torch.Tensor]]:
    """Entries of a batch (B, n, d)."""
    packed = pack(exact)
    error.add(packed, exact)
    return [{f"{name}.{part}": value[at] for part, value in packed.items()} for at in range(len(exact))]
