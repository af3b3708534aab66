"""The training objective, and everything random in it.

What is drawn for a sample is a pure function of (seed, step, slot), slot being its place among the samples of an optimizer
step. So a resumed run needs no saved random state, and the split of a step into micro-batches changes no draw.

B batch · F latent frames · C latent channels · L text tokens · P image patches
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fcacli.model.conditioning import Given
from fcacli.model.target import target
from fcacli.training.team import ALONE, Team

QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Noise levels of the held-out loss, as shares of the scheduler's time steps."""


@dataclass(frozen=True)
class Draw:
    """What one micro-batch draws."""

    timesteps: Tensor  # (B,) int64
    noise: Tensor  # (B, F, C, h, w) float32
    dropped: Tensor  # (B,) bool, samples whose caption is replaced by the empty one


def keyed(*key: int | str) -> torch.Generator:
    """A CPU generator whose stream is a function of `key` alone."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest, "little") >> 1)


def draw(
    seed: int,
    step: int,
    slots: Sequence[int],
    per_step: int,
    shape: Sequence[int],
    timesteps: int,
    caption_dropout: float,
    power: float = 1.0,
) -> Draw:
    """Draw time steps, noise and dropped captions of the samples in `slots` of optimizer step `step`.

    Time steps are timesteps * u^power, u uniform and stratified over the `per_step` samples of a step: slot i falls into the
    i-th of `per_step` equal parts. With power 1 this is the "explicit uniform sampling" of CogVideoX (arXiv
    2408.06072), over samples instead of ranks; the data order is random, so every clip sees every time step.

    Args:
        slots: places of these samples in the step, 0 ... per_step - 1.
        shape: (F, C, h, w) of a latent video.
        timesteps: number of the scheduler's training time steps.
    """
    drawn = []
    for slot in slots:
        generator = keyed("train", seed, step, slot)
        place, drop = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        timestep = min(int(((slot + place) / per_step) ** power * timesteps), timesteps - 1)
        drawn.append((timestep, drop < caption_dropout, torch.randn(*shape, generator=generator)))
    return Draw(
        timesteps=torch.tensor([timestep for timestep, _, _ in drawn]),
        noise=torch.stack([noise for _, _, noise in drawn]),
        dropped=torch.tensor([dropped for _, dropped, _ in drawn]),
    )


def given_of(batch: Mapping[str, Any]) -> Given:
    """The conditions of a batch: init_latents (B, F0, C, h, w), image (B, P, dv), text (B, L, dt), text_mask (B, L)."""
    return Given(init_latents=batch["init_latents"], text=batch["text"], text_mask=batch["text_mask"], image=batch["image"])


def drop_captions(given: Given, dropped: Tensor, null_text: Tensor, null_mask: Tensor) -> Given:
    """Replace the captions where `dropped` (B,) by the empty one, (L, dt) and (L,); the initial frames stay."""
    text = torch.where(dropped[:, None, None], null_text, given.text)  # (B, L, dt)
    mask = torch.where(dropped[:, None], null_mask, given.text_mask)  # (B, L)
    return replace(given, text=text, text_mask=mask)


def sample_losses(
    base: Any, adapter: Any, x_0: Tensor, timesteps: Tensor, noise: Tensor, text: Tensor, condition: Any, known: int = 0
) -> Tensor:
    """Mean squared error of the model's output over all F frames but the first `known`, one value a sample: (B,) float32."""
    x_t = base.scheduler.add_noise(x_0, noise, timesteps)  # (B, F, C, h, w)
    output = adapter.denoise(base, x_t, timesteps, text, condition)  # (B, F, C, h, w)
    error = output.float() - target(base.scheduler, x_0, noise, timesteps)
    return error[:, known:].square().mean(dim=(1, 2, 3, 4))


def diffusion_loss(base: Any, adapter: Any, batch: Mapping[str, Any], null: tuple[Tensor, Tensor], drawn: Draw) -> Tensor:
    """The base's own objective on a batch of clips, given their initial frames and captions: (B,) float32.

    Args:
        batch: latents (B, F, C, h, w) and the conditions of `given_of`, on the base's device.
        null: text (L, dt) and mask (L,) of the empty caption, there too.
    """
    x_0 = batch["latents"].float()
    timesteps, noise, dropped = (part.to(x_0.device) for part in (drawn.timesteps, drawn.noise, drawn.dropped))
    given = drop_captions(given_of(batch), dropped, *null)
    condition = adapter.condition(base, given)
    return sample_losses(base, adapter, x_0, timesteps, noise, given.text, condition)


def held_out_loss(
    base: Any, adapter: Any, batches: Iterable[Mapping[str, Any]], team: Team = ALONE, count: int = 0
) -> dict[str, float]:
    """The objective on held-out clips at fixed noise levels with fixed noise: comparable between steps, runs and
    adapters. Latents whose output the adapter does not compute itself are left out.

    The noise of a clip is a function of its id and the level. Conditions are computed once per clip.

    Args:
        batches: this process's share; the result is that of one process.
        count: of all batches, where there are several processes.

    Returns:
        the mean as "held_out", and each level's as "held_out/0.1" ... "held_out/0.9".
    """
    losses = torch.cat(team.in_turn(count, _held_out_losses, base, adapter, batches), dim=1)  # (Q, clips)
    means = {quantile: of_level.mean().item() for quantile, of_level in zip(QUANTILES, losses, strict=True)}
    return {"held_out": sum(means.values()) / len(means)} | {f"held_out/{quantile}": mean for quantile, mean in means.items()}


@torch.no_grad()
def _held_out_losses(base: Any, adapter: Any, batches: Iterable[Mapping[str, Any]]) -> list[Tensor]:
    """Of each batch, at each noise level: (Q, B) float32, on the CPU."""
    timesteps = base.scheduler.config.num_train_timesteps
    losses = []
    for batch in batches:
        x_0 = batch["latents"].float()
        given = given_of(batch)
        condition = adapter.condition(base, given)
        of_levels = []
        for quantile in QUANTILES:
            generators = [keyed("held out", clip, str(quantile)) for clip in batch["ids"]]
            noise = torch.stack([torch.randn(x_0.shape[1:], generator=generator) for generator in generators]).to(x_0.device)
            level = torch.full((len(x_0),), int(quantile * timesteps), device=x_0.device)
            of_levels.append(sample_losses(base, adapter, x_0, level, noise, given.text, condition, adapter.known_latents))
        losses.append(torch.stack(of_levels).cpu())
    return losses
