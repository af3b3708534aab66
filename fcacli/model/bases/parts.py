"""Loading the parts of a CogVideoX pipeline, their configurations, image preprocessing and the rotary embedding."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fcacli.errors import FcaError, memory_of
from fcacli.model.bases.hub import ENCODER_FILES, local_folder
from fcacli.model.bases.narrow_convolution import convolve_by_frame
from fcacli.model.bases.precision import keep_to_own_precision
from fcacli.model.device_memory import free_on
from fcacli.workspace import read_json

if TYPE_CHECKING:
    from fcacli.model.bases.cogvideox import CogVideoX


LOCAL: dict[str, Any] = {"local_files_only": True, "use_safetensors": True}
"""Weights come from this machine and from safetensors alone: the older .bin files are pickles, which can run code."""


def _load(name: str, folder: Path, read: Callable[[], Any]) -> Any:
    """Run a loader quietly; its many kinds of failure become one error that names the folder."""
    import diffusers
    import transformers

    if not folder.is_dir():
        raise FcaError(f"{folder.parent} has no {folder.name}/", "pass --base a complete pipeline folder in diffusers layout")
    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    verbosity = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()  # the text tower of a CLIP checkpoint is unexpected, and meant to be
    try:
        return read()
    except Exception as error:
        if memory_of(error):
            raise
        cause = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise FcaError(f"cannot load the {name.replace('_', ' ')} from {folder}: {cause}", "fetch the folder again") from error
    finally:
        transformers.utils.logging.set_verbosity(verbosity)


def _model(base: CogVideoX, name: str) -> Any:
    import diffusers

    folder = base.folder / name
    kind = {"transformer": diffusers.CogVideoXTransformer3DModel, "vae": diffusers.AutoencoderKLCogVideoX}[name]
    model = _load(name, folder, lambda: kind.from_pretrained(folder, torch_dtype=base.dtype, **LOCAL))
    model = model.requires_grad_(False).eval()
    if name == "transformer":
        keep_to_own_precision(model)
        return _kept(base, model)
    if base.device.type == "cpu":
        convolve_by_frame(model)
    return model.to(base.device)


BESIDE = 1_000_000_000
"""Bytes that encoding captions takes at most beside the weights: with T5-XXL and 16 captions at once half of it is planned."""


def _text_encoder(base: CogVideoX, name: str) -> Any:
    """On the device, or where that has no room for it, in main memory, from where its blocks are copied when they are used:
    the same bits."""
    import transformers

    from fcacli.model.block_swap import BlockSwap

    folder = base.folder / name
    model = _load(name, folder, lambda: transformers.T5EncoderModel.from_pretrained(folder, dtype=base.dtype, **LOCAL))
    model = model.requires_grad_(False).eval()
    if has_room(base.device, sum(parameter.nbytes for parameter in model.parameters()) + BESIDE):
        return model.to(base.device)
    BlockSwap(model, text_blocks(model), lambda block: block, base.device)
    return model


def text_blocks(text_encoder: Any) -> Any:
    """The blocks of a T5EncoderModel, nearly all of its weights."""
    return text_encoder.encoder.block


def has_room(device: torch.device, size: int) -> bool:
    """Whether a CUDA device has so many bytes for this process; elsewhere it is not asked."""
    return device.type != "cuda" or free_on(device) >= size


def _kept(base: CogVideoX, transformer: Any) -> Any:
    """The frozen transformer in the memory that `base.keeping` gives it, compiled if that says so."""
    from fcacli.model.base_weights import store
    from fcacli.model.bases import cogvideox_block as seam
    from fcacli.model.block_swap import BlockSwap, spread
    from fcacli.model.compiling import compile_blocks
    from fcacli.model.sharding import shard

    blocks = getattr(transformer, seam.BLOCKS)
    shared, swapped = base.keeping.shards > 1, spread(len(blocks), base.keeping.block_swap)
    for index, block in enumerate(blocks):
        store(block, base.keeping.base_weights, base.device)
        if shared or index in swapped:
            block.to("cpu")
    if shared:
        shard(transformer, [part for block in blocks for part in seam.shared_parts(block)], base.device)
    elif swapped:
        BlockSwap(transformer, [blocks[index] for index in swapped], seam.first_part, base.device)
    else:
        transformer.to(base.device)
    if base.keeping.compile:
        compile_blocks(transformer)
    return transformer


OVERLAP = 4
"""One part in so many of a tile is its overlap with the next."""


@contextmanager
def in_tiles(vae: Any, stride: int) -> Iterator[None]:
    """Let a VAE decode in tiles of half the base's usual height and width, a whole number of times OVERLAP latents.

    diffusers' own overlaps of a sixth and a fifth only fit tiles of some sizes; for others its result has the wrong size.
    """
    usual = (vae.config.sample_height, vae.config.sample_width)
    height, width = (max(1, size // 2 // stride // OVERLAP) * OVERLAP * stride for size in usual)
    vae.enable_tiling(height, width, 1 / OVERLAP, 1 / OVERLAP)
    try:
        yield
    finally:
        vae.disable_tiling()


def _tokenizer(base: CogVideoX, name: str) -> Any:
    import transformers

    folder = base.folder / name

    def read() -> Any:
        if (folder / "tokenizer_config.json").is_file():
            return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return transformers.T5Tokenizer.from_pretrained(folder, local_files_only=True)  # spiece.model alone

    return _load(name, folder, read)


def _scheduler(base: CogVideoX, name: str) -> Any:
    import diffusers

    folder = base.folder / name
    known = {"CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"}
    kind = read_json(folder / "scheduler_config.json").get("_class_name")
    if kind not in known:
        raise FcaError(f"{folder} holds a {kind}; CogVideoX samples with one of {', '.join(sorted(known))}")
    return _load(name, folder, lambda: getattr(diffusers, kind).from_pretrained(folder, local_files_only=True))


def _image_encoder(base: CogVideoX, name: str) -> Any:
    import transformers

    folder = local_folder(base.spec.image_encoder, ENCODER_FILES)
    model = _load(name, folder, lambda: transformers.CLIPVisionModel.from_pretrained(folder, dtype=base.dtype, **LOCAL))
    return model.requires_grad_(False).eval().to(base.device)


LOADERS: dict[str, Callable[[CogVideoX, str], Any]] = {
    "transformer": _model,
    "vae": _model,
    "text_encoder": _text_encoder,
    "tokenizer": _tokenizer,
    "scheduler": _scheduler,
    "image_encoder": _image_encoder,
}


def read_config(base: CogVideoX, name: str, loaded: Any) -> dict[str, Any]:
    """The configuration of a part, from the loaded part where there is one, else from its file."""
    if name == "image_encoder":
        config = read_json(local_folder(base.spec.image_encoder, ENCODER_FILES) / "config.json")
        return config.get("vision_config", config)
    if name == "image_preprocessor":
        path = local_folder(base.spec.image_encoder, ENCODER_FILES) / "preprocessor_config.json"
        return read_json(path) if path.is_file() else {}
    return dict(loaded.config) if loaded is not None else read_json(base.folder / name / "config.json")


def normalise_images(frames: np.ndarray, encoder: dict[str, Any], preprocessor: dict[str, Any]) -> np.ndarray:
    """Frames uint8 (T0, H, W, 3) to the encoder's float32 input (T0, 3, size, size); stretched to the square, not cropped,
    so that no part of the given frames is lost to the text modules."""
    import cv2

    size = encoder.get("image_size", 224)
    mean = np.asarray(preprocessor.get("image_mean", (0.48145466, 0.4578275, 0.40821073)), np.float32)
    std = np.asarray(preprocessor.get("image_std", (0.26862954, 0.26130258, 0.27577711)), np.float32)
    method = cv2.INTER_AREA if max(frames.shape[1:3]) > size else cv2.INTER_CUBIC
    resized = np.stack([cv2.resize(frame, (size, size), interpolation=method) for frame in frames])
    return ((resized.astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2)


def rotary_embedding(
    transformer: dict[str, Any], frames: int, height: int, width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """(cos, sin), each (F*N, d_head), as CogVideoXPipeline prepares them for latents (F, C, h, w)."""
    from diffusers.models.embeddings import get_3d_rotary_pos_embed
    from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid

    patch, patch_t = transformer["patch_size"], transformer.get("patch_size_t")
    grid = (height // patch, width // patch)
    base_height, base_width = transformer["sample_height"] // patch, transformer["sample_width"] // patch
    if patch_t is None:
        crops = get_resize_crop_region_for_grid(grid, base_width, base_height)
        cos, sin = get_3d_rotary_pos_embed(transformer["attention_head_dim"], crops, grid, frames, device=device)
    else:
        cos, sin = get_3d_rotary_pos_embed(
            transformer["attention_head_dim"],
            None,
            grid,
            -(-frames // patch_t),
            grid_type="slice",
            max_size=(base_height, base_width),
            device=device,
        )
    return cos, sin


def combine(*fingerprints: str) -> str:
    """One fingerprint of several."""
    return hashlib.sha256("\0".join(fingerprints).encode()).hexdigest()[:16]
