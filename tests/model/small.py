"""The small bases of conftest.py; a clip, adapters and inputs for them."""

from collections.abc import Callable

import numpy as np
import torch

from fcacli.config import ClipConfig, FCAConfig
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.model.conditioning import Given

KINDS = {
    "absolute": {},
    "rotary": {"use_rotary_positional_embeddings": True},
    "temporal_patch": {"use_rotary_positional_embeddings": True, "patch_size_t": 2, "patch_bias": False},
}
"""Like 2B, 5B and 1.5-5B."""

MakeBase = Callable[..., CogVideoX]

CLIP = ClipConfig(frames=16, init_frames=2, width=32, height=32, fps=8)


def fca_config(**fields: object) -> FCAConfig:
    small = {"width": 32, "tokens_per_frame": 3, "text_width": 16, "text_heads": 2, "text_blocks": 1}
    return FCAConfig(**(small | fields))  # type: ignore[arg-type]


def inputs(base: CogVideoX, batch: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, Given]:
    """Random x_t (B, 4, 4, 8, 8), t (B,) and given conditions, some of the text padding."""
    torch.manual_seed(seed)
    frames, channels, height, width = base.latent_shape(CLIP)
    mask = torch.arange(12)[None] < torch.tensor([[7], [12]])[:batch]
    given = Given(
        init_latents=torch.randn(batch, 1, channels, height, width),
        text=torch.randn(batch, 12, 24),
        text_mask=mask,
        image=torch.randn(batch, 32, 16),
    )
    return torch.randn(batch, frames, channels, height, width), torch.tensor([3, 800])[:batch], given


def wake(adapter: torch.nn.Module, seed: int = 1) -> None:
    """Give W_o something to say, as training would."""
    torch.manual_seed(seed)
    for name, parameter in adapter.named_parameters():
        if "to_out" in name or "lora_B" in name or name.startswith("matrices"):
            torch.nn.init.normal_(parameter, std=0.2)


def random_frames(count: int, seed: int = 0, size: int = 32) -> np.ndarray:
    """uint8 (T, H, W, 3): smooth noise that moves."""
    noise = np.random.default_rng(seed).integers(0, 256, (count, size // 4, size // 4, 3), dtype=np.uint8)
    return noise.repeat(4, 1).repeat(4, 2)
