"""Narrow 3-D convolutions of a video autoencoder on a CPU, as 2-D ones: three times as fast for 24 or 64 channels.

The frames that a kernel reads go into the channels of one 2-D convolution. The same sums in another order: rounding differs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

NARROW = 64
"""Channels up to which it is faster; at 128 and 256 it is not, and no published autoencoder is so narrow."""


def convolve_by_frame(autoencoder: nn.Module) -> None:
    """Have every narrow 3-D convolution with stride 1 and no padding in time compute that way from now on."""
    for module in autoencoder.modules():
        if isinstance(module, nn.Conv3d) and max(module.in_channels, module.out_channels) <= NARROW and _is_plain(module):
            module.forward = _forward.__get__(module)  # type: ignore[method-assign]


def _is_plain(module: nn.Conv3d) -> bool:
    return module.stride == module.dilation == (1, 1, 1) and module.groups == 1 and module.padding[0] == 0


def _forward(module: nn.Conv3d, video: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B, C', T - kernel + 1, H', W')."""
    reach = module.kernel_size[0]
    weight = module.weight.transpose(1, 2).flatten(1, 2)  # (C', reach C, kernel, kernel)
    frames = video.permute(0, 2, 3, 4, 1)  # (B, T, H, W, C): channels last in memory too, as the convolution wants them
    count = frames.shape[1] - reach + 1
    seen = [frames[:, first : first + count] for first in range(reach)]
    pictures = (torch.cat(seen, -1) if reach > 1 else frames.contiguous()).flatten(0, 1).permute(0, 3, 1, 2)
    padding = (int(module.padding[1]), int(module.padding[2]))
    made = nn.functional.conv2d(pictures, weight, module.bias, padding=padding)
    return made.unflatten(0, (len(video), count)).transpose(1, 2)
