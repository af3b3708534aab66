"""Gradient checkpointing whose recomputation starts from block inputs that have waited in main memory."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from fcacli.model.host_memory import page_locked


def keep_inputs_in_main_memory(transformer: Any) -> None:
    """Recompute each block in the backward pass, its inputs copied to main memory and back meanwhile: the same bits."""
    buffers = Buffers()

    def recomputed(block: nn.Module, *inputs: Any) -> Any:
        with saved_tensors_hooks(buffers.keep, lambda kept: kept.back()):  # inside, checkpoint has hooks of its own
            return checkpoint(block, *inputs, use_reentrant=False)

    transformer.enable_gradient_checkpointing(recomputed)


class Buffers:
    """Main memory that is used again at every step; page-locked where a CUDA device copies to it."""

    def __init__(self) -> None:
        self._free: dict[int, list[Tensor]] = defaultdict(list)

    def keep(self, tensor: Tensor) -> "Kept":
        """Copy a tensor to main memory, in the order of what the device computes."""
        size = tensor.numel() * tensor.element_size()
        free = self._free[size]
        buffer = free.pop() if free else page_locked(size, tensor.device)
        copy = buffer.view(tensor.dtype).view(tensor.shape)
        copy.copy_(tensor.detach(), non_blocking=True)
        return Kept(copy, tensor.device, tensor.stride(), buffer, free)


@dataclass(frozen=True)
class Kept:
    """A tensor in main memory; its buffer is free again when nothing asks for it any more."""

    copy: Tensor
    device: torch.device
    strides: tuple[int, ...]
    """As it had them; compiled blocks go by them."""
    buffer: Tensor
    free: list[Tensor]

    def back(self) -> Tensor:
        empty = torch.empty_strided(self.copy.shape, self.strides, dtype=self.copy.dtype, device=self.device)
        return empty.copy_(self.copy, non_blocking=True)

    def __del__(self) -> None:
        self.free.append(self.buffer)
