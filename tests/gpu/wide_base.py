"""A base of the tests' kind with real heads, and conditions for it."""

from collections.abc import Callable
from pathlib import Path

import torch

from fcacli.model.conditioning import Given


def write_wide_base(folder: Path, write_base: Callable[..., Path], layers: int) -> Path:
    """Wide enough that a block is megabytes."""
    fields = {"num_attention_heads": 16, "attention_head_dim": 64, "num_layers": layers, "time_embed_dim": 512}
    return write_base(folder / "wide", use_rotary_positional_embeddings=True, **fields)


def drawn(side: int) -> tuple[torch.Tensor, torch.Tensor, Given]:
    """x_t, t and conditions on the device, of latents (1, 4, 4, side, side)."""
    given = Given(
        init_latents=torch.randn(1, 1, 4, side, side),
        text=torch.randn(1, 12, 24),
        text_mask=torch.ones(1, 12, dtype=torch.bool),
        image=torch.randn(1, 32, 16),
    ).to("cuda")
    return torch.randn(1, 4, 4, side, side).cuda(), torch.tensor([300]).cuda(), given
