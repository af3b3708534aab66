"""Batches of encoded clips in an order that is a function of seed and step, so that a resumed run sees what it would have."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from fcacli.config import TrainConfig

IN_MEMORY = 1 << 30
"""Bytes up to which a dataset is read once and kept."""

Order = Callable[[int, int, int], Sequence[int]]
"""(seed, epoch, n): a permutation of n."""


class StepBatches(Sampler[list[int]]):
    """Indices of the micro-batches from optimizer step `step` on, up to the last step.

    Samples are counted through from step 0; sample p is entry p mod n of the permutation of epoch p div n. So an epoch's
    rest and the next one's start share a batch, and every clip is seen once an epoch.
    """

    def __init__(self, n: int, config: TrainConfig, step: int, order: Order):
        self._n, self._config, self._step, self._order = n, config, step, order

    def __len__(self) -> int:
        return (self._config.steps - self._step) * self._config.accumulate

    def __iter__(self) -> Iterator[list[int]]:
        size = self._config.batch_size
        first = self._step * self._config.accumulate
        epoch, permutation = -1, []
        for batch in range(first, first + len(self)):
            indices = []
            for sample in range(batch * size, (batch + 1) * size):
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


def loader(dataset: Any, batches: Sampler[list[int]] | None, batch_size: int, workers: int, collate: Any) -> DataLoader[Any]:
    """A loader of the given batches, or of all samples in order where `batches` is None."""
    parts: dict[str, Any] = {"batch_sampler": batches} if batches is not None else {"batch_size": batch_size}
    workers = 0 if isinstance(dataset, list) else workers
    return DataLoader(dataset, collate_fn=collate, num_workers=workers, pin_memory=torch.cuda.is_available(), **parts)


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch with its tensors on `device`."""
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value for name, value in batch.items()
    }
