"""A base made of its configurations alone: no file of weights is read, and inside CountingFakes no memory is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import torch

from fcacli.config import Keeping
from fcacli.model.base_weights import store
from fcacli.model.bases import BaseSpec
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.model.bases.narrow_convolution import convolve_by_frame
from fcacli.model.bases.precision import keep_to_own_precision
from fcacli.model.bases.published import part_configs
from fcacli.planning.fakes import CountingFakes
from fcacli.planning.live import Meter

Configs = Mapping[str, Mapping[str, Any]]
"""Of the parts, see model/bases/published.py."""
Kind = Literal["cuda", "cpu"]
"""The device that is planned for."""


def shaped_base(spec: BaseSpec, kind: Kind) -> ShapedBase:
    """The base of `spec` in the type that it has on such a device.

    Raises:
        FcaError: a configuration is not to be had.
    """
    configs = part_configs(spec)
    transformer = configs["transformer"]
    small = transformer["num_attention_heads"] * transformer["attention_head_dim"] < 1024
    return ShapedBase(spec, configs, kind, torch.float32 if kind == "cpu" or small else torch.bfloat16)


class ShapedBase(CogVideoX):
    """A CogVideoX whose parts have the right shapes and no right values.

    Inside CountingFakes; outside of it, parts would take memory: ask it for configurations only.

    Args:
        configs: of its parts.
        kind: the device that is planned for; all tensors are the CPU's.
        dtype: of all parts.
        layers: of the transformer, if not as configured.
    """

    def __init__(self, spec: BaseSpec, configs: Configs, kind: Kind, dtype: torch.dtype, layers: int | None = None):
        super().__init__(spec, "cpu", dtype)
        self._kind: Kind = kind
        self._configs = {part: dict(config) for part, config in configs.items()} | {"image_preprocessor": {}}
        if layers is not None:
            self._configs["transformer"]["num_layers"] = layers

    @property
    def kind(self) -> Kind:
        """Of the device that is planned for."""
        return self._kind

    def again(self, layers: int | None = None, keeping: Keeping | None = None) -> ShapedBase:
        """The same with no part made yet, and so many layers; it swaps no blocks, see planning/frozen.py, and
        compiles none."""
        made = ShapedBase(self.spec, self._configs, self._kind, self.dtype, layers)
        made.keep(replace(keeping or Keeping(), block_swap=0, shards=1, compile=False))
        return made

    @cached_property
    def shapes(self) -> Any:
        """The whole transformer, nothing rounded or attached, outside of CountingFakes too: to count weights."""
        with CountingFakes(Meter()):
            return self.again().transformer

    def _part(self, name: str) -> Any:
        if name not in self._parts:
            before = torch.get_default_dtype()
            torch.set_default_dtype(self.dtype)
            try:
                part = MAKERS[name](self._configs.get(name, {}))
            finally:
                torch.set_default_dtype(before)
            self._parts[name] = part if name == "scheduler" else part.requires_grad_(False).eval()
            if name == "vae" and self._kind == "cpu":
                convolve_by_frame(part)
            if name == "transformer":
                keep_to_own_precision(part)
                store(part.transformer_blocks, self.keeping.base_weights, self.device)
        return self._parts[name]


def _transformer(config: dict[str, Any]) -> Any:
    from diffusers import CogVideoXTransformer3DModel

    return CogVideoXTransformer3DModel(**_fields(config))


def _vae(config: dict[str, Any]) -> Any:
    from diffusers import AutoencoderKLCogVideoX

    return AutoencoderKLCogVideoX(**_fields(config))


def _text_encoder(config: dict[str, Any]) -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config(**_fields(config)))


def _image_encoder(config: dict[str, Any]) -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    return CLIPVisionModel(CLIPVisionConfig(**_fields(config)))


def _scheduler(_: dict[str, Any]) -> Any:
    from diffusers import CogVideoXDDIMScheduler

    return CogVideoXDDIMScheduler(prediction_type="v_prediction")


def _fields(config: dict[str, Any]) -> dict[str, Any]:
    """Without the note of who wrote the file, and of which type its weights were."""
    return {name: value for name, value in config.items() if not name.startswith("_") and name not in ("dtype", "torch_dtype")}


MAKERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "transformer": _transformer,
    "vae": _vae,
    "text_encoder": _text_encoder,
    "image_encoder": _image_encoder,
    "scheduler": _scheduler,
}
