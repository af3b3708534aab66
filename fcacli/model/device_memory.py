"""Memory of a CUDA device: how much of it this process still has, and how it is taken."""

from __future__ import annotations

import os
import platform
import sys

import torch


def free_on(device: torch.device) -> int:
    """Bytes, torch's unused ones and a limit of its allocator counted."""
    index = torch.cuda.current_device() if device.index is None else device.index
    reserved, (free, whole) = torch.cuda.memory_reserved(index), torch.cuda.mem_get_info(index)
    allowed = int(torch.cuda.get_per_process_memory_fraction(index) * whole) - reserved
    return min(free, allowed) + reserved - torch.cuda.memory_allocated(index)


def growing_segments() -> None:
    """Let torch's allocator take memory in segments that grow, so that less is lost between tensors of different sizes; where
    the user has said something of that, or CUDA has no such memory (Windows, WSL), nothing happens.

    To be called before a CUDA device is used.
    """
    said = os.environ.get("PYTORCH_ALLOC_CONF") or os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "")
    if sys.platform.startswith("linux") and "microsoft" not in platform.release().lower() and "expandable_segments" not in said:
        older = torch.cuda.memory._set_allocator_settings
        settings = f"{said},expandable_segments:True".lstrip(",")  # what is not in it is set back
        getattr(torch._C, "_accelerator_setAllocatorSettings", older)(settings)
