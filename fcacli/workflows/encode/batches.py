"""Batches for the encoders: shared out among processes, the next ones decoded by threads meanwhile, smaller ones where memory
ends."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from fcacli.config import ClipConfig
from fcacli.data.eightbit import Packed, error
from fcacli.errors import FcaError, OutOfMemory, naming_memory
from fcacli.events import Message, Report
from fcacli.training.team import Team

T = TypeVar("T")
R = TypeVar("R")

SIZES = {
    "cpu": {"captions": 4, "videos": 1, "images": 4},
    "cuda": {"captions": 16, "videos": 4, "images": 16},
}
"""Clips or captions in a batch; the last one is filled up, so that what a clip becomes does not depend on its neighbours'
number."""
PIXELS = 2_000_000
"""Of one frame of all videos in a batch, at most: beyond them diffusers cuts convolutions of few frames into pieces shorter
than their kernel (CogVideoXSafeConv3d, from 2 GB on)."""
AHEAD = 16
"""Clips decoded beforehand: 16 frames of 256x256 are 3 MB each."""
UNUSUAL = 0.02
"""Error of a packed entry above which it is a warning."""


def batches_of(device: str, clip: ClipConfig) -> dict[str, int]:
    sizes = SIZES.get(device, SIZES["cpu"])
    return sizes | {"videos": max(1, min(sizes["videos"], PIXELS // (clip.width * clip.height)))}


def ahead(load: Callable[[T], R], items: Iterable[T]) -> Generator[tuple[T, R | FcaError], None, None]:
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


@dataclass
class Made:
    """What a process has made of a batch: on the CPU, each tensor with memory of its own, so that it can be sent."""

    entries: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    """By key."""
    faults: dict[int, str] = field(default_factory=dict)
    """Why a clip cannot be read, by key."""
    errors: list[np.ndarray] = field(default_factory=list)
    """What packing has cost."""

    def add(self, key: int, entry: Mapping[str, Tensor]) -> None:
        self.entries[key] = {name: value.to("cpu", copy=True) for name, value in entry.items()}


Make = Callable[[Sequence[list[int]]], Generator[Made, None, None]]
"""Batches -> what becomes of each."""


def shared(batches: Sequence[list[int]], make: Make, team: Team) -> Iterator[Made]:
    """What is made of each batch, in order, in the main process; of n processes that of rank r makes every n-th one from its
    r-th. The batches are those of a single process, and so is every bit."""
    with closing(make(batches[team.rank :: team.size])) as made:
        for _ in range(0, len(batches), team.size):
            yield from (part for part in team.to_main(next(made, None)) if part is not None)


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


def say_error(what: str, errors: Sequence[np.ndarray], report: Report) -> None:
    """What packing has cost, mean and worst; a warning where that is more than the encoders that were measured give."""
    if not errors:
        return
    worst = np.concatenate(errors)
    text = f"{what} in 8 bits: relative RMS error {worst.mean():.2%}, at worst {worst.max():.2%}"
    report(Message(text, "warning" if worst.max() > UNUSUAL else "note"))


def pack_entries(name: str, exact: Tensor, pack: Callable[[Tensor], Packed], into: Made) -> list[dict[str, Tensor]]:
    """Entries of a batch (B, n, d); what that has cost is noted."""
    packed = pack(exact)
    into.errors.append(error(packed, exact).cpu().numpy())
    return [{f"{name}.{part}": value[at] for part, value in packed.items()} for at in range(len(exact))]
