"""FCA's parallel module written a second time, from its equations, with the dense frame-wise mask and nothing folded.

    q    = W_q  adaLN([y; x_t], t)
    k, v = W_k, W_v  [y_frames ; x_init]
    out  = W_o  softmax(q k^T / sqrt(d_head) + frame_wise_mask) v

It shares no code with fcacli.model: one token and one head at a time where that is clearer.
"""

import math

import torch
from torch import Tensor


def dense_mask(text: int, frames: int, per_frame: int, tokens: int, init: int) -> Tensor:
    """0 or -inf, (L + F*N, F*M + K): text rows all 0; a video row of frame f is 0 at y_frames of f and at x_init."""
    mask = torch.full((text + frames * per_frame, frames * tokens + init), -math.inf)
    mask[:text] = 0
    mask[:, frames * tokens :] = 0
    for frame in range(frames):
        for token in range(per_frame):
            mask[text + frame * per_frame + token, frame * tokens : (frame + 1) * tokens] = 0
    return mask


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding by complex numbers: x (S, c), channel pairs (0, 1), (2, 3), ... are complex numbers."""
    as_complex = torch.view_as_complex(x.reshape(len(x), -1, 2).contiguous())
    return torch.view_as_real(as_complex * torch.complex(cos[:, ::2], sin[:, ::2])).reshape(x.shape)


def parallel_module(
    state: dict[str, Tensor],
    head_dim: int,
    video: Tensor,
    text: Tensor,
    temb: Tensor,
    y_frames: Tensor,
    x_init: Tensor,
    rotary: tuple[Tensor, Tensor] | None,
    init_rotary: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor]:
    """gate * out of one sample, for video (F*N, d) and text (L, d).

    Args:
        state: the layer's tensors by name.
        temb: (time embedding,); y_frames: (F, M, d); x_init: (K, d).
    """
    frames, tokens, d = y_frames.shape
    time = state["norm.linear.weight"] @ (temb * torch.sigmoid(temb)) + state["norm.linear.bias"]
    shift, scale, gate, text_shift, text_scale, text_gate = time.reshape(6, d)
    normed = [layer_norm(x, state["norm.norm.weight"], state["norm.norm.bias"], 1e-5) for x in (text, video)]
    stream = torch.cat([normed[0] * (1 + text_scale) + text_shift, normed[1] * (1 + scale) + shift])
    context = torch.cat([y_frames.reshape(frames * tokens, d), x_init])
    query, key, value = (
        x @ state[f"{name}.weight"].T + state[f"{name}.bias"]
        for name, x in (("to_q", stream), ("to_k", context), ("to_v", context))
    )
    mask = dense_mask(len(text), frames, len(video) // frames, tokens, len(x_init))
    heads = []
    for start in range(0, query.shape[1], head_dim):
        columns = slice(start, start + head_dim)
        q = layer_norm(query[:, columns], state["norm_q.weight"], state["norm_q.bias"], 1e-6)
        k = layer_norm(key[:, columns], state["norm_k.weight"], state["norm_k.bias"], 1e-6)
        if rotary is not None and init_rotary is not None:
            q = torch.cat([q[: len(text)], turn(q[len(text) :], *rotary)])
            k = torch.cat([k[: frames * tokens], turn(k[frames * tokens :], *init_rotary)])
        weights = torch.softmax(q @ k.T / math.sqrt(head_dim) + mask, dim=-1)
        heads.append(weights @ value[:, columns])
    out = torch.cat(heads, dim=1) @ state["to_out.weight"].T + state["to_out.bias"]
    return gate * out[len(text) :], text_gate * out[: len(text)]
