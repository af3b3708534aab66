"""A pipeline folder with random weights at the published sizes: what memory and time need to know of a base.

    python tests/gpu/random_base.py FOLDER cogvideox-2b

Only the tokenizer is another one, the bundled miniature's: the real one's is a download, and no figure depends on it.
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDPMScheduler, CogVideoXTransformer3DModel
from transformers import CLIPVisionConfig, CLIPVisionModel, T5Config, T5EncoderModel

from fcacli.model.bases import MINI
from fcacli.model.bases.published import published

SHARED = "shared"
"""Folder of what all bases have in common."""


def write_shared(folder: Path, device: str) -> None:
    """VAE, image encoder and text encoder, once."""
    shared = folder.resolve() / SHARED
    _write(shared / "vae", lambda: AutoencoderKLCogVideoX(**_config("vae")), device)
    _write(shared / "clip", lambda: CLIPVisionModel(CLIPVisionConfig(**_config("clip-vit-large-patch14"))), device)
    _write(shared / "text_encoder", lambda: T5EncoderModel(T5Config(**_config("t5-v1_1-xxl"))), device)
    (shared / "written").touch()


def write_random_base(folder: Path, name: str, device: str) -> Path:
    """Write `name` (cogvideox-2b, cogvideox-5b, cogvideox1.5-5b) in bfloat16 below `folder`, once, with links to the shared
    parts; returns its folder."""
    base, shared = folder.resolve() / name, folder.resolve() / SHARED
    if (base / "model_index.json").is_file():
        return base
    _write(base / "transformer", lambda: CogVideoXTransformer3DModel(**_config(name)), device)
    for part in ("vae", "text_encoder", "clip"):
        (base / part).symlink_to(shared / part, target_is_directory=True)
    shutil.copytree(MINI / "tokenizer", base / "tokenizer")
    CogVideoXDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=1.0 if "5b" in name else 3.0,
        timestep_spacing="trailing",
    ).save_pretrained(base / "scheduler")
    (base / "model_index.json").write_text(json.dumps({"_class_name": "CogVideoXPipeline"}))
    return base


def _config(name: str) -> dict[str, Any]:
    return {key: value for key, value in published(name).items() if not key.startswith("_") and key != "model_type"}


def _write(folder: Path, build: Callable[[], Any], device: str) -> None:
    """Build on the device in bfloat16, write as safetensors; skipped where it lies already."""
    if (folder / "config.json").is_file():
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = build()
    finally:
        torch.set_default_dtype(before)
    model.save_pretrained(folder, max_shard_size="4GB")


if __name__ == "__main__":
    write_shared(Path(sys.argv[1]), "cuda")
    write_random_base(Path(sys.argv[1]), sys.argv[2], "cuda")
