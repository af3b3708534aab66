"""Stage `judge`: clips made from held-out captions alone, judged by the oracle. This is how good the base is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fcacli.mini.build import FRAMES, TEXT_TOKENS, load_pipeline
from fcacli.mini.oracle import shows
from fcacli.mini.stage import HELD_OUT_SEED, Stage
from fcacli.mini.world import sample_clip
from fcacli.model.bases.narrow_convolution import convolve_by_frame
from fcacli.prediction.fresh_noise import FreshNoiseScheduler

CLIPS, FIRST, BATCH, STEPS, GUIDANCE = 256, 10_000, 16, 16, 4.0
"""Held-out clips whose captions are taken, from which index on; how they are sampled, chosen on 192 other captions."""


def judge(stage: Stage) -> None:
    """Log the share of clips that show the named colour, the named thing, and the named motion."""
    pipeline: Any = load_pipeline(stage.out)
    pipeline.scheduler = FreshNoiseScheduler.from_config(pipeline.scheduler.config)
    pipeline.to(stage.device)
    if stage.device == "cpu":
        convolve_by_frame(pipeline.vae)
    actions = [sample_clip(HELD_OUT_SEED, FIRST + i, "base").action for i in range(CLIPS)]
    shown = []
    for first in range(0, CLIPS, BATCH):
        part = actions[first : first + BATCH]
        shown += [shows(video, action) for video, action in zip(_made(pipeline, part, first), part, strict=True)]
    parts = {name: float(np.mean([getattr(one, name) for one in shown])) for name in ("colour", "thing", "motion")}
    verbs = {
        verb: round(float(np.mean([s.motion for s, a in zip(shown, actions, strict=True) if a.verb == verb])), 3)
        for verb in sorted({action.verb for action in actions})
    }
    rounded = {name: round(value, 3) for name, value in parts.items()}
    stage.log(clips=CLIPS, sampler="fresh-noise", sampling_steps=STEPS, guidance=GUIDANCE, **rounded, motion_by_verb=verbs)


@torch.no_grad()
def _made(pipeline: Any, actions: list[Any], seed: int) -> np.ndarray:
    """uint8 (n, T, 48, 48, 3)."""
    made = pipeline(
        [action.caption for action in actions],
        num_frames=FRAMES,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        max_sequence_length=TEXT_TOKENS,
        generator=torch.Generator().manual_seed(seed),
        output_type="np",
    )
    return (made.frames * 255).round().astype(np.uint8)
