"""Stage `clip`: a small CLIP on single frames of clips against its caption, both domains.

A single frame shows what is there and where the hand is; the verb only partly. So it tells objects, not motion.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPModel

from fcacli.mini.build import TEXT_TOKENS, build_part, build_tokenizer, load_part, save_part
from fcacli.mini.scene import Domain
from fcacli.mini.stage import HELD_OUT_SEED, TRAIN_SEED, Average, Stage
from fcacli.mini.world import render, sample_clip
from fcacli.model.arithmetic import computes_bf16

CLIPS: dict[Domain, int] = {"base": 4000, "adapt": 2000}
HELD_OUT, SHOWN = 128, (0, 5, 9, 14)
BATCH, PEAK_RATE, WARMUP = 96, 1.5e-3, 60
EVAL_EVERY = 100


def train(stage: Stage) -> None:
    """Train until the stage ends; leaves weights/clip."""
    frames, tokens = _load(TRAIN_SEED, CLIPS)
    held_out = {domain: _load(HELD_OUT_SEED, {domain: HELD_OUT}) for domain in CLIPS}
    model = load_part("clip", stage.out) if stage.from_weights else build_part("clip", stage.seed)
    average = Average(model, 0.99)
    optim = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    saved = stage.resume()
    if saved:
        model.load_state_dict(saved["model"])
        optim.load_state_dict(saved["optim"])
        average.load(saved["average"])
    while stage.progress < 1.0:
        rng = np.random.default_rng([stage.seed, stage.step])
        for group in optim.param_groups:
            group["lr"] = stage.rate(PEAK_RATE * stage.peak, WARMUP)
        rows = rng.choice(len(frames), BATCH, replace=False)
        pixels = _pixels(frames[rows, rng.integers(0, len(SHOWN), BATCH)])
        with torch.autocast("cpu", torch.bfloat16, enabled=computes_bf16("cpu")):
            image, text = _embed(model, pixels, tokens[torch.from_numpy(rows)])
        loss = _contrast(image.float(), text.float(), model.logit_scale, tokens[torch.from_numpy(rows)])
        optim.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optim.step()
        average.update(model)
        stage.step += 1
        if stage.step % EVAL_EVERY == 0:
            stage.log(loss=round(loss.item(), 4), **_evaluate(average, held_out))
        if stage.due:
            stage.checkpoint({"model": model.state_dict(), "optim": optim.state_dict(), "average": average.save()})
    stage.checkpoint({"model": model.state_dict(), "optim": optim.state_dict(), "average": average.save()})
    stage.log(**_evaluate(average, held_out))
    save_part("clip", _averaged(average), stage.out)


def _load(seed: int, counts: dict[Domain, int]) -> tuple[np.ndarray, torch.Tensor]:
    """The SHOWN frames (n, k, 48, 48, 3) and tokens (n, L) of clips."""
    clips = [sample_clip(seed, i, domain) for domain, count in counts.items() for i in range(count)]
    frames = np.stack([render(clip.scene, clip.paths().at(SHOWN)) for clip in clips])
    captions = [clip.caption for clip in clips]
    tokens = build_tokenizer()(captions, padding="max_length", max_length=TEXT_TOKENS, return_tensors="pt").input_ids
    return frames, tokens


def _pixels(frames: np.ndarray) -> torch.Tensor:
    """uint8 (B, 48, 48, 3) -> (B, 3, 48, 48), normalised as preprocessor_config.json says."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def _embed(model: CLIPModel, pixels: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors (B, 64) of images and captions."""
    out = model(input_ids=tokens, pixel_values=pixels, attention_mask=(tokens != 0).long())
    return out.image_embeds, out.text_embeds


def _contrast(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """CLIP's symmetric loss; equal captions in a batch share the target."""
    logits = image @ text.T * scale.exp().clamp(max=50.0)  # (B, B)
    same = (tokens[:, None] == tokens[None]).all(-1).float()
    target = same / same.sum(1, keepdim=True)
    return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))


def _averaged(average: Average) -> CLIPModel:
    model = build_part("clip", 0)
    model.load_state_dict(average.state)
    return model.eval()


@torch.no_grad()
def _evaluate(average: Average, held_out: Mapping[Domain, tuple[np.ndarray, torch.Tensor]]) -> dict[str, float]:
    """Retrieval of the caption of frame 9 among 128 (top 5 share), per domain."""
    model, row = _averaged(average), {}
    for domain, (frames, tokens) in held_out.items():
        image, text = _embed(model, _pixels(frames[:, SHOWN.index(9)]), tokens)
        rank = (image @ text.T > (image * text).sum(1, keepdim=True)).sum(1)
        row[f"top5_{domain}"] = round((rank < 5).float().mean().item(), 3)
    return row
