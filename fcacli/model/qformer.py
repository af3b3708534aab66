"""Frame-wise text: turns the caption and the initial frames into M tokens for each latent frame.

The caption says what happens, not when. Modelled on BLIP-2's Q-Former (Li et al., 2023):

    queries (F*M learned vectors + a frame position)
      -> [self-attention over [queries ; text], cross-attention to ViT patches, feed-forward] x blocks
      -> LayerNorm -> linear to d -> y_frames (F, M, d)

    B batch · F latent frames · M tokens per latent frame · L text tokens · P ViT patches · w module width · d DiT width
"""

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional

from fcacli.config import FCAConfig
from fcacli.model.functional import attend


class FrameText(nn.Module):
    """One frame-wise text module.

    Args:
        config: widths, heads, blocks, and whether ViT patches are seen.
        frames: F.
        text_dim, image_dim: widths of the text encoder's and the ViT's features.
        d: width of the DiT.
    """

    def __init__(self, config: FCAConfig, frames: int, text_dim: int, image_dim: int, d: int):
        super().__init__()
        width = config.text_width
        self.queries = nn.Parameter(torch.randn(frames, config.tokens_per_frame, width))  # (F, M, w)
        self.frame_position = nn.Parameter(torch.randn(frames, 1, width))  # (F, 1, w)
        self.text_in = nn.Sequential(nn.LayerNorm(text_dim), nn.Linear(text_dim, width))
        self.image_in = None
        if config.image_features == "vit":
            self.image_in = nn.Sequential(nn.LayerNorm(image_dim), nn.Linear(image_dim, width))
        self.blocks = nn.ModuleList(
            FrameTextBlock(width, config.text_heads, config.image_features) for _ in range(config.text_blocks)
        )
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, d)
        # unit variance, like the normalised features from which the copied W_k and W_v learned
        nn.init.normal_(self.out.weight, std=width**-0.5)
        nn.init.zeros_(self.out.bias)

    def forward(self, text: Tensor, text_mask: Tensor, image: Tensor) -> Tensor:
        """text (B, L, d_text), text_mask (B, L) true for real tokens, image (B, P, d_image) -> y_frames (B, F, M, d)."""
        dtype = self.queries.dtype
        queries = self.queries + self.frame_position  # (F, M, w)
        frames = queries.shape[0]
        queries = repeat(queries, "f m w -> b (f m) w", b=text.shape[0])
        text = self.text_in(text.to(dtype))  # (B, L, w)
        patches = self.image_in(image.to(dtype)) if self.image_in is not None else None  # (B, P, w)
        seen = functional.pad(text_mask, (queries.shape[1], 0), value=True)[:, None, None]  # (B, 1, 1, F*M + L)
        for block in self.blocks:
            queries, text = block(queries, text, patches, seen)
        return self.out(self.norm(rearrange(queries, "b (f m) w -> b f m w", f=frames)))


class FrameTextBlock(nn.Module):
    """Self-attention over [queries ; text], cross-attention of the queries to the patches, feed-forward; pre-norm."""

    def __init__(self, width: int, heads: int, image_features: str):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.self_attention = MultiHeadAttention(width, heads)
        self.norm2 = nn.LayerNorm(width) if image_features == "vit" else None
        self.cross_attention = MultiHeadAttention(width, heads) if image_features == "vit" else None
        self.norm3 = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, queries: Tensor, text: Tensor, patches: Tensor | None, seen: Tensor) -> tuple[Tensor, Tensor]:
        """queries (B, F*M, w), text (B, L, w), patches (B, P, w), seen (B, 1, 1, F*M + L) -> new queries and text."""
        count = queries.shape[1]
        tokens = torch.cat([queries, text], dim=1)  # (B, F*M + L, w)
        normed = self.norm1(tokens)
        tokens = tokens + self.self_attention(normed, normed, seen)
        if self.cross_attention is not None and self.norm2 is not None and patches is not None:
            queries = tokens[:, :count]
            queries = queries + self.cross_attention(self.norm2(queries), patches, None)
            tokens = torch.cat([queries, tokens[:, count:]], dim=1)
        tokens = tokens + self.feed_forward(self.norm3(tokens))
        return tokens[:, :count], tokens[:, count:]


class MultiHeadAttention(nn.Module):
    """Attention of x (B, S, w) to context (B, S', w); seen (B, 1, 1, S') is true where the context may be read."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width)
        self.to_kv = nn.Linear(width, 2 * width)
        self.to_out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor, seen: Tensor | None) -> Tensor:
        query = rearrange(self.to_q(x), "b s (h c) -> b h s c", h=self.heads)
        key, value = rearrange(self.to_kv(context), "b s (two h c) -> two b h s c", two=2, h=self.heads)
        attended = attend(query, key, value, seen)
        return self.to_out(rearrange(attended, "b h s c -> b s (h c)"))
