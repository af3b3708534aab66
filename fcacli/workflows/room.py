"""How much memory is free here, and whether a training is so small that no plan is needed."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fcacli.config import TrainConfig

if TYPE_CHECKING:
    from fcacli.model.bases.cogvideox import CogVideoX

EASILY = 8
"""A training whose rough bound is below this part of what is free is not traced."""


def free_device() -> int | None:
    """Bytes free on the CUDA device."""
    import torch

    return torch.cuda.mem_get_info()[0]


def free_memory() -> int | None:
    """Bytes of main memory that can be had without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def peak_of_process() -> int:
    """Bytes of main memory that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def fits_easily(base: CogVideoX, config: TrainConfig, free: int) -> bool:
    """Whether a rough bound, a few multiplications, is far below what is free: the miniature on any machine.

    Bound: the weights of the blocks five times in float32; 40 activations of each token in each layer, with the scores of plain
    attention; 512 channels of each pixel in the VAE.
    """
    frames, _, height, width = base.latent_shape(config.clip)
    patch, heads = base.config("transformer")["patch_size"], base.d // base.head_dim
    tokens = frames * (height // patch) * (width // patch) + base.text_length
    activations = config.batch_size * tokens * base.layers * (40 * base.d + heads * tokens)
    weights = 5 * 20 * base.d**2 * base.layers
    pixels = 512 * config.clip.width * config.clip.height * config.clip.frames
    return EASILY * 4 * (activations + weights + pixels) < free
