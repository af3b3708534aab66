"""An adapter in a plain diffusers CogVideoXPipeline:

adapter = load_adapter(pipe, "runs/x/checkpoints/step-001000")
arguments = adapter.for_pipeline(pipe, frames, "pushing cup left", guidance_scale=6)
video = pipe(**arguments).frames[0]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from fcacli.errors import FcaError, Misuse
from fcacli.model.bases import resolve_base
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.model.bases.frames import safe_frames
from fcacli.model.conditioning import Given

if TYPE_CHECKING:
    from fcacli.model.fca import FCAAdapter


_image_encoders: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""A pipeline has no image encoder: the one loaded for it."""


def base_of_pipeline(pipeline: Any, trained_on: str) -> CogVideoX:
    """The base that a loaded CogVideoXPipeline is; files it does not hold (the image encoder) are found by its name, or by
    that of the base the adapter was trained on.

    Raises:
        FcaError: it is not a CogVideoXPipeline.
    """
    if type(pipeline).__name__ != "CogVideoXPipeline":
        raise FcaError(f"fca adapts a CogVideoXPipeline, not a {type(pipeline).__name__}")
    spec = resolve_base(str(getattr(pipeline, "name_or_path", None) or trained_on))
    return CogVideoX.from_pipeline(pipeline, spec)


@torch.no_grad()
def pipeline_arguments(
    adapter: FCAAdapter, pipeline: Any, frames: np.ndarray, text: str, guidance_scale: float
) -> dict[str, Any]:
    """Keyword arguments for `pipeline` that predict the clip beginning with `frames`, uint8 (T0, H, W, 3).

    The pipeline returns the clip's frames, and up to 7 more where T is not 8k or 8k + 1.

    Raises:
        Misuse: frames of another number, size or type than the adapter was trained for.
    """
    clip = adapter.clip
    needed = (clip.init_frames, clip.height, clip.width, 3)
    if frames.shape != needed or frames.dtype != np.uint8:
        raise Misuse(f"the adapter takes frames uint8 {needed}, got {frames.dtype} {frames.shape}")
    base = base_of_pipeline(pipeline, adapter.base_name)
    if pipeline in _image_encoders:
        base._parts["image_encoder"] = _image_encoders[pipeline].to(base.device)
    adapter.text_modules.to(base.device)  # the rest is part of the transformer and moves with the pipeline
    features, mask = base.encode_text(["", text])  # (2, L, d_text)
    init_latents = base.encode_init(frames)  # (F0, C, h, w)
    image = base.encode_image(frames)  # (P, d_image)
    _image_encoders[pipeline] = base.image_encoder

    def given(row: int) -> Given:
        return Given(init_latents[None], features[row : row + 1], mask[row : row + 1], image[None])

    conditioning = adapter.condition(base, given(1))
    if guidance_scale > 1:
        conditioning = adapter.condition(base, given(0)).cat(conditioning)
    return {
        "prompt_embeds": features[1:],
        "negative_prompt_embeds": features[:1],
        "height": clip.height,
        "width": clip.width,
        "num_frames": safe_frames(clip.frames, base.temporal_patch),
        "guidance_scale": guidance_scale,
        "attention_kwargs": {"fca": conditioning},
    }
