"""What a base would hold, or compute in training, in more bits than its weights have.

Training runs under autocast, and CUDA's takes layer norms in float32, with everything up to the next matrix product; sampling
does not. So a base would not be trained on as it is sampled from, and a step of CogVideoX-5B at 49x480x720 would hold 2 GB
more. The trained copies of its norms in an adapter do as they do.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class LayerNorm(nn.LayerNorm):
    """Torch's, but that autocast leaves it alone where its input has the type of its weights."""

    def forward(self, x: Tensor) -> Tensor:
        if self.weight is None or x.dtype != self.weight.dtype or x.is_meta:  # autocast knows no such device
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x)


def keep_to_own_precision(transformer: Any) -> None:
    """Of a frozen transformer from now on: its layer norms, and its absolute positions, which diffusers holds in float64
    (273 MB of CogVideoX-2B's) and rounds to the same values at every call."""
    norms_in_their_type(transformer)
    positions = getattr(transformer.patch_embed, "pos_embedding", None)
    if positions is not None and transformer.dtype == torch.bfloat16:  # a float32 base may round further, under autocast
        transformer.patch_embed.pos_embedding = positions.to(torch.bfloat16)


def norms_in_their_type(model: nn.Module) -> None:
    """Have every layer norm of `model` compute that way from now on."""
    for module in model.modules():
        if type(module) is nn.LayerNorm:
            module.__class__ = LayerNorm
