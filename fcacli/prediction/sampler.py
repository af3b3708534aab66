"""Sampling one clip: the scheduler, classifier-free guidance, and conditioning computed once.

Validation, `fca predict` and `fca eval` all call `predict_clip` or its three parts, always for one clip at a time, so that
they agree bit by bit. Latents are (B, F, C, h, w); here B is 1, or 2 for the null and the full half of guidance.
"""

import copy
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from fcacli.config import ClipConfig, SampleConfig
from fcacli.errors import naming_memory
from fcacli.events import Report, silent, track
from fcacli.model.conditioning import Given

if TYPE_CHECKING:
    from fcacli.model.bases.cogvideox import CogVideoX

PHASE = "denoise"


class Adapter(Protocol):
    """All that sampling asks of FCA, LoRA and the base alone."""

    def condition(self, base: Any, given: Given) -> Any:
        """What does not change from step to step."""
        ...

    def denoise(self, base: Any, x_t: torch.Tensor, t: torch.Tensor, text: torch.Tensor, conditioning: Any) -> torch.Tensor:
        """x_t (B, F, C, h, w), t (B,), text (B, L, d_text) -> the model's output, shaped like x_t."""
        ...


def predict_clip(
    base: "CogVideoX",
    adapter: Adapter,
    init_frames: np.ndarray,
    text: str,
    clip: ClipConfig,
    config: SampleConfig,
    keep_generated_init: bool = False,
    report: Report = silent,
) -> np.ndarray:
    """The clip that follows `init_frames` under `text`.

    Args:
        init_frames: uint8 (T0, H, W, 3), already of the clip's size.
        keep_generated_init: show the model's own first frames instead of the given ones.

    Returns:
        uint8 (T, H, W, 3).
    """
    given, null_given = encode_given(base, init_frames, text)
    latents = sample(base, adapter, given, null_given, base.latent_shape(clip), config, report)
    return decode(base, latents, clip, None if keep_generated_init else init_frames)


@naming_memory("encoding the given frames", "--device cpu")
@torch.no_grad()
def encode_given(base: "CogVideoX", init_frames: np.ndarray, text: str) -> tuple[Given, Given]:
    """All that a prediction may know: the initial frames (encoded alone) with the text, and with the empty text."""
    return _given(base.encode_text([text, ""]), base.encode_init(init_frames), base.encode_image(init_frames))


@naming_memory("encoding the given frames", "--device cpu")
@torch.no_grad()
def encode_given_once(base: "CogVideoX", init_frames: np.ndarray, text: str) -> tuple[Given, Given]:
    """The same bits, for one clip: each encoder is freed before the next one is loaded."""
    texts = base.encode_text([text, ""])
    base.unload("text_encoder")
    init_latents = base.encode_init(init_frames)
    base.unload("vae")
    image = base.encode_image(init_frames)
    base.unload("image_encoder")
    return _given(texts, init_latents, image)


def _given(texts: tuple[torch.Tensor, torch.Tensor], init_latents: torch.Tensor, image: torch.Tensor) -> tuple[Given, Given]:
    features, masks = texts
    full, null = (
        Given(init_latents[None], text=features[half, None], text_mask=masks[half, None], image=image[None]) for half in (0, 1)
    )
    return full, null


@naming_memory("denoising", "--offload model or sequential on a GPU, or --guidance 1, which halves the batch")
@torch.no_grad()
def sample(
    base: "CogVideoX",
    adapter: Adapter,
    given: Given,
    null_given: Given,
    shape: tuple[int, ...],
    config: SampleConfig,
    report: Report = silent,
) -> torch.Tensor:
    """Denoise from seeded noise to the latents of one clip: (F, C, h, w).

    Classifier-free guidance (Ho and Salimans, 2022): v = v_null + guidance (v_full - v_null); the null half has the empty
    caption everywhere and keeps the initial frames. The noise is drawn on the CPU: the same on every device.

    Args:
        given: of batch 1; `null_given` likewise, with the empty caption.
        shape: (F, C, h, w), see `base.latent_shape`.
    """
    scheduler = _scheduler(base, config)
    scheduler.set_timesteps(config.steps, device=base.device)
    guided = config.guidance != 1.0
    halves = (null_given.cat(given) if guided else given).to(base.device)
    conditioning = adapter.condition(base, halves)
    generator = torch.Generator("cpu").manual_seed(config.seed)
    x = torch.randn((1, *shape), generator=generator).to(base.device) * scheduler.init_noise_sigma
    clean, before = None, None  # the last predicted clean latents and time step, which DPM-solver looks back to
    for t in track(scheduler.timesteps, report, PHASE):
        doubled = scheduler.scale_model_input(torch.cat([x, x]) if guided else x, t)
        output = adapter.denoise(base, doubled, t.expand(len(doubled)), halves.text, conditioning).float()
        if guided:
            null, full = output.chunk(2)
            output = null + config.guidance * (full - null)
        if scheduler.__class__.__name__ == "CogVideoXDPMScheduler":
            x, clean = scheduler.step(output, clean, t, before, x, generator=generator, return_dict=False)
        else:
            x = scheduler.step(output, t, x, generator=generator, return_dict=False)[0]
        before = t
    return x[0]


def _scheduler(base: "CogVideoX", config: SampleConfig) -> Any:
    """A scheduler to set time steps of: a copy of the base's, or one of the same noise levels."""
    if config.sampler == "base":
        return copy.deepcopy(base.scheduler)
    if config.sampler == "ddim":
        from diffusers import CogVideoXDDIMScheduler

        return CogVideoXDDIMScheduler.from_config(base.scheduler.config)
    from fcacli.prediction.fresh_noise import FreshNoiseScheduler

    return FreshNoiseScheduler.from_config(base.scheduler.config)


@naming_memory("decoding", "--device cpu, or a run that is trained with --vae-tiling")
@torch.no_grad()
def decode(base: "CogVideoX", latents: torch.Tensor, clip: ClipConfig, init_frames: np.ndarray | None) -> np.ndarray:
    """Latents (F, C, h, w) to frames uint8 (T, H, W, 3), the given frames, if any, in the place of the first ones."""
    frames = base.decode(latents, clip.frames)
    if init_frames is not None:
        frames[: len(init_frames)] = init_frames
    return frames
