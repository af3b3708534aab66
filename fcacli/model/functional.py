"""The attention of FCA as pure functions.

    B batch · H heads · c head width · L text tokens · F latent frames · N video tokens per latent frame
    M frame-wise text tokens per latent frame · K initial-frame tokens

    out = softmax(q k^T / sqrt(c) + frame_wise_mask) v,   q from [y; x_t],   k, v from [y_frames ; x_init]

Source: Liu et al., Frame-wise Conditioning Adaptation, TMLR 2025, section "the frame-wise mask".
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from einops import rearrange, repeat
from torch import Tensor
from torch.nn import functional as F


def frame_wise_attention(
    text: Tensor, video: Tensor, key_frames: Tensor, value_frames: Tensor, key_init: Tensor, value_init: Tensor
) -> tuple[Tensor, Tensor]:
    """Video queries of latent frame f see y_frames of frame f and all of x_init; text queries see everything.

    There is no mask: F is folded into the batch, and each frame's N queries get their own keys [y_frames_f ; x_init].

    Args:
        text, video: queries, (B, H, L, c) and (B, H, F*N, c).
        key_frames, value_frames: (B, H, F, M, c); M may be 0.
        key_init, value_init: (B, H, K, c); K may be 0.

    Returns:
        what text and video have read, side by side over the heads: (B, L, H*c) and (B, F*N, H*c)
    """
    frames = key_frames.shape[2]
    attended_text = attend(text, all_keys(key_frames, key_init), all_keys(value_frames, value_init))  # (B, H, L, c)
    attended_video = attend(
        rearrange(video, "b h (f n) c -> (b f) h n c", f=frames),
        keys_of_each_frame(key_frames, key_init),
        keys_of_each_frame(value_frames, value_init),
    )  # (B*F, H, N, c)
    return side_by_side(attended_text), rearrange(attended_video, "(b f) h n c -> b (f n) (h c)", f=frames)


def unmasked_attention(
    text: Tensor, video: Tensor, key_frames: Tensor, value_frames: Tensor, key_init: Tensor, value_init: Tensor
) -> tuple[Tensor, Tensor]:
    """The ablation without the frame-wise mask: every query sees all y_frames and all of x_init."""
    key, value = all_keys(key_frames, key_init), all_keys(value_frames, value_init)
    return side_by_side(attend(text, key, value)), side_by_side(attend(video, key, value))


def side_by_side(attended: Tensor) -> Tensor:
    """(B, H, S, c) -> (B, S, H*c)"""
    return rearrange(attended, "b h s c -> b s (h c)")


def attend(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(c)) v for (B, H, S, c) and (B, H, S', c); `seen` is true where a key may be read.

    Torch's fused attention, except in training on a CPU, not compiled: its backward in bfloat16 takes twice as long there as
    these two matrix products.
    """
    in_training = torch.is_grad_enabled() and query.requires_grad
    if query.device.type != "cpu" or not in_training or torch.compiler.is_compiling() or _always_fused.get():
        return F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)  # (B, H, S, S')
    if seen is not None:
        scores = scores.masked_fill(~seen, -torch.inf)
    return scores.softmax(-1) @ value


@contextmanager
def always_fused() -> Iterator[None]:
    """Inside, torch's fused attention also in training on a CPU: a plan for a CUDA device is traced so."""
    token = _always_fused.set(True)
    try:
        yield
    finally:
        _always_fused.reset(token)


_always_fused = ContextVar("always_fused", default=False)


def all_keys(frames: Tensor, init: Tensor) -> Tensor:
    """[y_frames ; x_init] of all frames: (B, H, F, M, c), (B, H, K, c) -> (B, H, F*M + K, c)."""
    return torch.cat([frames.flatten(2, 3), init], dim=2)


def keys_of_each_frame(frames: Tensor, init: Tensor) -> Tensor:
    """[y_frames_f ; x_init] of each frame: (B, H, F, M, c), (B, H, K, c) -> (B*F, H, M + K, c)."""
    each_init = repeat(init, "b h k c -> b f h k c", f=frames.shape[2])
    return torch.cat([rearrange(frames, "b h f m c -> b f h m c"), each_init], dim=3).flatten(0, 1)


def rotate(x: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
    """Rotary embedding of x (B, H, S, c) by (cos, sin), each (S, c), channels in pairs; x itself where there is none.

    Source: Su et al., RoFormer, 2021, in CogVideoX's convention.
    """
    if rotary is None:
        return x
    cos, sin = (part.to(x.device) for part in rotary)
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)  # (B, H, S, c/2)
    quarter_turn = torch.stack([-odd, even], dim=-1).flatten(-2)  # (B, H, S, c)
    return (x.float() * cos + quarter_turn * sin).to(x.dtype)
