"""Decoding in tiles: the right size, close to decoding at once, and nothing of it in the encodings."""

from pathlib import Path

import numpy as np
import torch
from memory_options import TILED
from small import random_frames

from fcacli.config import Keeping
from fcacli.model.bases import load_base, resolve_base


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(one.astype(float) - other).mean()))


def test_tiles_are_used_to_decode_and_not_to_encode(tiny_base_folder: Path) -> None:
    """So that the encodings of a dataset do not depend on the option."""
    whole, tiled = (load_base(resolve_base(str(tiny_base_folder))) for _ in range(2))
    tiled.keep(Keeping(vae_tiling=True))
    for height, width in [(64, 64), (36, 64), (68, 40)]:
        frames = np.random.default_rng(0).integers(0, 256, (8, height, width, 3), np.uint8)
        latents = tiled.encode_video(frames)
        assert torch.equal(latents, whole.encode_video(frames))
        in_tiles, at_once = tiled.decode(latents, 8), whole.decode(latents, 8)
        assert in_tiles.shape == at_once.shape and (in_tiles != at_once).any()


def test_a_trained_vae_decodes_nearly_the_same_in_tiles() -> None:
    """The miniature's, frames twice as wide and high as a tile: four tiles and what is left at the edges."""
    base = load_base(resolve_base("mini"))
    frames = np.stack([np.roll(random_frames(1, size=64)[0].repeat(2, 0).repeat(2, 1)[:96, :96], t, 1) for t in range(4)])
    latents = base.encode_video(frames)
    at_once = base.decode(latents, 4)
    base.keep(Keeping(vae_tiling=True))
    base.vae.register_to_config(sample_height=96, sample_width=96)
    in_tiles = base.decode(latents, 4)
    assert base.vae.tile_sample_min_height == 48
    assert TILED < psnr(in_tiles, at_once) < 100
