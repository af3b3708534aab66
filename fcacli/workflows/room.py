"""How much memory is free here, and whether a training is so small that no plan is needed."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fcacli.config import TrainConfig

if TYPE_CHECKING:
    from fcacli.model.bases.cogvideox import CogVideoX

EASILY = 8
"""A training whose rough bound is below this part of what is free is not traced."""


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes of main memory that this process can have without swapping, the limits of its control groups (containers, SLURM
    jobs) counted; None where the system does not say."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    available = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return min([*available, *_left_by_groups(root)], default=None)


def _left_by_groups(root: Path) -> Iterator[int]:
    """Bytes that each control group above this process leaves it (Linux, cgroup v1 and v2)."""
    try:
        groups = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return
    for _, controllers, path in groups:
        if not controllers:
            mounted, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            mounted = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        own = mounted / path.lstrip("/")
        for folder in (own, *own.parents):
            if folder.is_relative_to(mounted) and (left := _left(folder, *names)) is not None:
                yield left


def _left(group: Path, limit: str, used: str, reclaimed: str) -> int | None:
    """What may still be taken: the limit, less what is used and is not a cache of files that the system would give up."""
    try:
        most, now = (group / limit).read_text().strip(), int((group / used).read_text())
        pairs = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        cache = next((int(size) for name, size in pairs if name == reclaimed), 0)
    except (OSError, ValueError):
        return None
    return max(0, int(most) - max(0, now - cache)) if most.isdecimal() else None


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
