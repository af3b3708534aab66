"""Some frozen blocks wait in main memory and are copied to the device ahead of their use, one way only: they never change.

A block is fetched when the swapped one before it begins, in the forward pass, in the backward pass (where gradient
checkpointing runs it again) and in sampling, so that at most two are on the device. A fetched block's parameters are new
objects in the places of the waiting ones: what autograd has saved for a backward pass stays what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from fcacli.model.host_memory import page_locked

ALIGNMENT = 256
"""Bytes; where tensors begin in a buffer."""
AHEAD = 2
"""Blocks on the device: the one in use and the next."""


def aligned(size: int) -> int:
    """Bytes that a tensor of `size` bytes takes in a buffer."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def most_at_once(blocks: Sequence[Sequence[int]]) -> int:
    """Bytes that swapped blocks take on the device at most, given the bytes of each one's tensors."""
    return sum(sorted(sum(map(aligned, sizes)) for sizes in blocks)[-AHEAD:])


def spread(blocks: int, count: int) -> list[int]:
    """Which `count` of `blocks` are swapped: evenly, so that the most is computed between two of them."""
    return [index for index in range(blocks) if (index + 1) * count // blocks > index * count // blocks]


@dataclass(frozen=True)
class Slot:
    """One tensor of a block: where it belongs, and where it lies in the block's buffer."""

    owner: dict[str, Any]
    """A module's own dictionary of parameters or buffers."""
    name: str
    tensor: Tensor
    offset: int
    """Bytes."""

    def view(self, buffer: Tensor) -> Tensor:
        """This tensor in a buffer of bytes."""
        flat = buffer[self.offset : self.offset + self.tensor.nbytes]
        seen = flat.view(self.tensor.dtype).view(self.tensor.shape)
        return nn.Parameter(seen, requires_grad=False) if isinstance(self.tensor, nn.Parameter) else seen


class Waiting:
    """A block in main memory, its tensors in one buffer."""

    def __init__(self, block: nn.Module, device: torch.device):
        owners: list[dict[str, Any]] = [own for part in block.modules() for own in (part._parameters, part._buffers)]
        there = [(owner, name) for owner in owners for name in owner if owner[name] is not None]
        offsets = list(accumulate((aligned(owner[name].nbytes) for owner, name in there), initial=0))
        self.buffer = page_locked(offsets.pop(), device)
        self.slots = [Slot(owner, name, owner[name], offset) for (owner, name), offset in zip(there, offsets, strict=True)]
        for slot in self.slots:
            slot.view(self.buffer).copy_(slot.tensor)
        self.slots = [replace(slot, tensor=slot.view(self.buffer)) for slot in self.slots]

    def put(self, buffer: Tensor) -> None:
        """Let the block's modules use what lies in `buffer`."""
        for slot in self.slots:
            slot.owner[slot.name] = slot.view(buffer)

    def take_out(self) -> None:
        """Let them use what waits."""
        for slot in self.slots:
            slot.owner[slot.name] = slot.tensor

    def hide(self) -> None:
        """Let them have nothing, while the rest of the model is moved."""
        for slot in self.slots:
            slot.owner[slot.name] = None

    @contextmanager
    def visiting(self, device: torch.device) -> Iterator[None]:
        """Inside, the block is on the device: for one that is used once in a while, so nothing is copied ahead."""
        self.put(torch.empty_like(self.buffer, device=device).copy_(self.buffer))
        try:
            yield
        finally:
            self.take_out()


class BlockSwap:
    """The swapped blocks of one model; made before anything of it is on the device.

    Args:
        model: frozen, nothing attached.
        blocks: those of it that are swapped, in the order of their use.
        first_part: the module of a block that is called first.
        device: where the rest goes, and these when they are used.
    """

    def __init__(
        self, model: nn.Module, blocks: Sequence[nn.Module], first_part: Callable[[Any], nn.Module], device: torch.device
    ):
        self.blocks: list[Waiting] = []
        self.device = device
        self._at: int | None = None
        self._next: tuple[int, Tensor, Any] | None = None
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        for block in blocks:  # one by one, so that no more than one is there twice
            self.blocks.append(Waiting(block, device))
            self.blocks[-1].hide()
        model.to(device)
        for place, (block, waiting) in enumerate(zip(blocks, self.blocks, strict=True)):
            waiting.take_out()
            first_part(block).register_forward_pre_hook(lambda module, inputs, place=place: self._enter(place))

    def _enter(self, place: int) -> None:
        """A swapped block begins, again where its attention's input was recorded or where the backward pass turns."""
        before, self._at = self._at, place
        if before != place:
            if before is not None:
                self.blocks[before].take_out()
            self.blocks[place].put(self._fetched(place))
        following = self._following(before, place)
        if following is not None and (self._next is None or self._next[0] != following):
            self._drop()
            self._next = (following, *self._fetch(following))

    def _following(self, before: int | None, place: int) -> int | None:
        """The swapped block that will most likely be next; a wrong guess costs a copy, no more."""
        count = len(self.blocks)
        if count == 1:
            return None
        if not torch.is_grad_enabled():  # a frozen pass, or sampling: round and round
            return (place + 1) % count
        if before is not None and before - 1 <= place <= before:  # the backward pass
            return place - 1 if place else None
        return place + 1 if place + 1 < count else None

    def _fetch(self, place: int) -> tuple[Tensor, Any]:
        """Begin to copy a block to the device: its buffer there, and the event at the copy's end.

        The memory belongs to the computing stream, which uses it and frees it; the copying stream waits until what was
        computed there before has ended, and the computing stream will wait for the copy.
        """
        waiting = self.blocks[place].buffer
        buffer = torch.empty_like(waiting, device=self.device)
        if self._stream is None:
            return buffer.copy_(waiting), None
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            buffer.copy_(waiting, non_blocking=True)
        return buffer, self._stream.record_event()

    def _fetched(self, place: int) -> Tensor:
        if self._next is None or self._next[0] != place:
            self._drop()
            self._next = (place, *self._fetch(place))
        _, buffer, copied = self._next
        self._wait(copied)
        self._next = None
        return buffer

    def _drop(self) -> None:
        """Forget what was fetched for nothing; its memory may be used again when the copy has ended."""
        if self._next is not None:
            self._wait(self._next[2])
            self._next = None

    def __del__(self) -> None:
        if self._next is not None and self._next[2] is not None:
            self._next[2].synchronize()  # what is copied from is freed with this

    def _wait(self, copied: Any) -> None:
        if copied is not None:
            torch.cuda.current_stream(self.device).wait_event(copied)
