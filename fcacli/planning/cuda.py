"""What a CUDA device computes otherwise than a CPU, where that changes the bytes: planned on fake CPU tensors.

A build of torch without CUDA cannot run autograd on fake CUDA tensors. So plans are traced on fake CPU tensors, with

- attention in torch's fused form, which keeps no matrix of scores (model/functional.py takes another one on the CPU);
- layer norms in float32 under autocast: of the operations that CUDA's autocast runs so and the CPU's does not (torch's table of
  both), the only one that bases and adapters call;
- what the kernel of the fused attention's backward pass takes for itself: dq in float32, and a sum for each query
  (Dao, FlashAttention-2, arXiv 2307.08691, algorithm 2). So that its bits are the same each time (training/kernels.py), torch
  has it add up dq in several parts, as many as it takes to keep all multiprocessors busy;
- what cuDNN takes for a three-dimensional convolution in 16 bits: its kernels want channels last, so it lays out input and
  output anew. (Found by a measurement that is met to the last MiB so: an encoding's peak, with the published VAE on an H200.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor

from fcacli.model.functional import always_fused
from fcacli.planning.live import Also

PRODUCTS = 8 * 4 * 2**20
"""Bytes that cuBLAS takes for itself in each thread that multiplies, as model/arithmetic.py asks for: the main one's, and after
a backward pass that one's too. Measured so on an H200."""
GRAIN = 512
"""Bytes to which the caching allocator rounds (kMinBlockSize of CUDACachingAllocator)."""
MULTIPROCESSORS = 128
"""Of the device planned for, where none is here: an RTX 4090's."""
CONVOLUTION = torch.ops.aten.convolution.default
FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


@contextmanager
def as_on_cuda() -> Iterator[None]:
    """Inside, CPU tensors go through the operations that CUDA tensors would; of the whole process, for that while."""
    with torch.library._scoped_library("aten", "IMPL") as library, always_fused():
        library.impl("layer_norm", _layer_norm_in_float32, "AutocastCPU")
        yield


def _layer_norm_in_float32(
    x: Tensor, shape: list[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, cudnn: bool = True
) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        parts = (part.float() if part is not None else None for part in (x, weight, bias))
        x, weight, bias = parts  # type: ignore[assignment]
        return torch.layer_norm(x, shape, weight, bias, eps, cudnn)


def workspace(deterministic: bool) -> Also:
    """Bytes that kernels take while they run."""

    def taken(operation: Any, args: Any) -> int:
        if operation is FLASH_BACKWARD:
            return _of_attention(args, deterministic)
        return _of_convolution(args) if operation is CONVOLUTION else 0

    return taken


def _of_attention(args: Any, deterministic: bool) -> int:
    batch, heads, length, width = args[1].shape  # of the queries (B, H, S, c)
    rounded = -(-length // 128) * 128
    parts = -(-multiprocessors() // (batch * heads)) if deterministic else 1
    return batch * heads * rounded * (parts * -(-width // 32) * 32 + 1) * 4


def _of_convolution(args: Any) -> int:
    x, weight, _, stride, padding, dilation, *_ = args
    if weight.ndim != 5 or x.element_size() != 2:
        return 0
    sides = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    places = prod((size + 2 * pad - wide * (side - 1) - 1) // step + 1 for size, side, step, pad, wide in sides)
    return (x.numel() + x.shape[0] * weight.shape[0] * places) * x.element_size()


@cache
def multiprocessors() -> int:
    """Of the device planned for."""
    return torch.cuda.get_device_properties(0).multi_processor_count if torch.cuda.is_available() else MULTIPROCESSORS
