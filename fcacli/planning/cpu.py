"""What torch's operations take for themselves on a CPU, besides their results."""

from __future__ import annotations

from math import prod
from typing import Any

import torch

CONVOLUTION = torch.ops.aten.convolution.default


def convolution_workspace(operation: Any, args: Any) -> int:
    """Bytes of a convolution that is done as a matrix product, for which each place's neighbourhood is copied out.

    Whether torch does it so, it says itself; three-dimensional ones of the VAE are done so.
    """
    if operation is not CONVOLUTION:
        return 0
    x, weight, _, stride, padding, dilation, *_ = args
    backend = torch._C._select_conv_backend(*args[:9], None)
    kernel = weight.shape[2:]
    if backend.name not in ("Slow2d", "Slow3d") or prod(kernel) == 1:
        return 0
    places = prod(
        (size + 2 * pad - wide * (side - 1) - 1) // step + 1
        for size, side, step, pad, wide in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True)
    )
    return x.shape[0] * x.shape[1] * prod(kernel) * places * x.element_size()
