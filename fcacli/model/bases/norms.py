"""Layer norms of a base, and their trained copies in an adapter, in the type of their weights.

Training runs under autocast, and CUDA's takes layer norms in float32, with everything up to the next matrix product; sampling
does not. So a base would not be trained on as it is sampled from, and at 49x480x720 a step would hold 1 to 2 GB more.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LayerNorm(nn.LayerNorm):
    """Torch's, but that autocast leaves it alone where its input has the type of its weights."""

    def forward(self, x: Tensor) -> Tensor:
        if self.weight is None or x.dtype != self.weight.dtype or x.is_meta:  # autocast knows no such device
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x)


def norms_in_their_type(model: nn.Module) -> None:
    """Have every layer norm of `model` compute that way from now on."""
    for module in model.modules():
        if type(module) is nn.LayerNorm:
            module.__class__ = LayerNorm
