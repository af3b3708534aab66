"""The seam in a CogVideoXBlock: where its attention reads, what FCA copies from it, and where FCA's output is added.

video (B, F*N, d) · text (B, L, d) · temb (B, time embedding)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

BLOCKS = "transformer_blocks"
"""Attribute of the transformer that holds the list of blocks."""


@dataclass(frozen=True)
class Modulated:
    """The block's adaptive LayerNorm, applied: the attention's inputs and the gates of its residuals."""

    video: Tensor
    """(B, F*N, d)"""
    text: Tensor
    """(B, L, d)"""
    gate_video: Tensor
    """(B, 1, d)"""
    gate_text: Tensor
    """(B, 1, d)"""


@dataclass(frozen=True)
class AttentionParts:
    """The frozen modules from which the parallel module starts."""

    norm: nn.Module
    """adaLN: (video, text, temb) -> video, text, gate_video, gate_text."""
    to_q: nn.Module
    to_k: nn.Module
    to_v: nn.Module
    norm_q: nn.Module | None
    norm_k: nn.Module | None


Parallel = Callable[[Tensor, Tensor, Tensor, Modulated], tuple[Tensor, Tensor]]
"""(video, text, temb, modulated) -> what the parallel module adds to video and to text, gated."""


def attention_parts(block: Any) -> AttentionParts:
    attention = block.attn1
    return AttentionParts(block.norm1, attention.to_q, attention.to_k, attention.to_v, attention.norm_q, attention.norm_k)


def first_part(block: Any) -> nn.Module:
    """The module of a block that is called first, whichever way the block is used."""
    return block.norm1


def compilable_parts(block: Any) -> list[nn.Module]:
    """The modules of a block that compute alike whether an adapter is beside them or not."""
    return [block.norm1, block.attn1, block.norm2, block.ff]


def shared_parts(block: Any) -> list[nn.Module]:
    """The modules of a block whose weights may be shared out among processes; always called as they are."""
    return [block.norm1.linear, block.attn1, block.norm2.linear, block.ff]


def attention_input(block: Any, video: Tensor, text: Tensor, temb: Tensor) -> Tensor:
    """What the block's attention reads of the video: (B, F*N, d) after adaLN."""
    return block.norm1(video, text, temb)[0]


def forward_with_parallel(
    block: Any,
    parallel: Parallel,
    video: Tensor,
    text: Tensor,
    temb: Tensor,
    rotary: tuple[Tensor, Tensor] | None,
    attention_kwargs: dict[str, Any],
) -> tuple[Tensor, Tensor]:
    """CogVideoXBlock.forward with one addition, the parallel module at the attention's residual:

    [y; x_t] <- [y; x_t] + gate_base * base_attention(...) + gate * out

    Every operation of the block is there, in its order, so that `parallel` adding zeros leaves the result the same bits.
    """
    # attention, base and parallel
    modulated = Modulated(*block.norm1(video, text, temb))
    attended_video, attended_text = block.attn1(
        hidden_states=modulated.video,
        encoder_hidden_states=modulated.text,
        image_rotary_emb=rotary,
        **attention_kwargs,
    )
    added_video, added_text = parallel(video, text, temb, modulated)
    video = video + modulated.gate_video * attended_video
    text = text + modulated.gate_text * attended_text
    video = video + added_video.to(video.dtype)
    text = text + added_text.to(text.dtype)
    del modulated, attended_video, attended_text, added_video, added_text  # not there beside what the feed-forward makes

    return _feed_forward(block, video, text, temb)


def forward_with_more_text(
    block: Any,
    more: Tensor,
    video: Tensor,
    text: Tensor,
    temb: Tensor,
    rotary: tuple[Tensor, Tensor] | None,
    attention_kwargs: dict[str, Any],
) -> tuple[Tensor, Tensor]:
    """CogVideoXBlock.forward, its attention reading `more` (B, S, d) behind the text; what comes out there is dropped."""
    modulated = Modulated(*block.norm1(video, text, temb))
    attended_video, attended_text = block.attn1(
        hidden_states=modulated.video,
        encoder_hidden_states=torch.cat([modulated.text, more.to(modulated.text.dtype)], dim=1),
        image_rotary_emb=rotary,
        **attention_kwargs,
    )
    video = video + modulated.gate_video * attended_video
    text = text + modulated.gate_text * attended_text[:, : text.shape[1]]
    return _feed_forward(block, video, text, temb)


def _feed_forward(block: Any, video: Tensor, text: Tensor, temb: Tensor) -> tuple[Tensor, Tensor]:
    """The second half of a block."""
    text_length = text.shape[1]
    normed_video, normed_text, gate_video, gate_text = block.norm2(video, text, temb)
    normed = torch.cat([normed_text, normed_video], dim=1)
    del normed_video, normed_text
    output = block.ff(normed)
    video = video + gate_video * output[:, text_length:]
    text = text + gate_text * output[:, :text_length]
    return video, text
