"""How much memory a CUDA device still has for this process."""

from __future__ import annotations

import torch


def free_on(device: torch.device) -> int:
    """Bytes, torch's unused ones and a limit of its allocator counted."""
    index = torch.cuda.current_device() if device.index is None else device.index
    reserved, (free, whole) = torch.cuda.memory_reserved(index), torch.cuda.mem_get_info(index)
    allowed = int(torch.cuda.get_per_process_memory_fraction(index) * whole) - reserved
    return min(free, allowed) + reserved - torch.cuda.memory_allocated(index)
