"""Where the optimizer's state stays between steps: beside the weights, in host memory, or in pages that CUDA moves.

Small tensors (step counts, tables, scales of small weights) stay where they are.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch
from torch import Tensor

from fcacli.model.host_memory import page_locked
from fcacli.training.parts import Kept

SMALL = 4096
"""Bytes up to which a tensor is not worth moving."""
PAGED = ("state1", "state2")
"""What bitsandbytes' paged optimizers keep in pages."""


class Residence(Protocol):
    """Where state stays; `kept` is a mapping of names to tensors for each part of the weights."""

    def settled(self, name: str, tensor: Tensor) -> Tensor:
        """A tensor read from a checkpoint, where it has to be between steps."""

    def here(self, kept: Sequence[Kept]) -> AbstractContextManager[None]:
        """On the device, while these weights are stepped."""

    def away(self, kept: Sequence[Kept]) -> AbstractContextManager[None]:
        """In host memory for a while, then back."""


class BesideWeights:
    """On the device, always."""

    def __init__(self, device: torch.device):
        self.device = device

    def settled(self, name: str, tensor: Tensor) -> Tensor:
        return tensor.to(self.device)

    def here(self, kept: Sequence[Kept]) -> AbstractContextManager[None]:
        return nullcontext()

    @contextmanager
    def away(self, kept: Sequence[Kept]) -> Iterator[None]:
        """An error inside ends the run: then nothing is brought back."""
        for values, name, tensor in _large(kept):
            values[name] = torch.empty_like(tensor, device="cpu").copy_(tensor)
            del tensor
        yield
        for values, name, tensor in _large(kept):
            values[name] = torch.empty_like(tensor, device=self.device).copy_(tensor)


class InPages(BesideWeights):
    """In memory that CUDA's driver moves between host and device as it is used; of bitsandbytes' paged optimizers."""

    def settled(self, name: str, tensor: Tensor) -> Tensor:
        """bitsandbytes itself would make ordinary tensors on the device of what it reads."""
        if name not in PAGED:
            return super().settled(name, tensor)
        from bitsandbytes.optim import PagedAdamW8bit

        like = torch.empty(tensor.shape, dtype=tensor.dtype, device=self.device)
        return PagedAdamW8bit([like]).get_state_buffer(like, tensor.dtype).copy_(tensor)


class InHostMemory:
    """In main memory, page-locked where the device is another; on the device for one part of the weights at a time.

    Copies are queued on the device's stream, in order with the arithmetic, so a part's memory is that of the one before it.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._buffers: list[Tensor] = []

    def settled(self, name: str, tensor: Tensor) -> Tensor:
        return self._host(tensor).copy_(tensor) if tensor.nbytes > SMALL else tensor.to(self.device)

    @contextmanager
    def here(self, kept: Sequence[Kept]) -> Iterator[None]:
        homes: dict[tuple[int, str], Tensor] = {}
        for values, name, tensor in _large(kept):
            homes[id(values), name] = tensor
            values[name] = torch.empty_like(tensor, device=self.device).copy_(tensor, non_blocking=True)
        yield
        for values, name, tensor in _large(kept):
            home = homes.get((id(values), name))  # none before the first step
            values[name] = (self._host(tensor) if home is None else home).copy_(tensor, non_blocking=True)

    def away(self, kept: Sequence[Kept]) -> AbstractContextManager[None]:
        return nullcontext()

    def _host(self, like: Tensor) -> Tensor:
        self._buffers.append(page_locked(like.nbytes, self.device))  # locked as long as this one lives
        return self._buffers[-1].view(like.dtype).view(like.shape)


def _large(kept: Sequence[Kept]) -> Iterator[tuple[Kept, str, Tensor]]:
    for values in kept:
        for name, value in list(values.items()):
            if isinstance(value, Tensor) and value.nbytes > SMALL and not getattr(value, "is_paged", False):
                yield values, name, value
