"""The bundled base is a complete CogVideoXPipeline folder, small, with a tokenizer for any caption."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, CLIPModel

from fcacli.mini.build import FRAMES, SIZE, TEXT_TOKENS, WEIGHTS, build_part, load_pipeline, write_skeleton
from fcacli.mini.scene import actions
from fcacli.mini.stage import to_video_tensor
from fcacli.mini.world import sample_clip
from fcacli.model.bases.narrow_convolution import convolve_by_frame


@pytest.fixture(scope="module")
def pipe():
    return load_pipeline()


def test_folder_is_at_most_twelve_megabytes():
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) < 12e6


def test_pipeline_generates_a_clip(pipe):
    out = pipe(
        "pushing red cup left",
        height=SIZE,
        width=SIZE,
        num_frames=FRAMES,
        num_inference_steps=2,
        max_sequence_length=TEXT_TOKENS,
        output_type="np",
    )
    assert out.frames.shape == (1, FRAMES, SIZE, SIZE, 3)
    assert np.isfinite(out.frames).all()


def test_latents_are_four_times_smaller_in_space_and_time(pipe):
    with torch.no_grad():
        for frames, latents in ((1, 1), (2, 1), (16, 4), (17, 5)):
            video = torch.zeros(1, 3, frames, SIZE, SIZE)
            assert pipe.vae.encode(video).latent_dist.mode().shape == (1, 24, latents, 12, 12)


def reconstruct(pipe, domain):
    """Mean PSNR in dB of unseen clips, and the deviation of their scaled latents."""
    video = to_video_tensor(np.stack([sample_clip(77, i, domain).video() for i in range(24)]))
    convolve_by_frame(pipe.vae)
    with torch.no_grad():
        latents = pipe.vae.encode(video).latent_dist.mode()
        error = ((pipe.vae.decode(latents).sample.clamp(-1, 1) - video) / 2).pow(2).mean((1, 2, 3, 4))
    return (-10 * error.log10()).mean().item(), (latents * pipe.vae.config.scaling_factor).std().item()


@pytest.mark.parametrize(("domain", "floor"), [("base", 33.0), ("adapt", 31.5)])
def test_autoencoder_reconstructs_unseen_clips(pipe, domain, floor):
    psnr, deviation = reconstruct(pipe, domain)
    assert psnr > floor
    assert 0.7 < deviation < 1.4


def test_every_word_of_the_world_is_one_token(pipe):
    for action in actions("adapt")[::7]:
        ids = pipe.tokenizer(action.caption).input_ids
        assert len(ids) == len(action.caption.split()) + 1 <= TEXT_TOKENS
        assert pipe.tokenizer.decode(ids, skip_special_tokens=True) == action.caption


@pytest.mark.parametrize(
    "caption", ["spinning cube that quickly stops spinning", "déplacer la tasse", "двигать чашку", "Pushing [something] 3x!"]
)
def test_captions_from_outside_the_world_have_no_unknown_tokens(pipe, caption):
    assert pipe.tokenizer.unk_token_id not in pipe.tokenizer(caption).input_ids


def test_empty_caption_is_the_null_text(pipe):
    ids = pipe.tokenizer("", padding="max_length", max_length=TEXT_TOKENS).input_ids
    assert ids == [1] + [0] * (TEXT_TOKENS - 1)


def test_scheduler_has_the_settings_of_cogvideox_2b(pipe):
    config = pipe.scheduler.config
    assert (config.prediction_type, config.snr_shift_scale, config.timestep_spacing) == ("v_prediction", 3.0, "trailing")
    assert config.rescale_betas_zero_snr


def test_clip_tells_colours_apart():
    clip = CLIPModel.from_pretrained(WEIGHTS / "clip", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / "clip")
    mean = json.loads((WEIGHTS / "clip" / "preprocessor_config.json").read_text())["image_mean"]
    assert mean == [0.5] * 3
    world = [sample_clip(78, i) for i in range(64)]
    pixels = to_video_tensor(np.stack([c.video()[8:9] for c in world]))[:, :, 0]
    text = tokenizer([c.caption for c in world], padding="max_length", max_length=TEXT_TOKENS, return_tensors="pt")
    with torch.no_grad():
        out = clip(input_ids=text.input_ids, attention_mask=text.attention_mask, pixel_values=pixels)
    rank = (out.logits_per_image > out.logits_per_image.diagonal()[:, None]).sum(1)
    assert (rank < 5).float().mean() > 0.5


def test_random_weights_follow_from_the_seed(tmp_path):
    first, again, other = (build_part("text_encoder", seed).state_dict() for seed in (3, 3, 4))
    key = "shared.weight"
    assert torch.equal(first[key], again[key])
    assert not torch.equal(first[key], other[key])
    write_skeleton(tmp_path, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["clip", "fca.json", "model_index.json", "scheduler", "text_encoder", "tokenizer", "transformer", "vae"]
    )
