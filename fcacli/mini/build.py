"""The miniature's parts, built from their configurations, and the folder they are saved to.

The folder is a CogVideoXPipeline in diffusers layout with `clip/` (image and text towers) and `fca.json` beside it.
All weights are stored as float16; loaders cast to float32 on the CPU.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from transformers import CLIPConfig, CLIPModel, T5Config, T5EncoderModel, T5Tokenizer

from fcacli.mini.words import vocabulary

WEIGHTS = Path(__file__).parent / "weights"
SIZE, FRAMES, INIT_FRAMES, FPS, TEXT_TOKENS = 48, 16, 2, 12, 20
FCA_JSON = {"name": "mini", "frames": FRAMES, "init_frames": INIT_FRAMES, "width": SIZE, "height": SIZE, "fps": FPS}
PREPROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": SIZE},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": SIZE, "width": SIZE},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "do_convert_rgb": True,
}
PARTS = ("vae", "transformer", "text_encoder", "clip")


def build_tokenizer() -> T5Tokenizer:
    """Unigram over the world's words, everyday words and letters; pads to TEXT_TOKENS."""
    return T5Tokenizer(vocab=vocabulary(), extra_ids=0, model_max_length=TEXT_TOKENS)


def build_scheduler() -> Any:
    """CogVideoX-2B's scheduler, value for value."""
    return CogVideoXDDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        set_alpha_to_one=True,
        snr_shift_scale=3.0,
        steps_offset=0,
        timestep_spacing="trailing",
    )


def build_vae() -> AutoencoderKLCogVideoX:
    """Three levels: 4x in space, 4x in time, 24 latent channels."""
    return AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 3,
        up_block_types=("CogVideoXUpBlock3D",) * 3,
        block_out_channels=(24, 40, 48),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=24,
        temporal_compression_ratio=4,
        sample_height=SIZE,
        sample_width=SIZE,
        scaling_factor=1.0,
    )


def build_transformer() -> CogVideoXTransformer3DModel:
    """CogVideoX-2B's plan (absolute positions, no rotary embedding) at width 192: tokens of 8x8 pixels, 6x6x4 of them."""
    return CogVideoXTransformer3DModel(
        num_attention_heads=6,
        attention_head_dim=32,
        in_channels=24,
        out_channels=24,
        time_embed_dim=48,
        text_embed_dim=96,
        num_layers=6,
        sample_width=SIZE // 4,
        sample_height=SIZE // 4,
        sample_frames=13,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=TEXT_TOKENS,
        spatial_interpolation_scale=1.0,
        use_rotary_positional_embeddings=False,
    )


def build_text_encoder() -> T5EncoderModel:
    """A two-layer T5 encoder, width 96."""
    config = T5Config(  # type: ignore[call-arg]
        vocab_size=len(vocabulary()),
        d_model=96,
        d_kv=16,
        num_heads=6,
        d_ff=256,
        num_layers=2,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )
    return T5EncoderModel(config)


def build_clip() -> CLIPModel:
    """Vision tower: 6x6 patches of 8 pixels, width 96, three layers; text tower: width 96, two layers."""
    text = {
        "vocab_size": len(vocabulary()),
        "hidden_size": 96,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": TEXT_TOKENS,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 1,
    }
    vision = {
        "hidden_size": 96,
        "intermediate_size": 192,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": SIZE,
        "patch_size": 8,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))


def build_part(name: str, seed: int) -> Any:
    """One part with random weights."""
    torch.manual_seed(seed)
    builders = {"vae": build_vae, "transformer": build_transformer, "text_encoder": build_text_encoder, "clip": build_clip}
    return builders[name]()


def load_part(name: str, out: Path) -> Any:
    """One part as a folder has it, in float32."""
    classes: dict[str, Any] = {
        "vae": AutoencoderKLCogVideoX,
        "transformer": CogVideoXTransformer3DModel,
        "text_encoder": T5EncoderModel,
        "clip": CLIPModel,
    }
    return classes[name].from_pretrained(out / name).float()


def save_part(name: str, model: Any, out: Path) -> None:
    """Write one part's config and float16 weights; readers never see half a file (written beside, then renamed)."""
    fresh, final = out / f".{name}.new", out / name
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    state = {key: value.detach().to(torch.float16).contiguous() for key, value in model.state_dict().items()}
    copy = type(model).from_config(model.config) if hasattr(model, "from_config") else type(model)(model.config)
    copy = copy.half()
    copy.load_state_dict(state)
    copy.save_pretrained(fresh)
    if name == "clip":
        build_tokenizer().save_pretrained(fresh)
        (fresh / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=1) + "\n")
    final.mkdir(exist_ok=True)
    for file in fresh.iterdir():
        file.chmod(0o644)
        file.replace(final / file.name)
    fresh.rmdir()


def write_skeleton(out: Path, seed: int) -> None:
    """The whole folder with random weights in every part that is not there yet."""
    out.mkdir(parents=True, exist_ok=True)
    for name in PARTS:
        if not (out / name / "config.json").is_file():
            save_part(name, build_part(name, seed), out)
    build_tokenizer().save_pretrained(out / "tokenizer")
    build_scheduler().save_pretrained(out / "scheduler")
    names = {
        "_class_name": "CogVideoXPipeline",
        "_diffusers_version": "0.42.1",
        "scheduler": ["diffusers", "CogVideoXDDIMScheduler"],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "T5Tokenizer"],
        "transformer": ["diffusers", "CogVideoXTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLCogVideoX"],
    }
    (out / "model_index.json").write_text(json.dumps(names, indent=1) + "\n")
    (out / "fca.json").write_text(json.dumps(FCA_JSON) + "\n")


def load_pipeline(folder: Path = WEIGHTS) -> CogVideoXPipeline:
    """The miniature base in float32."""
    return CogVideoXPipeline.from_pretrained(folder, torch_dtype=torch.float32)
