"""How the process keeps host memory: freed tensors stay with it instead of going back to the system; what a device copies
from or to is locked in place."""

from __future__ import annotations

import ctypes
import mmap
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fcacli.errors import FcaError

if TYPE_CHECKING:
    import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Of glibc's malloc.h."""
KEEP = 2**31 - 1


def keep_freed_memory() -> None:
    """Have glibc reuse the memory of freed tensors; elsewhere nothing happens.

    By default each tensor over 32 MiB is mapped from the system when it is made and unmapped when it is freed, and its pages
    are cleared anew: a third of the time of a video autoencoder on a CPU.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # not in other C libraries, musl for one
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, KEEP)


def pages_not_forked(size: int) -> mmap.mmap:
    """So many bytes in pages that processes forked from this one do not have (on Linux)."""
    private: dict[str, int] = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    pages = mmap.mmap(-1, size, **private)
    if hasattr(mmap, "MADV_DONTFORK"):
        pages.madvise(mmap.MADV_DONTFORK)
    return pages


def page_locked(size: int, device: torch.device) -> torch.Tensor:
    """`size` bytes of main memory (uint8) that a CUDA device can copy from and to while it computes; ordinary ones otherwise.

    Registered with CUDA instead of taken from torch's cache of such memory, which rounds sizes up to powers of two. Its pages
    are its own, and processes that are forked later, to load clips, do not get them: locked ones would be copied.

    Raises:
        FcaError: CUDA cannot lock so much.
    """
    import torch

    if device.type != "cuda" or not size:
        return torch.empty(size, dtype=torch.uint8)
    buffer = torch.frombuffer(pages_not_forked(size), dtype=torch.uint8)
    cudart, address = torch.cuda.cudart(), buffer.data_ptr()  # initialises CUDA
    if error := int(cudart.cudaHostRegister(address, size, 0)):
        raise FcaError(
            f"{size / 1e9:.2f} GB of main memory cannot be locked for copies to {device} (CUDA error {error})",
            "a smaller --block-swap, no --offload-activations, --offload-optimizer or --offload-gradients, or more of it that "
            "may be locked: ulimit -l",
        )
    weakref.finalize(buffer, cudart.cudaHostUnregister, address)
    return buffer


@contextmanager
def in_main_memory(tensors: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Inside, the values of tensors are in main memory, in the list that is given, and the tensors themselves take no memory;
    then they are as they were.

    They are emptied, not replaced: DistributedDataParallel would no longer know a parameter that had been on another device.
    """
    kept = [tensor.detach().to("cpu", copy=True) for tensor in tensors]
    for tensor in tensors:
        tensor.untyped_storage().resize_(0)
    try:
        yield kept
    finally:
        for tensor, values in zip(tensors, kept, strict=True):
            tensor.untyped_storage().resize_(values.nbytes)
            tensor.detach().copy_(values)
