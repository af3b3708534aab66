"""Stages `vae` and `decoder`: reconstruction of random crops, then of whole pictures, of clips and of one or two frames alone.

A video autoencoder is a general codec, so this stage alone sees both domains, and channels in random order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCogVideoX

from fcacli.mini.build import SIZE, build_part, load_part, save_part
from fcacli.mini.scene import Domain
from fcacli.mini.stage import HELD_OUT_SEED, TRAIN_SEED, Average, Stage, clips_as_video, to_video_tensor
from fcacli.model.arithmetic import computes_bf16

CLIPS: dict[Domain, int] = {"base": 1500, "adapt": 1000}
HELD_OUT = 24
PEAK_RATE, WARMUP, KL_WEIGHT, L1_WEIGHT = 2.5e-3, 100, 2e-5, 0.02
WHOLE_FROM, ALONE_SHARE, SHUFFLED_SHARE = 0.5, 0.12, 0.15
EVAL_EVERY = 250


def train(stage: Stage) -> None:
    """Train all of it until the stage ends; leaves weights/vae with the scaling factor set."""
    vae = load_part("vae", stage.out) if stage.from_weights else build_part("vae", stage.seed)
    _fit(stage, vae, whole_from=WHOLE_FROM)


def train_decoder(stage: Stage) -> None:
    """Continue with the decoder alone: latents, and so the transformer, stay what they are."""
    vae: Any = AutoencoderKLCogVideoX.from_pretrained(stage.out / "vae").float()
    vae.encoder.requires_grad_(False)
    _fit(stage, vae, whole_from=0.0)


def _fit(stage: Stage, vae: Any, whole_from: float) -> None:
    """Train what requires a gradient."""
    train_set = np.concatenate([clips_as_video(TRAIN_SEED, 0, count, domain)[0] for domain, count in CLIPS.items()])
    held_out = {domain: to_video_tensor(clips_as_video(HELD_OUT_SEED, 0, HELD_OUT, domain)[0]) for domain in CLIPS}
    frozen = not next(vae.encoder.parameters()).requires_grad
    average = Average(vae, 0.998)
    trained = [p for p in vae.parameters() if p.requires_grad]
    optim = torch.optim.AdamW(trained, lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=1e-4)
    saved = stage.resume()
    if saved:
        vae.load_state_dict(saved["vae"])
        optim.load_state_dict(saved["optim"])
        average.load(saved["average"])
    factor = vae.config.scaling_factor if frozen else None
    while stage.progress < 1.0:
        rng = np.random.default_rng([stage.seed, stage.step])
        torch.manual_seed(stage.seed * 1_000_003 + stage.step)
        for group in optim.param_groups:
            group["lr"] = stage.rate(PEAK_RATE * stage.peak * (0.4 if frozen else 1.0), WARMUP)
        loss = _loss(vae, _batch(rng, train_set, whole=stage.progress >= whole_from))
        optim.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optim.step()
        average.update(vae)
        stage.step += 1
        if stage.step % EVAL_EVERY == 0:
            stage.log(loss=round(loss.item(), 5), **_evaluate(average, held_out))
        if stage.due:
            stage.checkpoint({"vae": vae.state_dict(), "optim": optim.state_dict(), "average": average.save()})
            _write(stage, average, held_out, factor)
    stage.checkpoint({"vae": vae.state_dict(), "optim": optim.state_dict(), "average": average.save()})
    stage.log(**_evaluate(average, held_out), scaling_factor=_write(stage, average, held_out, factor))


def _batch(rng: np.random.Generator, videos: np.ndarray, whole: bool) -> torch.Tensor:
    """(B, 3, T, h, w): crops first, whole pictures later; sometimes one or two frames alone."""
    alone = rng.uniform() < ALONE_SHARE
    side = SIZE if whole else int(rng.choice([24, 32]))
    pixels = 8 * 24 * 24 * (1.0 if side < 32 else 1.2)
    count = max(2, round(pixels / side**2)) * (6 if alone else 1)
    top, left = rng.integers(0, SIZE - side + 1, 2)
    video = videos[rng.integers(0, len(videos), count), :, top : top + side, left : left + side]
    if alone:
        start = 0 if rng.uniform() < 0.5 else int(rng.integers(0, 15))
        video = video[:, start : start + int(rng.integers(1, 3))]
    if rng.uniform() < SHUFFLED_SHARE:
        video = video[..., rng.permutation(3)]
    return to_video_tensor(np.ascontiguousarray(video))


def _loss(vae: Any, video: torch.Tensor) -> torch.Tensor:
    """Squared and absolute error plus a small KL term; two frames alone decode to one."""
    with torch.autocast("cpu", torch.bfloat16, enabled=computes_bf16("cpu")):
        posterior = vae.encode(video).latent_dist
        output = vae.decode(posterior.sample()).sample.float()
    target = video[:, :, : output.shape[2]]
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    kl = 0.5 * (mean**2 + logvar.exp() - 1.0 - logvar).mean()
    return F.mse_loss(output, target) + L1_WEIGHT * F.l1_loss(output, target) + KL_WEIGHT * kl


def _averaged(average: Average) -> Any:
    vae = build_part("vae", 0)
    vae.load_state_dict(average.state)
    return vae.eval()


@torch.no_grad()
def _evaluate(average: Average, held_out: Mapping[Domain, torch.Tensor]) -> dict[str, float]:
    """Held-out PSNR in dB of whole clips, and of the first two frames encoded alone."""
    vae, row = _averaged(average), {}
    for domain, video in held_out.items():
        latents = vae.encode(video).latent_dist.mode()
        row[f"psnr_{domain}"] = _psnr(vae.decode(latents).sample, video)
        alone = vae.encode(video[:, :, :2]).latent_dist.mode()
        row[f"psnr_{domain}_init"] = _psnr(vae.decode(alone).sample, video[:, :, :1])
    return row


def _psnr(output: torch.Tensor, video: torch.Tensor) -> float:
    error = ((output.clamp(-1, 1) - video) / 2).pow(2).mean(dim=(1, 2, 3, 4))
    return round((-10 * error.log10()).mean().item(), 2)


@torch.no_grad()
def _write(stage: Stage, average: Average, held_out: Mapping[Domain, torch.Tensor], factor: float | None) -> float:
    """Save weights/vae; the scaling factor, measured where none is given, brings latents to unit variance."""
    vae = _averaged(average)
    factor = factor or round(1.0 / vae.encode(held_out["base"]).latent_dist.mode().std().item(), 5)
    vae.register_to_config(scaling_factor=factor)
    save_part("vae", vae, stage.out)
    return factor
