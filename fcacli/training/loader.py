"""Batches of encoded clips in an order that is a function of seed and step, so that a resumed run sees what it would have."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from fcacli.config import TrainConfig
from fcacli.errors import FcaError

IN_MEMORY = 1 << 30
"""Bytes up to which a dataset is read once and kept."""

Order = Callable[[int, int, int], Sequence[int]]
"""(seed, epoch, n): a permutation of n."""


def micro_batches(config: TrainConfig, rank: int = 0, size: int = 1) -> list[range]:
    """The slots of an optimizer step that process `rank` of `size` computes, in parts of at most `config.batch_size`.

    Each has its share, one slot more or less where they cannot be shared evenly.
    """
    per_step = config.batch_size * config.accumulate
    share = range(rank * per_step // size, (rank + 1) * per_step // size)
    return [share[first : first + config.batch_size] for first in range(0, len(share), config.batch_size)]


class StepBatches(Sampler[list[int]]):
    """Indices of the micro-batches of process `rank` of `size` from optimizer step `step` on, up to the last step.

    Samples are counted through from step 0; sample p is entry p mod n of the permutation of epoch p div n. So an epoch's
    rest and the next one's start share a batch, and every clip is seen once an epoch.
    """

    def __init__(self, n: int, config: TrainConfig, step: int, order: Order, rank: int = 0, size: int = 1):
        self._n, self._config, self._step, self._order = n, config, step, order
        self._parts = micro_batches(config, rank, size)

    def __len__(self) -> int:
        return (self._config.steps - self._step) * len(self._parts)

    def __iter__(self) -> Iterator[list[int]]:
        per_step = self._config.batch_size * self._config.accumulate
        epoch, permutation = -1, []
        for step, slots in product(range(self._step, self._config.steps), self._parts):
            indices = []
            for sample in (step * per_step + slot for slot in slots):
                if sample // self._n != epoch:
                    epoch = sample // self._n
                    permutation = list(self._order(self._config.seed, epoch, self._n))
                indices.append(permutation[sample % self._n])
            yield indices


def in_memory(dataset: Dataset[Any]) -> Any:
    """The dataset as a list of its samples if it is small, else itself."""
    n = len(dataset)  # type: ignore[arg-type]
    size = sum(value.nbytes for value in dataset[0].values() if isinstance(value, torch.Tensor))
    return [dataset[i] for i in range(n)] if n * size <= IN_MEMORY else dataset


class Unloadable(FcaError):
    """A sample that cannot be loaded (any more), or a process that loads samples and has died."""


def batches(
    dataset: Any, chosen: Iterable[list[int]], device: torch.device, workers: int, collate: Callable[[list[Any]], Any]
) -> Iterator[Any]:
    """The chosen batches on `device`, loaded ahead by `workers` processes where the dataset is not in memory.

    Raises:
        Unloadable: a sample cannot be loaded, in this process or in a worker's; a worker has died.
    """
    loaded = DataLoader(
        _ErrorsAsValues(dataset),
        batch_sampler=chosen,  # type: ignore[arg-type]
        collate_fn=_CollateOrError(collate),
        num_workers=0 if isinstance(dataset, list) else workers,
        worker_init_fn=_leave_signals_to_the_parent,
        pin_memory=device.type == "cuda",
    )
    for batch in _living(loaded):
        if isinstance(batch, FcaError):
            raise Unloadable(batch.message, batch.hint)
        yield {
            name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for name, value in batch.items()
        }


def _living(loaded: Iterable[Any]) -> Iterator[Any]:
    with naming_dead_workers():
        try:
            yield from loaded
        except (ConnectionError, EOFError) as error:  # in the middle of handing a batch over
            raise _has_died(error) from error


@contextmanager
def naming_dead_workers() -> Iterator[None]:
    """Say that a worker has died: torch does at the next batch or, from a signal's handler, wherever the program is.

    Raises:
        Unloadable: instead of torch's error.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise _has_died(error) from error


def _has_died(error: Exception) -> Unloadable:
    """What to say of a dead worker; the death of further ones interrupts nothing."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    cause = (str(error).splitlines() or [type(error).__name__])[0]
    hint = "fca train --workers 0 goes on with clips loaded by the main process"
    return Unloadable(f"a process that loads clips has died, perhaps for want of memory: {cause}", hint)


class _ErrorsAsValues(Dataset[Any]):
    """DataLoader would turn a worker's exception into one whose message is a traceback."""

    def __init__(self, dataset: Any):
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        try:
            return self._dataset[index]
        except FcaError as error:
            return error


class _CollateOrError:
    """The batch, or the error of its first sample that could not be loaded."""

    def __init__(self, collate: Callable[[list[Any]], Any]):
        self._collate = collate

    def __call__(self, samples: list[Any]) -> Any:
        return next((sample for sample in samples if isinstance(sample, FcaError)), None) or self._collate(samples)


def _leave_signals_to_the_parent(worker: int) -> None:
    """A Ctrl-C reaches the whole process group; the parent finishes its step and needs the workers for that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
