"""On a CUDA device, the same work has the same bits each time: a resumed run can be the uninterrupted one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLCogVideoX
from wide_base import drawn, write_wide_base

from fcacli.config import ClipConfig, FCAConfig, LoRAConfig
from fcacli.model.attach import attach, detach
from fcacli.model.bases import load_base, resolve_base
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.model.bases.published import published
from fcacli.training.kernels import repeatable

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

CLIP = ClipConfig(frames=16, init_frames=2, width=256, height=256, fps=8)
ADAPTERS = {
    "fca": FCAConfig(width=512, tokens_per_frame=3, text_width=16, text_heads=2, text_blocks=1),
    "lora": LoRAConfig(rank=8),
}
TIMES = 3


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, write_base: Callable[..., Path]) -> CogVideoX:
    """Two layers of real heads, and so many tokens (4 x 32 x 32) that many threads add up one gradient."""
    folder = write_wide_base(tmp_path_factory.mktemp("base"), write_base, layers=2)
    return load_base(resolve_base(str(folder)), "cuda", torch.bfloat16)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ADAPTERS)
def test_gradients_of_a_training_step(base: CogVideoX, kind: str, checkpointing: bool) -> None:
    detach(base.transformer)
    torch.manual_seed(0)
    adapter = attach(base, ADAPTERS[kind], CLIP)
    weights = [parameter for _, parameter in adapter.trainable()]
    for weight in weights:  # what begins at zero passes nothing on
        torch.nn.init.normal_(weight, std=0.02)
    x_t, t, given = drawn(side=64)
    if checkpointing:
        base.transformer.enable_gradient_checkpointing()
    seen = []
    for _ in range(TIMES):
        with repeatable():
            with torch.autocast("cuda", torch.bfloat16):
                loss = adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given)).float().square().mean()
            loss.backward()
        seen.append([weight.grad for weight in weights])
        for weight in weights:
            weight.grad = None
    base.transformer.disable_gradient_checkpointing()
    assert all(torch.equal(*pair) for other in seen[1:] for pair in zip(seen[0], other, strict=True))


def test_the_frozen_base_in_training_is_that_of_sampling(base: CogVideoX) -> None:
    detach(base.transformer)
    x_t, t, given = drawn(side=64)
    with torch.no_grad():
        sampled = base.denoise(x_t, t, given.text)
        with torch.autocast("cuda", torch.bfloat16):
            assert torch.equal(base.denoise(x_t, t, given.text), sampled)


def test_the_published_autoencoder(base: CogVideoX) -> None:
    config = {key: value for key, value in published("vae").items() if not key.startswith("_")}
    with torch.device("cuda"):
        vae = AutoencoderKLCogVideoX(**config).to(torch.bfloat16).eval()
    pixels = torch.from_numpy(np.random.default_rng(0).random((1, 3, 17, 128, 128), np.float32)).to("cuda", torch.bfloat16)
    with torch.no_grad():
        latents = [vae.encode(pixels).latent_dist.mean for _ in range(TIMES)]
        frames = [vae.decode(latents[0]).sample for _ in range(TIMES)]
    assert all(torch.equal(latents[0], other) for other in latents[1:])
    assert all(torch.equal(frames[0], other) for other in frames[1:])
