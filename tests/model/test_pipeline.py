"""The README's three lines: an adapter in a plain diffusers pipeline predicts what fca's own path predicts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small import CLIP, fca_config, random_frames, wake

import fcacli
from fcacli.config import SampleConfig
from fcacli.errors import FcaError, Misuse
from fcacli.model.attach import attach, detach, save_adapter
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.prediction.sampler import predict_clip

MakeBase = Callable[..., CogVideoX]


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("kind", ["absolute", "temporal_patch"])
def test_plain_pipeline_equals_the_base_class_path(
    make_base: MakeBase, kind_folders: dict[str, Path], tmp_path: Path, kind: str, guidance: float
) -> None:
    from diffusers import CogVideoXPipeline

    base = make_base(kind)
    own = attach(base, fca_config(), CLIP)
    wake(own)
    save_adapter(own, tmp_path, base.spec.name, base.fingerprint, CLIP)
    given = random_frames(2)
    text = "pushing red cup left"
    expected = predict_clip(base, own, given, text, CLIP, SampleConfig(steps=3, guidance=guidance), keep_generated_init=True)
    detach(base.transformer)

    pipe = CogVideoXPipeline.from_pretrained(kind_folders[kind])
    pipe.set_progress_bar_config(disable=True)
    adapter = fcacli.load_adapter(pipe, tmp_path)
    arguments = adapter.for_pipeline(pipe, given, text, guidance_scale=guidance)
    noise = torch.randn((1, *base.latent_shape(CLIP)), generator=torch.Generator().manual_seed(0))
    video = pipe(**arguments, num_inference_steps=3, latents=noise, output_type="np").frames[0]
    assert video.shape == (16, 32, 32, 3)
    np.testing.assert_allclose(video * 255, expected, atol=0.51)


def test_frames_of_another_size_are_refused(make_base: MakeBase) -> None:
    base = make_base()
    adapter = attach(base, fca_config(), CLIP)
    pipe = base.pipeline()
    with pytest.raises(Misuse, match=r"\(2, 32, 32, 3\), got uint8 \(3, 32, 32, 3\)"):
        adapter.for_pipeline(pipe, random_frames(3), "text")


def test_another_pipeline_is_refused(tmp_path: Path, make_base: MakeBase) -> None:
    base = make_base()
    save_adapter(attach(base, fca_config(), CLIP), tmp_path, base.spec.name, base.fingerprint, CLIP)
    with pytest.raises(FcaError, match="not a str"):
        fcacli.load_adapter("pipe", tmp_path)
