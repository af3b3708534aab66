"""What conditions a prediction: the encoded inputs of a clip (`Given`), and what an adapter makes of them once per clip.

B batch · F0 latents of the initial frames · L text tokens · P ViT patches · H heads · c head width
F latent frames · M frame-wise text tokens per latent frame · K initial-frame tokens · D layers
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fcacli.errors import FcaError


class _Batched:
    """Dataclasses whose fields are batched tensors (or None, or tuples of such objects): move, join, select."""

    def _map(self, *others: _Batched, function):  # type: ignore[no-untyped-def]
        values: dict[str, Any] = {}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            column = [getattr(item, field.name) for item in (self, *others)]
            if column[0] is None:
                values[field.name] = None
            elif isinstance(column[0], tuple):
                values[field.name] = tuple(first._map(*rest, function=function) for first, *rest in zip(*column, strict=True))
            else:
                values[field.name] = function(*column)
        return type(self)(**values)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None):  # type: ignore[no-untyped-def]
        """The same on `device`, floating tensors in `dtype`."""
        return self._map(function=lambda x: x.to(device=device, dtype=dtype if x.is_floating_point() else None))

    def cat(self, other):  # type: ignore[no-untyped-def]
        """Both batches as one, self first: [null; given] for classifier-free guidance."""
        return self._map(other, function=lambda x, y: torch.cat([x, y]))

    def __getitem__(self, index: slice):  # type: ignore[no-untyped-def]
        """Some rows of the batch."""
        return self._map(function=lambda x: x[index])


@dataclass(frozen=True)
class Given(_Batched):
    """The encoded inputs of a batch of clips; nothing here depends on the frames to be predicted."""

    init_latents: Tensor
    """(B, F0, C, h, w), the initial frames encoded alone."""
    text: Tensor
    """(B, L, d_text), the caption, or the empty caption for the null half of classifier-free guidance."""
    text_mask: Tensor
    """(B, L) bool, true for real tokens."""
    image: Tensor
    """(B, P, d_image), ViT patch features of the initial frames."""


@dataclass(frozen=True)
class LayerConditioning(_Batched):
    """Keys and values of one layer, rotary embedding and norm applied; K or M is 0 in the ablations without that part."""

    key_frames: Tensor
    """(B, H, F, M, c)"""
    value_frames: Tensor
    """(B, H, F, M, c)"""
    key_init: Tensor
    """(B, H, K, c)"""
    value_init: Tensor
    """(B, H, K, c)"""


@dataclass(frozen=True)
class AppendedText(_Batched):
    """What the frozen attention of one layer reads behind its text, in the ablation without parallel modules."""

    tokens: Tensor
    """(B, F*M + K, d)"""


@dataclass(frozen=True)
class FCAConditioning(_Batched):
    """Keys and values of every adapted layer, computed once per clip and used at every denoising step."""

    layers: tuple[LayerConditioning, ...] | tuple[AppendedText, ...]
    front: Tensor | None = None
    """(B, F0, C, h, w), clean latents that stand in front of the video; None but for fca-in-context."""


@dataclass(frozen=True)
class InitLatents(_Batched):
    """What the LoRA baseline is conditioned on: (B, F0, C, h, w), clean."""

    latents: Tensor


class Tap:
    """Collects each layer's attention input during a frozen pass of so many layers: features[i] is x_init (B, K, d) of
    layer i."""

    def __init__(self, layers: int) -> None:
        self.layers = layers
        self.features: list[Tensor] = []

    @property
    def complete(self) -> bool:
        """Whether what follows in the pass is for nothing."""
        return len(self.features) == self.layers

    def record(self, layer: int, features: Tensor) -> None:
        if layer != len(self.features):
            raise FcaError(f"layer {layer} of the frozen pass ran after {len(self.features)} others")
        self.features.append(features)


Conditioning = FCAConditioning | InitLatents | None
"""FCA, LoRA, and the base alone."""


def concatenate(null: Conditioning, given: Conditioning) -> Conditioning:
    """[null; given] along the batch, for classifier-free guidance in one call."""
    return None if null is None else null.cat(given)
