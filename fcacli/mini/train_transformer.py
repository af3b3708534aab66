"""Stages `latents` and `transformer`: text to video on latents encoded once, the text encoder trained along.

CogVideoX's objective, v-prediction with the base's own scheduler, over time steps spread over a batch, more of them noisy (see
NOISY). One caption in ten is empty (the null text of guidance). Some batches are single latents of the initial frames encoded
alone: the base knows images too, as the real one does, and its frozen pass on the initial frames' latent is in distribution.

B batch, F latent frames, L text tokens; latents are (B, F, C, h, w) as CogVideoXTransformer3DModel takes them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCogVideoX
from safetensors.torch import load_file, save_file

from fcacli.mini.build import TEXT_TOKENS, build_part, build_scheduler, build_tokenizer, load_part, save_part
from fcacli.mini.muon import Muon
from fcacli.mini.plain_attention import PlainAttention
from fcacli.mini.stage import HELD_OUT_SEED, TRAIN_SEED, Average, Stage, clips_as_video, to_video_tensor
from fcacli.model.arithmetic import computes_bf16
from fcacli.model.bases.narrow_convolution import convolve_by_frame

SHARD, SHARDS, FIRST_SHARD, HELD_OUT = 1000, 12, 20, 96
BATCH, WARMUP, AVERAGE = 32, 200, 0.998
MUON_RATE, ADAM_RATE = 2.4e-3, 1.2e-3
EMPTY_SHARE, IMAGE_SHARE = 0.1, 0.1
NOISY = 0.65
"""Time steps are 1000 u^0.65, u uniform: the median is 640. What moves and how is decided where there is much noise."""
EVAL_EVERY, LEVELS = 250, (100, 300, 500, 700, 900)
SNAPSHOT_SECONDS = 600.0


@dataclass
class Latents:
    """Encoded clips: `clip` (n, 4, C, 12, 12), `alone` (n, 1, C, 12, 12) scaled to unit variance, `tokens` (n, L)."""

    clip: torch.Tensor
    alone: torch.Tensor
    tokens: torch.Tensor


def encode(stage: Stage) -> None:
    """Encode the training and held-out clips into work/latents; shards already there are kept."""
    vae: Any = AutoencoderKLCogVideoX.from_pretrained(stage.out / "vae").float().eval().to(stage.device)
    if stage.device == "cpu":
        convolve_by_frame(vae)
    folder = stage.work / "latents"
    folder.mkdir(exist_ok=True)
    jobs = [("held_out", HELD_OUT_SEED, 0, HELD_OUT)]
    jobs += [(f"train_{k:02d}", TRAIN_SEED, k * SHARD, SHARD) for k in range(FIRST_SHARD, FIRST_SHARD + SHARDS)]
    for name, seed, first, count in jobs[stage.rank :: stage.world]:
        if stage.progress >= 1.0 and stage.steps is None:
            break
        if not (folder / f"{name}.safetensors").is_file():
            save_file(_encode_shard(vae, seed, first, count), folder / f".{name}.new")
            (folder / f".{name}.new").replace(folder / f"{name}.safetensors")
            print(name, round(stage.seconds), flush=True)


@torch.no_grad()
def _encode_shard(vae: Any, seed: int, first: int, count: int) -> dict[str, torch.Tensor]:
    """Clips, and their first two frames (every other clip: first frame) alone."""
    tokenizer, parts = build_tokenizer(), []
    for start in range(first, first + count, 50):
        video, captions = clips_as_video(seed, start, min(50, first + count - start), "base")
        pixels = to_video_tensor(video).to(vae.device)
        alone = torch.empty(len(video), vae.config.latent_channels, 1, 12, 12, device=vae.device)
        alone[0::2] = vae.encode(pixels[0::2, :, :2]).latent_dist.mode()
        alone[1::2] = vae.encode(pixels[1::2, :, :1]).latent_dist.mode()
        tokens = tokenizer(captions, padding="max_length", max_length=TEXT_TOKENS, truncation=True, return_tensors="pt")
        parts.append((vae.encode(pixels).latent_dist.mode(), alone, tokens.input_ids))
    clip, alone, tokens = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
    factor = vae.config.scaling_factor
    clip, alone = (part.transpose(1, 2).mul(factor).half().contiguous() for part in (clip, alone))
    return {"clip": clip, "alone": alone, "tokens": tokens}


def load_latents(folder: Path, pattern: str) -> Latents:
    """All shards whose name matches."""
    files = [load_file(path) for path in sorted(folder.glob(pattern))]
    return Latents(**{key: torch.cat([file[key] for file in files]) for key in ("clip", "alone", "tokens")})


class TextToVideo(torch.nn.Module):
    """Text encoder and transformer as one module to train."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.transformer = build_part("transformer", seed)
        self.text_encoder = build_part("text_encoder", seed + 1)

    def forward(self, noisy: torch.Tensor, tokens: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """(B, F, C, h, w), (B, L), (B,) -> predicted v (B, F, C, h, w)."""
        text = self.text_encoder(tokens)[0]  # (B, L, 96): padding is attended to, as CogVideoX does
        return self.transformer(noisy, text, t, return_dict=False)[0]


def train(stage: Stage) -> None:
    """Train until the stage ends; weights/transformer and weights/text_encoder follow every ten minutes.

    With several processes (see pretrain.py) each takes its share of every batch and gradients are averaged: on busy cores
    one synchronisation a step costs less than one a layer.
    """
    data = load_latents(stage.work / "latents", "train_*.safetensors")
    held_out = load_latents(stage.work / "latents", "held_out.safetensors")
    scheduler = build_scheduler()
    saved = stage.resume()
    model = TextToVideo(stage.seed)
    if stage.from_weights and not saved:
        for name in ("transformer", "text_encoder"):
            getattr(model, name).load_state_dict(load_part(name, stage.out).state_dict())
    model.transformer.set_attn_processor(PlainAttention())
    model.to(stage.device)
    average = Average(model, AVERAGE)
    optimisers = _optimisers(model, stage)
    if saved:
        model.load_state_dict(saved["model"])
        for optim, state in zip(optimisers, saved["optim"], strict=True):
            optim.load_state_dict(state)
        average.load(saved["average"])
    written, losses, progress = time.time(), [], stage.progress
    while progress < 1.0:
        for optim, peak in zip(optimisers, (MUON_RATE, ADAM_RATE), strict=True):
            for group in optim.param_groups:
                group["lr"] = stage.rate(peak * stage.peak, WARMUP, progress=progress)
        loss = _loss(model, scheduler, *(part.to(stage.device) for part in _batch(stage, data)))
        model.zero_grad(set_to_none=True)
        loss.backward()
        stage.step += 1
        progress = share_gradients(model, stage)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optim in optimisers:
            optim.step()
        if stage.rank > 0:
            continue
        average.update(model)
        losses.append(loss.item())
        if stage.step % EVAL_EVERY == 0:
            stage.log(loss=round(float(np.mean(losses)), 5), **_evaluate(average, scheduler, held_out))
            losses = []
        if stage.due:
            stage.checkpoint(_state(model, optimisers, average))
        if time.time() - written > SNAPSHOT_SECONDS:
            _write(stage, average)
            written = time.time()
    if stage.rank == 0:
        stage.checkpoint(_state(model, optimisers, average))
        stage.log(**_evaluate(average, scheduler, held_out))
        _write(stage, average)


def _optimisers(model: torch.nn.Module, stage: Stage) -> list[torch.optim.Optimizer]:
    """Muon on the matrices of attention and feed-forward, AdamW on the rest.

    After 450 steps of 16 clips held-out v-loss is 0.237, with AdamW alone 0.265; a step takes a fifth longer.
    """
    matrices: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim == 2 and "transformer_blocks" in name and (".attn1." in name or ".ff." in name)
        (matrices if is_matrix else rest).append(parameter)
    return [
        Muon(matrices, lr=MUON_RATE, rank=stage.rank, world=stage.world),
        torch.optim.AdamW(rest, lr=ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _state(model: torch.nn.Module, optimisers: list[torch.optim.Optimizer], average: Average) -> dict[str, Any]:
    return {"model": model.state_dict(), "optim": [optim.state_dict() for optim in optimisers], "average": average.save()}


def share_gradients(model: torch.nn.Module, stage: Stage) -> float:
    """Average gradients over the processes; returns the first process's progress, so that all stop together."""
    if stage.world == 1:
        return stage.progress
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    progress = grads[0].new_tensor([stage.world * stage.progress if stage.rank == 0 else 0.0])
    flat = torch.cat([*(grad.flatten() for grad in grads), progress])
    torch.distributed.all_reduce(flat)
    flat /= stage.world
    for grad, mean in zip(grads, flat[:-1].split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(mean.view_as(grad))
    return flat[-1].item()


def _batch(stage: Stage, data: Latents) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """This process's share of latents, noise (B, F, C, h, w), tokens (B, L), time steps (B,): from seed and step alone."""
    rng = np.random.default_rng([stage.seed, stage.step])
    noise_rng = torch.Generator().manual_seed(stage.seed * 1_000_003 + stage.step)
    image = rng.uniform() < IMAGE_SHARE
    rows = torch.from_numpy(rng.integers(0, len(data.tokens), BATCH))
    latents = (data.alone if image else data.clip)[rows].float()
    tokens = data.tokens[rows].clone()
    tokens[torch.from_numpy(rng.uniform(size=BATCH) < EMPTY_SHARE)] = empty_tokens()
    levels = (rng.permutation(BATCH) + rng.uniform(size=BATCH)) / BATCH  # each part of the schedule once: less noise
    t = torch.from_numpy((1000 * levels**NOISY).astype(np.int64))
    noise = torch.randn(latents.shape, generator=noise_rng)
    mine = slice(stage.rank, None, stage.world)
    return latents[mine], noise[mine], tokens[mine], t[mine]


def empty_tokens() -> torch.Tensor:
    """The null text, (L,): </s> and padding."""
    tokens = torch.zeros(TEXT_TOKENS, dtype=torch.long)
    tokens[0] = 1
    return tokens


def _loss(
    model: TextToVideo,
    scheduler: Any,
    latents: torch.Tensor,
    noise: torch.Tensor,
    tokens: torch.Tensor,
    t: torch.Tensor,
) -> torch.Tensor:
    """Mean squared error on v."""
    noisy = scheduler.add_noise(latents, noise, t)
    with torch.autocast(latents.device.type, torch.bfloat16, enabled=computes_bf16(latents.device.type)):
        output = model(noisy, tokens, t)
    return F.mse_loss(output.float(), scheduler.get_velocity(latents, noise, t))


def _averaged(average: Average) -> TextToVideo:
    model = TextToVideo(0)
    model.load_state_dict(average.state)
    return model.eval().to(next(iter(average.state.values())).device)


@torch.no_grad()
def _evaluate(average: Average, scheduler: Any, held_out: Latents) -> dict[str, float]:
    """Held-out v-loss at fixed noise levels, with each clip's own caption and with another clip's."""
    model, row, rng = _averaged(average), {}, torch.Generator().manual_seed(0)
    device = next(model.parameters()).device
    latents = held_out.clip.float().to(device)
    noise = torch.randn(latents.shape, generator=rng).to(device)
    for name, tokens in (("v", held_out.tokens), ("v_wrong_text", held_out.tokens.roll(1, 0))):
        for level in LEVELS if name == "v" else (700, 900):
            t = torch.full((len(latents),), level, device=device)
            row[f"{name}_{level}"] = round(_loss(model, scheduler, latents, noise, tokens.to(device), t).item(), 5)
    row["v_mean"] = round(sum(row[f"v_{level}"] for level in LEVELS) / len(LEVELS), 5)
    return row


def _write(stage: Stage, average: Average) -> None:
    model = _averaged(average)
    save_part("transformer", model.transformer, stage.out)
    save_part("text_encoder", model.text_encoder, stage.out)
