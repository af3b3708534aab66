"""FCA, and LoRA on the frozen attention beside it: an adapter of its own, not the paper's.

FCA brings the given frames and the caption in; LoRA (PEFT), without frames in front, fits the base's own attention to the
videos it is trained on. x_init is of the base itself: in the frozen pass LoRA is off, so what is computed once per clip
stays that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from fcacli.config import FCALoRAConfig
from fcacli.model.fca import FCAAdapter
from fcacli.model.lora import inject

if TYPE_CHECKING:
    from fcacli.model.bases.cogvideox import CogVideoX


class FCALoRAAdapter(FCAAdapter):
    """FCAAdapter, with the matrices of LoRA as `lora`, by layer, projection and A or B."""

    config: FCALoRAConfig

    def add_lora(self, base: CogVideoX, dtype: torch.dtype) -> None:
        """Put LoRA into the attention of a base that carries this adapter's modules already."""
        matrices = inject(base, self.config.rank, self.config.alpha, dtype)
        self.lora = nn.ParameterDict({_short(name): matrix for name, matrix in matrices.items()})
        self.requires_grad_(True)  # PEFT freezes what it has not made, the modules beside the blocks too


def _short(name: str) -> str:
    """3-to_q-A of transformer_blocks.3.block.attn1.to_q.lora_A.default.weight."""
    words = name.split(".")
    projection = words[words.index("attn1") + 1]
    return "-".join([words[1], projection, "A" if "lora_A" in words else "B"])
