"""The sampler against diffusers' own pipeline, guidance, seeds, and conditioning computed once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fcacli.config import ClipConfig, FCAConfig, SampleConfig
from fcacli.events import Event, Progress
from fcacli.model.bases import load_base, resolve_base
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.model.conditioning import Given
from fcacli.model.text_only import TextOnly
from fcacli.prediction.fresh_noise import FreshNoiseScheduler
from fcacli.prediction.sampler import decode, encode_given, predict_clip, sample

CLIP = ClipConfig(frames=16, init_frames=2, width=32, height=32, fps=8)
STEPS = SampleConfig(steps=4, guidance=3.0, seed=5)


@pytest.fixture(scope="module")
def base(tiny_base_folder: Path) -> CogVideoX:
    return load_base(resolve_base(str(tiny_base_folder)))


def _init_frames(count: int = 2) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 255, (count, 32, 32, 3), dtype=np.uint8)


def _from_pipeline(base: CogVideoX, text: str, config: SampleConfig) -> torch.Tensor:
    pipeline = base.pipeline()
    pipeline.set_progress_bar_config(disable=True)
    result = pipeline(
        text,
        height=32,
        width=32,
        num_frames=13,
        num_inference_steps=config.steps,
        guidance_scale=config.guidance,
        generator=torch.Generator("cpu").manual_seed(config.seed),
        output_type="latent",
        max_sequence_length=base.text_length,
    )
    return result.frames[0]


@pytest.mark.parametrize("guidance", [3.0, 1.0])
@pytest.mark.parametrize("scheduler", ["CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"])
def test_text_only_sampling_equals_the_diffusers_pipeline(
    base: CogVideoX, monkeypatch: pytest.MonkeyPatch, scheduler: str, guidance: float
) -> None:
    import diffusers

    monkeypatch.setitem(base._parts, "scheduler", getattr(diffusers, scheduler).from_config(base.scheduler.config))
    config = replace(STEPS, guidance=guidance)
    given = encode_given(base, _init_frames(), "pushing a cup")
    ours = sample(base, TextOnly(), *given, base.latent_shape(CLIP), config)
    assert (ours - _from_pipeline(base, "pushing a cup", config)).abs().max() == 0


FRESH = replace(STEPS, sampler="fresh-noise")


@pytest.mark.parametrize("scheduler", ["CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"])
def test_fresh_noise_is_that_of_a_diffusers_pipeline_with_this_scheduler(
    base: CogVideoX, monkeypatch: pytest.MonkeyPatch, scheduler: str
) -> None:
    """Whatever the base's own scheduler is; and it is another clip than the base's own scheduler gives."""
    import diffusers

    monkeypatch.setitem(base._parts, "scheduler", getattr(diffusers, scheduler).from_config(base.scheduler.config))
    given, shape = encode_given(base, _init_frames(), "pushing a cup"), base.latent_shape(CLIP)
    ours, plain = (sample(base, TextOnly(), *given, shape, config) for config in (FRESH, STEPS))
    monkeypatch.setitem(base._parts, "scheduler", FreshNoiseScheduler.from_config(base.scheduler.config))
    assert torch.equal(ours, _from_pipeline(base, "pushing a cup", FRESH))
    assert (ours - plain).abs().max() > 0.01


def test_ddim_is_that_of_the_same_noise_levels_whatever_the_scheduler_of_the_base(
    base: CogVideoX, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers

    given, shape = encode_given(base, _init_frames(), "pushing a cup"), base.latent_shape(CLIP)
    config, plain = base.scheduler.config, STEPS
    monkeypatch.setitem(base._parts, "scheduler", diffusers.CogVideoXDPMScheduler.from_config(config))
    ours, others = (sample(base, TextOnly(), *given, shape, c) for c in (replace(plain, sampler="ddim"), plain))
    monkeypatch.setitem(base._parts, "scheduler", diffusers.CogVideoXDDIMScheduler.from_config(config))
    assert torch.equal(ours, _from_pipeline(base, "pushing a cup", plain))
    assert (ours - others).abs().max() > 0.01


@pytest.mark.parametrize("steps", [4, 7])
def test_a_step_of_fresh_noise_keeps_the_clean_video_and_nothing_of_the_noise(base: CogVideoX, steps: int) -> None:
    """With a model that is always right, every step's noisy video is the true one under noise drawn in that step, and none is
    left at the end, also where the steps do not divide the schedule."""
    scheduler = FreshNoiseScheduler.from_config(base.scheduler.config)
    scheduler.set_timesteps(steps)
    clean, noise, lot = (torch.randn(2, 4, 3, 6, 6, generator=torch.Generator().manual_seed(n)) for n in range(3))
    x_t, generator, again = noise, torch.Generator().manual_seed(9), torch.Generator().manual_seed(9)
    for t, after in zip(scheduler.timesteps, scheduler.timesteps[1:], strict=False):
        many = t.expand(2)
        truth = scheduler.get_velocity(clean, noise, many)
        x_t = scheduler.add_noise(clean, noise, many)
        x_s, predicted = scheduler.step(truth, t, x_t, generator=generator, return_dict=False)
        assert torch.allclose(predicted, clean, atol=1e-4)
        noise = torch.randn(lot.shape, generator=again)
        assert torch.allclose(x_s, scheduler.add_noise(clean, noise, after.expand(2)), atol=1e-4)
    last = scheduler.step(scheduler.get_velocity(clean, noise, after.expand(2)), after, x_s)
    assert torch.equal(last.prev_sample, last.pred_original_sample)
    assert torch.allclose(last.prev_sample, clean, atol=1e-4)


def test_sampling_leaves_the_scheduler_of_the_base_alone(base: CogVideoX) -> None:
    before = base.scheduler.timesteps.clone()
    predict_clip(base, TextOnly(), _init_frames(), "a", CLIP, STEPS)
    assert torch.equal(base.scheduler.timesteps, before)


def test_same_seed_same_clip_other_seed_other_clip(base: CogVideoX) -> None:
    first, again, other = (
        predict_clip(base, TextOnly(), _init_frames(), "a", CLIP, replace(STEPS, seed=seed)) for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("frames", [16, 17, 12])
@pytest.mark.parametrize("given", [1, 2])
def test_given_frame_i_is_output_frame_i(base: CogVideoX, frames: int, given: int) -> None:
    clip = replace(CLIP, frames=frames, init_frames=given)
    init_frames = _init_frames(given)
    video = predict_clip(base, TextOnly(), init_frames, "a", clip, STEPS)
    assert video.shape == (frames, 32, 32, 3)
    assert video.dtype == np.uint8
    assert (video[:given] == init_frames).all()
    own = predict_clip(base, TextOnly(), init_frames, "a", clip, STEPS, keep_generated_init=True)
    assert (own[:given] != init_frames).any()
    assert (own[given:] == video[given:]).all()


def test_the_three_parts_make_the_whole(base: CogVideoX) -> None:
    given, null_given = encode_given(base, _init_frames(), "a")
    latents = sample(base, TextOnly(), given, null_given, base.latent_shape(CLIP), STEPS)
    parts = decode(base, latents, CLIP, _init_frames())
    assert (parts == predict_clip(base, TextOnly(), _init_frames(), "a", CLIP, STEPS)).all()


def test_null_half_has_the_empty_caption_and_keeps_the_initial_frames(base: CogVideoX) -> None:
    given, null_given = encode_given(base, _init_frames(), "pushing a cup")
    assert torch.equal(given.init_latents, null_given.init_latents)
    assert torch.equal(given.image, null_given.image)
    empty, mask = base.encode_text([""])
    assert torch.equal(null_given.text, empty)
    assert torch.equal(null_given.text_mask, mask)
    assert not torch.equal(given.text, null_given.text)


def test_nothing_after_the_initial_frames_conditions_the_prediction(base: CogVideoX) -> None:
    video = np.random.default_rng(0).integers(0, 255, (16, 32, 32, 3), dtype=np.uint8)
    changed = video.copy()
    changed[2:] = 255 - changed[2:]
    for one, two in zip(encode_given(base, video[:2], "a"), encode_given(base, changed[:2], "a"), strict=True):
        for name in ("init_latents", "text", "text_mask", "image"):
            assert torch.equal(getattr(one, name), getattr(two, name))


def test_progress_counts_denoising_steps(base: CogVideoX) -> None:
    events: list[Event] = []
    predict_clip(base, TextOnly(), _init_frames(), "a", CLIP, STEPS, report=events.append)
    progress = [event for event in events if isinstance(event, Progress)]
    assert [(event.done, event.total) for event in progress] == [(done, 4) for done in range(5)]


class Recomputing:
    """An adapter that throws its conditioning away and computes it again at every step."""

    def __init__(self, adapter: Any):
        self.adapter = adapter
        self.calls = 0

    def condition(self, base: CogVideoX, given: Given) -> Given:
        return given

    def denoise(self, base: CogVideoX, x_t: torch.Tensor, t: torch.Tensor, text: torch.Tensor, given: Given) -> torch.Tensor:
        self.calls += 1
        return self.adapter.denoise(base, x_t, t, text, self.adapter.condition(base, given))


@pytest.mark.parametrize("guidance", [3.0, 1.0])
def test_conditioning_once_per_clip_equals_recomputing_it_each_step(tiny_base_folder: Path, guidance: float) -> None:
    from fcacli.model.attach import attach

    base = load_base(resolve_base(str(tiny_base_folder)))
    config = FCAConfig(width=32, tokens_per_frame=2, text_width=16, text_heads=2, text_blocks=1)
    torch.manual_seed(0)
    adapter = attach(base, config, CLIP)
    for _, parameter in adapter.trainable():
        torch.nn.init.normal_(parameter, std=0.1)
    sampling = replace(STEPS, guidance=guidance)
    recomputing = Recomputing(adapter)
    once = predict_clip(base, adapter, _init_frames(), "pushing a cup", CLIP, sampling, keep_generated_init=True)
    each = predict_clip(base, recomputing, _init_frames(), "pushing a cup", CLIP, sampling, keep_generated_init=True)
    assert recomputing.calls == sampling.steps
    assert (once == each).all()
    alone = predict_clip(base, TextOnly(), _init_frames(), "pushing a cup", CLIP, sampling, keep_generated_init=True)
    assert (once != alone).any()
