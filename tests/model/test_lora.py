"""The LoRA baseline: extra token frames in front, or in place where that is right."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from small import CLIP, inputs, random_frames, wake

from fcacli.config import ClipConfig, LoRAConfig
from fcacli.errors import FcaError, Misuse
from fcacli.model.attach import attach, attached, detach
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.model.target import target

MakeBase = Callable[..., CogVideoX]


@pytest.mark.parametrize("kind", ["absolute", "rotary", "temporal_patch"])
def test_clean_latents_are_extra_frames_in_front(make_base: MakeBase, kind: str) -> None:
    base = make_base(kind)
    x_t, t, given = inputs(base)
    clean = given.init_latents.repeat(1, base.temporal_patch, 1, 1, 1)
    expected = base.denoise(torch.cat([clean, x_t], 1), t, given.text)[:, clean.shape[1] :]
    adapter = attach(base, LoRAConfig(rank=4), CLIP)
    output = adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given))
    assert output.shape == x_t.shape
    assert torch.equal(output, expected)  # B starts at zero: no weight differs from the base's


def test_only_lora_matrices_train_and_detaching_restores_the_base(make_base: MakeBase) -> None:
    base = make_base("rotary")
    names = list(base.transformer.state_dict())
    x_t, t, given = inputs(base)
    plain = base.denoise(x_t, t, given.text)
    base.transformer.enable_gradient_checkpointing()
    adapter = attach(base, LoRAConfig(rank=4), CLIP)
    assert attached(base.transformer)
    wake(adapter)
    adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given)).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for _, parameter in adapter.trainable())
    own = {id(parameter) for _, parameter in adapter.trainable()}
    assert {id(p) for p in base.transformer.parameters() if p.requires_grad} == own
    assert adapter.parameter_count == 2 * 4 * (32 * 4 + 4 * 32)  # layers x targets x (A + B)
    detach(base.transformer)
    assert list(base.transformer.state_dict()) == names
    assert torch.equal(base.denoise(x_t, t, given.text), plain)


def test_matrices_are_float32_on_a_bfloat16_base(make_base: MakeBase) -> None:
    base = make_base("absolute", torch.bfloat16)
    adapter = attach(base, LoRAConfig(rank=4), CLIP)
    assert {parameter.dtype for _, parameter in adapter.trainable()} == {torch.float32}
    x_t, t, given = inputs(base)
    assert adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given)).dtype == torch.bfloat16


MERGED = 1e-5
"""Relative RMS difference that merging may make in float32: the products are rounded in another order."""


@pytest.mark.parametrize("kind", ["absolute", "rotary", "temporal_patch"])
def test_merged_into_the_base_it_predicts_the_same(make_base: MakeBase, kind: str) -> None:
    base = make_base(kind)
    x_t, t, given = inputs(base)
    adapter = attach(base, LoRAConfig(rank=4), CLIP)
    fresh = adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given))
    wake(adapter)
    apart = adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given))
    base.transformer.fuse_lora()
    detach(base.transformer)
    assert not attached(base.transformer)
    merged = adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given))
    assert ((apart - fresh).norm() / fresh.norm()).item() > 100 * MERGED  # there is something to merge
    assert ((merged - apart).norm() / apart.norm()).item() < MERGED


@pytest.mark.parametrize("init", [1, 9])
def test_in_place_replaces_the_latents_of_the_given_frames(make_base: MakeBase, init: int) -> None:
    base = make_base()
    clip = ClipConfig(frames=17, init_frames=init, width=32, height=32, fps=8)
    video = random_frames(17)
    latents = base.encode_video(video)[None]
    x_t, t, given = inputs(base, batch=1)
    given = replace(given, init_latents=base.encode_init(video[:init])[None])
    count = given.init_latents.shape[1]
    assert count == 1 + init // 8 * 2
    if init == 9:  # a whole chunk of the VAE; of a shorter one its norms see less
        assert torch.equal(given.init_latents, latents[:, :count])
    x_t = torch.cat([x_t, x_t[:, :1]], 1)
    expected = base.denoise(torch.cat([given.init_latents, x_t[:, count:]], 1), t, given.text)
    adapter = attach(base, LoRAConfig(rank=4, init="in_place"), clip)
    output = adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given))
    assert torch.equal(output[:, count:], expected[:, count:])
    kept = base.scheduler.alphas_cumprod[t]
    led_to = kept.sqrt() * x_t[:, :count] - (1 - kept).sqrt() * output[:, :count]  # x_0 of x_t and v
    assert (led_to - given.init_latents).abs().max() < 1e-5


def test_in_place_has_no_loss_on_given_frames(make_base: MakeBase) -> None:
    base = make_base()
    clip = ClipConfig(frames=17, init_frames=9, width=32, height=32, fps=8)
    latents = base.encode_video(random_frames(17))[None]
    _, _, given = inputs(base, batch=1)
    given = replace(given, init_latents=latents[:, :3])
    adapter = attach(base, LoRAConfig(rank=4, init="in_place"), clip)
    noise, condition = torch.randn_like(latents), adapter.condition(base, given)
    for t in torch.tensor([[1], [500], [999]]):
        x_t = base.scheduler.add_noise(latents, noise, t)
        error = adapter.denoise(base, x_t, t, given.text, condition) - target(base.scheduler, latents, noise, t)
        assert error[:, :3].abs().max() < 1e-3 < error[:, 3:].abs().max()


@pytest.mark.parametrize(
    ("kind", "frames", "init"),
    [("absolute", 16, 1), ("absolute", 17, 2), ("absolute", 17, 5), ("absolute", 16, 9), ("temporal_patch", 17, 1)],
)
def test_in_place_is_refused_where_a_latent_covers_both_kinds(make_base: MakeBase, kind: str, frames: int, init: int) -> None:
    clip = ClipConfig(frames=frames, init_frames=init, width=32, height=32, fps=8)
    base = make_base(kind)
    with pytest.raises(Misuse, match="in_place"):
        attach(base, LoRAConfig(rank=4, init="in_place"), clip)
    assert not attached(base.transformer)


def test_a_plain_pipeline_cannot_take_extra_frames(make_base: MakeBase) -> None:
    adapter = attach(make_base(), LoRAConfig(rank=4), CLIP)
    with pytest.raises(FcaError, match="plain diffusers pipeline"):
        adapter.for_pipeline(None, None, "")  # type: ignore[arg-type]
