"""The baseline: LoRA (PEFT) on the frozen joint attention, the initial frames given as latents. The surface of FCAAdapter.

    B batch · F latent frames · F0 latents of the initial frames, clean (encoded alone, no noise added) · L text tokens

Two ways to give them:
- "front": F0 extra latent frames before the video, [x_init ; x_t], whose output is dropped. In the transformer's positions
  (absolute or rotary) they are frames 0 to F0-1 and the video follows: every token keeps a position of its own, and the
  transformer is called as it stands.
- "in_place": the first F0 latents of x_t are replaced. Right only where they cover nothing but given frames, 1 or 9 of 17
  (8j + 1 of T = 8k + 1); with two frames given of 16 the first latent covers two frames that are to be predicted. Their
  output is the one that leads to the given frames: nothing of it is learnt, and the loss is of the frames to be predicted.

LoRA's B starts at zero, so no weight differs from the base's at step 0; in "front" the output still does, because the
transformer sees more frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from fcacli.config import ClipConfig, LoRAConfig
from fcacli.errors import FcaError, Misuse
from fcacli.model.bases.frames import CHUNK, latent_frames, safe_frames
from fcacli.model.conditioning import Given, InitLatents
from fcacli.model.fca import fill_temporal_patch
from fcacli.model.target import leading_to

if TYPE_CHECKING:
    from fcacli.model.bases.cogvideox import CogVideoX

TARGETS = r".*\.attn1\.(to_q|to_k|to_v|to_out\.0)"
"""The projections of the frozen attention; an FCA module beside it has some of these names."""


class LoRAAdapter(nn.Module):
    """LoRA layers inside a base's transformer; making one injects them, `detach` takes them out again."""

    def __init__(self, config: LoRAConfig, base: CogVideoX, clip: ClipConfig, dtype: torch.dtype = torch.float32):
        super().__init__()
        if config.init == "in_place":
            _check_in_place(clip, base.temporal_patch)
        self.config, self.clip = config, clip
        matrices = inject(base, config.rank, config.alpha, dtype)
        self._names = list(matrices)
        self.matrices = nn.ParameterList(matrices.values())

    def condition(self, base: CogVideoX, given: Given) -> InitLatents:
        """The initial frames' latents; the caption reaches the model as its text alone."""
        return InitLatents(given.init_latents)

    def denoise(self, base: CogVideoX, x_t: Tensor, t: Tensor, text: Tensor, conditioning: InitLatents) -> Tensor:
        """x_t (B, F, C, h, w), t (B,), text (B, L, d_text) -> the model's output, shaped like x_t."""
        clean = conditioning.latents.to(x_t.dtype)  # (B, F0, C, h, w)
        if self.config.init == "in_place":
            replaced, count = x_t[:, : clean.shape[1]], clean.shape[1]
            output = base.denoise(torch.cat([clean, x_t[:, count:]], dim=1), t, text)
            known = leading_to(base.scheduler, clean.float(), replaced.float(), t)
            return torch.cat([known.to(output.dtype), output[:, count:]], dim=1)
        clean = fill_temporal_patch(clean, base.temporal_patch)
        return base.denoise(torch.cat([clean, x_t], dim=1), t, text)[:, clean.shape[1] :]

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        return list(zip(self._short_names, self.matrices, strict=True))

    def in_order_of_use(self) -> list[nn.Parameter]:
        """The same as a forward pass comes to them."""
        return list(self.matrices)

    def state(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.trainable()}

    @property
    def _short_names(self) -> list[str]:
        return [name.replace(".default.", ".") for name in self._names]

    @property
    def known_latents(self) -> int:
        """Leading latents whose output is not the model's own."""
        return latent_frames(self.clip.init_frames) if self.config.init == "in_place" else 0

    @property
    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.matrices)

    def for_pipeline(self, pipeline: Any, frames: np.ndarray, text: str, guidance_scale: float = 6.0) -> dict[str, Any]:
        """
        Raises:
            FcaError: always; a diffusers pipeline has no place for extra latent frames.
        """
        raise FcaError("the LoRA baseline cannot run in a plain diffusers pipeline", "fca predict")


def inject(base: CogVideoX, rank: int, alpha: float | None, dtype: torch.dtype) -> dict[str, nn.Parameter]:
    """Put LoRA layers into the attention of a base's transformer; its matrices by their names there.

    PEFT makes everything else in the transformer untrainable.
    """
    from peft import LoraConfig

    transformer = base.transformer
    scale: Any = alpha if alpha is not None else rank
    transformer.add_adapter(LoraConfig(r=rank, lora_alpha=scale, target_modules=TARGETS))
    matrices = {name: matrix for name, matrix in transformer.named_parameters() if ".lora_" in name}
    for matrix in matrices.values():
        matrix.data = matrix.data.to(base.device, dtype)
        matrix.requires_grad_(True)
    return matrices


@contextmanager
def lora_off(block: nn.Module) -> Iterator[None]:
    """Its LoRA layers, if it has any, do nothing for a while."""
    layers: list[Any] = [module for module in block.modules() if hasattr(module, "enable_adapters")]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def _check_in_place(clip: ClipConfig, temporal_patch: int) -> None:
    if clip.init_frames % CHUNK != 1 or safe_frames(clip.frames, temporal_patch) % CHUNK != 1:
        raise Misuse(
            f"LoRA init=in_place needs 8j + 1 given frames and T = 8k + 1, got {clip.init_frames} of {clip.frames}",
            "--frames 17 --init-frames 1, or init=front",
        )


def remove_lora(transformer: Any) -> None:
    """Take LoRA layers out of a transformer, if there are any."""
    if getattr(transformer, "peft_config", None):
        transformer.unload_lora()


@dataclass(frozen=True)
class LoRALayers:
    """The LoRA layers of a transformer by their place, and PEFT's note of them."""

    layers: dict[str, nn.Module]
    peft_config: Any


def lora_layers(transformer: Any) -> LoRALayers:
    """Those that are in a transformer; to be put back after `remove_lora`."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    names = [name for name, module in transformer.named_modules() if isinstance(module, BaseTunerLayer)]
    return LoRALayers({name: transformer.get_submodule(name) for name in names}, getattr(transformer, "peft_config", None))


def put_lora_back(transformer: Any, lora: LoRALayers) -> None:
    """The same layers in the same places."""
    if not lora.layers:
        return
    for name, layer in lora.layers.items():
        parent, _, child = name.rpartition(".")
        setattr(transformer.get_submodule(parent), child, layer)
    transformer.peft_config, transformer._hf_peft_config_loaded = lora.peft_config, True
