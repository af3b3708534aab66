"""LPIPS: how far apart two pictures look, by what an AlexNet sees in them. Zhang et al., 2018, equation 1, version 0.1.

    d(x, y) = sum over layers l of  mean over h, w of  sum over c of  w_lc (f_lc(x) - f_lc(y))^2

f_l are the five layers' outputs after ReLU, divided at each place by their length over the channels; w_l are the published
linear weights. Pictures enter in [-1, 1], whole, at the size they have. PROTOCOL.md, "Per-frame metrics".
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from fcacli.errors import FcaError
from fcacli.evaluation.precision import exactly
from fcacli.evaluation.state_dict import load_strictly, read_tensors

CONDITIONS = "AlexNet, version 0.1 (linear weights), frames at their own size in [-1, 1]"
CHANNELS = (64, 192, 384, 256, 256)
"""Of the five layers compared."""
LEAST_SIZE = 31
"""Pixels: below this nothing is left after the second pooling."""
CHUNK = 16
"""Frames that go through the network at a time."""


class AlexNetFeatures(nn.Module):
    """AlexNet up to its last convolution (Krizhevsky, 2014), named as torchvision names it: features.<n>.weight."""

    taps = (1, 4, 7, 9, 11)
    """The ReLUs whose outputs are compared."""

    def __init__(self) -> None:
        super().__init__()
        one, two, three, four, five = CHANNELS
        self.features = nn.Sequential(
            *(nn.Conv2d(3, one, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2)),
            *(nn.Conv2d(one, two, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2)),
            *(nn.Conv2d(two, three, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(three, four, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(four, five, 3, padding=1), nn.ReLU()),
        )

    def forward(self, pictures: Tensor) -> Iterator[Tensor]:
        """(B, 3, H, W) -> the five layers, each (B, C_l, H_l, W_l)."""
        for number, layer in enumerate(self.features):
            pictures = layer(pictures)
            if number in self.taps:
                yield pictures


class LinearWeights(nn.Module):
    """One weight a channel and layer, named as the lpips package names them: lin<l>.model.1.weight, (1, C_l, 1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        for number, channels in enumerate(CHANNELS):
            layer = nn.Module()
            layer.model = nn.Sequential(nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False))
            self.add_module(f"lin{number}", layer)


class Lpips:
    """LPIPS with given weights; one number a frame, which depends on no other frame beyond rounding.

    Args:
        trunk: AlexNet's weights; the classifier may be in the file and is not used.
        linear: the published linear weights of version 0.1.
        precision: of the network; what follows it is float64. The two agree to about 1e-6.

    Raises:
        FcaError: a file cannot be read or holds something else.
    """

    def __init__(
        self, trunk: Path, linear: Path, device: str = "cpu", precision: Literal["float32", "float64"] = "float32"
    ) -> None:
        with torch.random.fork_rng(devices=[]):  # fresh weights, which are all replaced, must not move the caller's seed
            network, weights = AlexNetFeatures(), LinearWeights()
        load_strictly(network, read_tensors(trunk), trunk, optional=r"^classifier\.")
        load_strictly(weights, read_tensors(linear), linear)
        self.device, self.dtype = torch.device(device), getattr(torch, precision)
        self.network = network.to(self.device, self.dtype).eval().requires_grad_(False)
        self.weights = [weight.to(self.device, torch.float64) for weight in weights.state_dict().values()]  # (1, C_l, 1, 1)

    def __call__(self, prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Of uint8 (T, H, W, 3) and as much: (T,) float64; 0 where two frames are equal.

        Raises:
            FcaError: frames of fewer than 31 pixels in height or width.
        """
        if prediction.shape != truth.shape or prediction.dtype != np.uint8 or truth.dtype != np.uint8:
            raise ValueError(f"cannot compare {prediction.dtype} {prediction.shape} and {truth.dtype} {truth.shape}")
        if min(prediction.shape[1:3]) < LEAST_SIZE:
            size = f"{prediction.shape[2]}x{prediction.shape[1]}"
            raise FcaError(f"LPIPS needs frames of at least {LEAST_SIZE}x{LEAST_SIZE} pixels, got {size}", "leave lpips out")
        chunks = range(0, len(truth), CHUNK)
        return np.concatenate([self._distance(prediction[i : i + CHUNK], truth[i : i + CHUNK]) for i in chunks])

    @exactly()
    def _distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        total = torch.zeros(len(x), dtype=torch.float64, device=self.device)
        layers = zip(self.network(self._pictures(x)), self.network(self._pictures(y)), self.weights, strict=True)
        for seen, other, weight in layers:
            step = (_unit(seen.double()) - _unit(other.double())) ** 2  # (B, C_l, H_l, W_l)
            total += (step * weight).sum(1).mean((1, 2))
        return total.cpu().numpy()

    def _pictures(self, frames: np.ndarray) -> Tensor:
        """uint8 (B, H, W, 3) -> (B, 3, H, W), from [-1, 1] brought to the mean and deviation of ImageNet's pictures."""
        pixels = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device).permute(0, 3, 1, 2).to(self.dtype)
        mean = torch.tensor((-0.030, -0.088, -0.188), dtype=self.dtype, device=self.device)[:, None, None]
        deviation = torch.tensor((0.458, 0.448, 0.450), dtype=self.dtype, device=self.device)[:, None, None]
        return (pixels / 127.5 - 1.0 - mean) / deviation


def _unit(features: Tensor) -> Tensor:
    """Divided by their length over the channels, (B, C, H, W)."""
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)
