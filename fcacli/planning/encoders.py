"""The bytes of the frozen encoders and of decoding: one part of the base at a time, on a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from fcacli.config import ClipConfig
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.model.bases.frames import safe_frames
from fcacli.model.bases.parts import text_blocks
from fcacli.model.block_swap import most_at_once
from fcacli.planning.live import Meter


@dataclass(frozen=True)
class Part:
    """One part at work."""

    weights: int
    """Bytes."""
    peak: int
    """Bytes, the weights included."""
    spared: int = 0
    """Of the peak, what can wait in main memory where the device has no room: blocks of the text encoder, but for two."""


Work = Callable[[CogVideoX, ClipConfig, int], object]
"""(base, clip, batch): what the part does with a batch."""


def trace_part(base: CogVideoX, part: str, clip: ClipConfig, batch: int, meter: Meter) -> Part:
    """`part` of WORK doing its work."""
    weights = weights_of(getattr(base, part), meter)
    WORK[part](base, clip, batch)
    meter.mark(part)
    return Part(weights, meter.marks[part], _spared(base) if part == "text_encoder" else 0)


def _spared(base: CogVideoX) -> int:
    blocks = [[parameter.nbytes for parameter in block.parameters()] for block in text_blocks(base.text_encoder)]
    return max(0, sum(map(sum, blocks)) - most_at_once(blocks))


def trace_decoding(base: CogVideoX, clip: ClipConfig, meter: Meter) -> Part:
    """The VAE decoding one clip."""
    weights = weights_of(base.vae, meter)
    base.pixels(torch.zeros(base.latent_shape(clip)), clip.frames)
    meter.mark("decode")
    return Part(weights, meter.marks["decode"])


def weights_of(module: nn.Module, meter: Meter) -> int:
    """Bytes of a part that is there now, and alone."""
    tensors = [*module.parameters(), *module.buffers()]
    meter.see_all(tensors)
    meter.restart()
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@torch.no_grad()
def _captions(base: CogVideoX, clip: ClipConfig, batch: int) -> object:
    """As base.encode_text behind the tokenizer."""
    return base.text_encoder(torch.zeros(batch, base.text_length, dtype=torch.int64))[0].to(base.dtype)


def _videos(base: CogVideoX, clip: ClipConfig, batch: int) -> object:
    """All frames, then the given ones alone."""
    shape = (batch, safe_frames(clip.frames, base.temporal_patch), clip.height, clip.width, 3)
    frames = np.zeros(shape, np.uint8)
    return base.encode_video(frames), base.encode_init(frames[:, : clip.init_frames])


def _images(base: CogVideoX, clip: ClipConfig, batch: int) -> object:
    return base.encode_image(np.zeros((batch * clip.init_frames, clip.height, clip.width, 3), np.uint8))


WORK: dict[str, Work] = {"text_encoder": _captions, "vae": _videos, "image_encoder": _images}
