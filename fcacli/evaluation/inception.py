"""The Inception network of FID (Heusel et al., 2017) and its 2048 features of a frame.

Inception v3 (Szegedy et al., 2016) with the differences of the weights of 2015-12-05 that TensorFlow's FID uses: 1008
classes, average pooling that does not count the padding, and a maximum instead of an average in the very last block.
Names as in pt_inception-2015-12-05: Mixed_5b.branch1x1.conv.weight and so on.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcacli.evaluation.precision import exactly
from fcacli.evaluation.state_dict import load_strictly, read_tensors

SIZE = 299
RESIZE = f"bilinear to {SIZE}x{SIZE}, stretched, no antialias, in float"
CONDITIONS = f"per frame; Inception 2015-12-05, 2048 features, {RESIZE} (as pytorch-fid)"
CHUNK = 16
"""Frames that go through the network at a time."""


class InceptionFeatures:
    """FID's features of every frame.

    Args:
        path: pt_inception-2015-12-05-6726825d.pth.

    Raises:
        FcaError: the file cannot be read or holds something else.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        with torch.random.fork_rng(devices=[]):  # fresh weights, which are all replaced, must not move the caller's seed
            network = Inception()
        load_strictly(network, read_tensors(path), path, optional=r"num_batches_tracked$")
        self.device = torch.device(device)
        self.network = network.to(self.device).eval().requires_grad_(False)
        with path.open("rb") as file:
            self.identity = f"{hashlib.file_digest(file, 'sha256').hexdigest()} {RESIZE}"

    @exactly()
    def __call__(self, videos: Sequence[np.ndarray]) -> np.ndarray:
        """Of uint8 videos (T, H, W, 3), which may differ in size: (sum of T, 2048) float64, video after video."""
        parts = [np.empty((0, 2048))]
        for video in videos:
            for start in range(0, len(video), CHUNK):
                frames = torch.from_numpy(np.ascontiguousarray(video[start : start + CHUNK])).to(self.device)
                pixels = frames.permute(0, 3, 1, 2).float() / 255  # (B, 3, H, W)
                pixels = F.interpolate(pixels, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
                parts.append(self.network(2 * pixels - 1).double().cpu().numpy())
        return np.concatenate(parts)


class Conv(nn.Module):
    """Convolution without bias, batch normalisation, ReLU; `size` and `padding` are (height, width) or both at once."""

    def __init__(self, given: int, out: int, size: int | tuple[int, int], stride: int = 1, padding: int | tuple[int, int] = 0):
        super().__init__()
        self.conv = nn.Conv2d(given, out, size, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def row(given: int, out: int, size: int) -> Conv:
    """Convolution of 1 x size that keeps the size of the picture."""
    return Conv(given, out, (1, size), padding=(0, size // 2))


def column(given: int, out: int, size: int) -> Conv:
    """Convolution of size x 1 that keeps the size of the picture."""
    return Conv(given, out, (size, 1), padding=(size // 2, 0))


def mean3(x: Tensor) -> Tensor:
    """Average of 3x3, of which the padding is no part."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def max3(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=1, padding=1)


def halve(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=2)


class Block35(nn.Module):
    """Mixed_5b to 5d, on 35x35."""

    def __init__(self, given: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(given, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = Conv(given, 48, 1), Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(given, 64, 1), Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, padding=1)
        self.branch_pool = Conv(given, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(mean3(x))], 1)


class To17(nn.Module):
    """Mixed_6a, from 35x35 to 17x17."""

    def __init__(self, given: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(given, 384, 3, stride=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(given, 64, 1), Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), three, halve(x)], 1)


class Block17(nn.Module):
    """Mixed_6b to 6e, on 17x17: 7x7 as a row and a column."""

    def __init__(self, given: int, c: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(given, 192, 1)
        self.branch7x7_1, self.branch7x7_2, self.branch7x7_3 = Conv(given, c, 1), row(c, c, 7), column(c, 192, 7)
        self.branch7x7dbl_1, self.branch7x7dbl_2, self.branch7x7dbl_3 = Conv(given, c, 1), column(c, c, 7), row(c, c, 7)
        self.branch7x7dbl_4, self.branch7x7dbl_5 = column(c, c, 7), row(c, 192, 7)
        self.branch_pool = Conv(given, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(mean3(x))], 1)


class To8(nn.Module):
    """Mixed_7a, from 17x17 to 8x8."""

    def __init__(self, given: int) -> None:
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = Conv(given, 192, 1), Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1, self.branch7x7x3_2 = Conv(given, 192, 1), row(192, 192, 7)
        self.branch7x7x3_3, self.branch7x7x3_4 = column(192, 192, 7), Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, halve(x)], 1)


class Block8(nn.Module):
    """Mixed_7b and 7c, on 8x8: 3x3 as a row beside a column; `pool` is where the two differ."""

    def __init__(self, given: int, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pool = pool
        self.branch1x1 = Conv(given, 320, 1)
        self.branch3x3_1 = Conv(given, 384, 1)
        self.branch3x3_2a, self.branch3x3_2b = row(384, 384, 3), column(384, 384, 3)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(given, 448, 1), Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = row(384, 384, 3), column(384, 384, 3)
        self.branch_pool = Conv(given, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three, double = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        threes = [self.branch3x3_2a(three), self.branch3x3_2b(three)]
        doubles = [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        return torch.cat([self.branch1x1(x), *threes, *doubles, self.branch_pool(self.pool(x))], 1)


class Inception(nn.Module):
    """The whole network; `fc` belongs to the file and is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3, self.Conv2d_2a_3x3 = Conv(3, 32, 3, stride=2), Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = Conv(64, 80, 1), Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = Block35(192, 32), Block35(256, 64), Block35(288, 64)
        self.Mixed_6a = To17(288)
        self.Mixed_6b, self.Mixed_6c = Block17(768, 128), Block17(768, 160)
        self.Mixed_6d, self.Mixed_6e = Block17(768, 160), Block17(768, 192)
        self.Mixed_7a, self.Mixed_7b, self.Mixed_7c = To8(768), Block8(1280, mean3), Block8(2048, max3)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 299, 299) in [-1, 1] -> (B, 2048), the mean over the last 8x8."""
        x = halve(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))  # (B, 64, 73, 73)
        x = halve(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))  # (B, 192, 35, 35)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))  # (B, 768, 17, 17)
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3))
