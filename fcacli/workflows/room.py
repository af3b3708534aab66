"""How much memory is free here, and whether a training is so small that no plan is needed."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fcacli.config import TrainConfig

if TYPE_CHECKING:
    from fcacli.model.bases import BaseSpec

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


def fits_easily(spec: BaseSpec, config: TrainConfig, free: int) -> bool:
    """Whether a rough bound, a few multiplications, is far below what is free: the miniature on any machine.

    Bound: all parameters of the base's blocks five times in float32, and 40 activations of each token in each layer, with the
    scores of plain attention.
    """
    from fcacli.model.bases.frames import latent_frames, safe_frames
    from fcacli.model.bases.published import part_configs

    transformer = part_configs(spec)["transformer"]
    d = transformer["num_attention_heads"] * transformer["attention_head_dim"]
    pixels = 8 * transformer["patch_size"]
    clip = config.clip
    frames = latent_frames(safe_frames(clip.frames))
    tokens = frames * (clip.width // pixels) * (clip.height // pixels) + transformer["max_text_seq_length"]
    per_layer = 40 * d + 4 * transformer["num_attention_heads"] * tokens
    activations = 4 * config.batch_size * tokens * per_layer * transformer["num_layers"]
    weights = 5 * 4 * 20 * d * d * transformer["num_layers"]
    decoding = 4 * 512 * clip.width * clip.height * clip.frames
    return EASILY * (activations + weights + decoding) < free
