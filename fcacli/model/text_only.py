"""The base alone, text-to-video: a row of every comparison, with the surface of an adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from fcacli.model.conditioning import Given

if TYPE_CHECKING:
    from fcacli.model.bases.cogvideox import CogVideoX


class TextOnly:
    """No adapter: knows the caption, not the initial frames. The transformer must carry no LoRA; an FCA adapter is off."""

    config = None
    parameter_count = 0
    known_latents = 0

    def condition(self, base: CogVideoX, given: Given) -> None:
        return None

    def denoise(self, base: CogVideoX, x_t: Tensor, t: Tensor, text: Tensor, conditioning: None) -> Tensor:
        """x_t (B, F, C, h, w), t (B,), text (B, L, d_text) -> the base's output, shaped like x_t."""
        from fcacli.model.attach import adapter_off

        return base.denoise(x_t, t, text, adapter_off(base.transformer))

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        return []

    def state(self) -> dict[str, Tensor]:
        return {}
