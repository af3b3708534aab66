"""Bytes of an optimizer's state that cannot be traced: bitsandbytes does not run on fake tensors."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter

LEAST = 4096
"""Values of a tensor below which bitsandbytes keeps 32 bits."""
BLOCK = 256
"""Values that share a scale."""


def eight_bit_state(parameters: Iterable[Parameter]) -> list[Tensor]:
    """Tensors like those of AdamW8bit's state: of each parameter two moments, in bytes with a float32 scale a block, and
    the two tables of 256 values that all share. Tested against the real one."""
    state = [torch.empty(BLOCK), torch.empty(BLOCK)]
    for parameter in parameters:
        count = parameter.numel()
        if count < LEAST:
            state += [torch.empty(count), torch.empty(count)]
        else:
            state += [torch.empty(count, dtype=torch.uint8) for _ in range(2)]
            state += [torch.empty(-(-count // BLOCK)) for _ in range(2)]
    return state
