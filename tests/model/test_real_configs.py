"""The published configurations of CogVideoX-2B, 5B and 1.5-5B, on meta tensors: shapes, no weights."""

from collections.abc import Iterator

import pytest
import torch
from diffusers import CogVideoXTransformer3DModel

from fcacli.config import ClipConfig, FCAConfig
from fcacli.model.attach import attach, detach, load_state
from fcacli.model.bases import resolve_base
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.model.bases.published import part_configs
from fcacli.model.conditioning import Given

MILLION = 1_000_000


def meta_base(name: str) -> CogVideoX:
    """A base with the published configuration and nothing but its transformer, on meta tensors."""
    base = CogVideoX(resolve_base(name), device="meta", dtype=torch.float32)
    base._configs = part_configs(base.spec)
    fields = {key: value for key, value in base._configs["transformer"].items() if not key.startswith("_")}
    base._parts["transformer"] = CogVideoXTransformer3DModel(**fields).requires_grad_(False).eval()
    return base


@pytest.fixture
def on_meta() -> Iterator[None]:
    with torch.device("meta"):
        yield


@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize(
    ("name", "attention", "total"),
    [
        ("cogvideox-2b", 442, 982),
        pytest.param("cogvideox-5b", 793, 1722, marks=pytest.mark.slow),
        pytest.param("cogvideox1.5-5b", 793, 1721, marks=pytest.mark.slow),
    ],
)
def test_attach_forward_backward_save_and_reload(name: str, attention: int, total: int) -> None:
    base = meta_base(name)
    row = base.spec.defaults
    clip = ClipConfig(frames=row.frames, init_frames=row.init_frames, width=row.width, height=row.height, fps=row.fps)
    config = FCAConfig(width=row.adapter_width)
    adapter = attach(base, config, clip)
    named = adapter.trainable()
    assert sum(p.numel() for n, p in named if ".to_" in n and n.startswith("layers")) // MILLION == attention
    assert round(adapter.parameter_count / MILLION) == total

    frames, channels, height, width = base.latent_shape(clip)
    given = Given(
        init_latents=torch.randn(1, 1, channels, height, width),
        text=torch.randn(1, 226, 4096),
        text_mask=torch.ones(1, 226, dtype=torch.bool),
        image=torch.randn(1, 2 * 256, 1024),
    )
    x_t = torch.randn(1, frames, channels, height, width)
    output = adapter.denoise(base, x_t, torch.tensor([500]), given.text, adapter.condition(base, given))
    assert output.shape == x_t.shape
    output.square().mean().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for _, p in named)

    state = adapter.state()
    detach(base.transformer)
    load_state(attach(base, config, clip), state, name)
    assert len(state) == len(named)
