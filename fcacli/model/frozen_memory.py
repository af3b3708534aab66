"""What a frozen transformer takes in memory, computed from its shapes alone: for plans made before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from fcacli.config import Keeping
from fcacli.model.base_weights import bytes_of_linear
from fcacli.model.bases import cogvideox_block as seam
from fcacli.model.block_swap import aligned, most_at_once, spread
from fcacli.model.sharding import share


@dataclass(frozen=True)
class FrozenBytes:
    """Bytes of a frozen transformer."""

    device: int
    """There all the time."""
    host: int
    """Page-locked: the blocks that wait."""
    passing: int
    """On the device besides, at most, while it computes: swapped blocks, those that are gathered, and one weight made dense
    for a product."""


def frozen_bytes(transformer: nn.Module, keeping: Keeping, dtype: torch.dtype) -> FrozenBytes:
    """Of a transformer as it is loaded, nothing attached; tensors on "meta" will do.

    Args:
        dtype: in which it computes.
    """
    blocks = list(getattr(transformer, seam.BLOCKS))
    waiting = {index: _tensors(blocks[index], keeping, dtype) for index in spread(len(blocks), keeping.block_swap)}
    buffers = [sum(map(aligned, sizes)) for sizes in waiting.values()]
    rest = _tensors(transformer, Keeping(), dtype, outside=getattr(transformer, seam.BLOCKS))
    there = [size for index, block in enumerate(blocks) if index not in waiting for size in _tensors(block, keeping, dtype)]
    linears = [module for block in blocks for module in block.modules() if isinstance(module, nn.Linear)]
    dense = 0 if keeping.base_weights == "full" else max(linear.weight.numel() for linear in linears) * dtype.itemsize
    device, waiting_bytes, passing = sum(rest) + sum(there), sum(buffers), most_at_once(list(waiting.values())) + dense
    if keeping.shards == 1:
        return FrozenBytes(device, waiting_bytes, passing)
    parts = [list(_parameters(part, keeping, dtype)) for block in blocks for part in seam.shared_parts(block)]
    kept = [sum(share(rows, size, keeping.shards) for rows, size in tensors) for tensors in parts]
    gone = sum(size for tensors in parts for _, size in tensors) - sum(kept)
    block, largest = sum(kept) // len(blocks), max(kept)
    # recomputed, a block stays gathered until its backward pass is done; FSDP2 holds what has come beside what it makes of it
    meanwhile = keeping.shards * (block + 2 * largest)
    return FrozenBytes(device - gone, waiting_bytes, passing + meanwhile)


def _parameters(module: nn.Module, keeping: Keeping, dtype: torch.dtype) -> Iterator[tuple[int, int]]:
    """Rows and bytes of each of its parameters, once it is kept so; scales of weights in fewer bits are none."""
    for part in module.modules():
        yield from _own_parameters(part, keeping, dtype)


def _own_parameters(part: nn.Module, keeping: Keeping, dtype: torch.dtype) -> Iterator[tuple[int, int]]:
    """The same, without those of its children."""
    for name, parameter in part._parameters.items():
        if parameter is None:
            continue
        if isinstance(part, nn.Linear) and name == "weight":
            size = bytes_of_linear(part.in_features, part.out_features, keeping.base_weights, dtype)[0]
            yield size if keeping.base_weights == "nf4" else part.out_features, size
        else:
            yield parameter.shape[0], parameter.numel() * dtype.itemsize


def _tensors(module: nn.Module, keeping: Keeping, dtype: torch.dtype, outside: nn.Module | None = None) -> list[int]:
    """Bytes of each of its tensors, once it is kept so."""
    left_out = set(outside.modules()) if outside is not None else set()
    sizes: list[int] = []
    for part in (part for part in module.modules() if part not in left_out):
        sizes += [size for _, size in _own_parameters(part, keeping, dtype)]
        if isinstance(part, nn.Linear):
            sizes += bytes_of_linear(part.in_features, part.out_features, keeping.base_weights, dtype)[1:]  # scales
        sizes += [buffer.nbytes for buffer in part._buffers.values() if buffer is not None]  # loaded in their own dtype
    return sizes
