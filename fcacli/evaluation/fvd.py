"""Frechet video distance: clips -> I3D logits -> the distance of two Gaussians, under presets that state every choice.

The presets are the rows of PROTOCOL.md's table ("FVD"). Whatever a reference computes its trace term with, here it is the
exact one of frechet.py in float64: a preset fixes the quantity, not its rounding errors.

T frames of H x W; N clips. Source: Unterthiner et al., 2018.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from fcacli.errors import FcaError
from fcacli.evaluation.frechet import frechet_distance, frechet_distance_over_n

if TYPE_CHECKING:
    from torch import Tensor

SIZE, MIN_FRAMES = 224, 9
"""What I3D reads: pixels of a side, and the frames below which it has no logits."""
Resize = Literal["crop", "stretch", "stretch-corner"]
RESIZES: dict[Resize, str] = {
    "crop": "short side to 224, bilinear, align_corners=False, no antialias, centre crop",
    "stretch": "stretched to 224x224, bilinear, align_corners=False, no antialias",
    "stretch-corner": "stretched to 224x224, bilinear from the top left corner (TensorFlow 1's), no antialias",
}
Arithmetic = Literal["folded", "exact"]
"""`exact`: the network as published, float32. `folded`: BatchNorm inside the convolutions, faster; FVD moves by less than 1e-4
of itself."""


@dataclass(frozen=True)
class Preset:
    """One way in which FVD is computed in print."""

    name: str
    resize: Resize
    ddof: int
    """Taken off N in the covariance."""
    eps: float
    """BatchNorm's epsilon, that of the weights which the reference uses."""
    reference: str
    """Whose numbers these are."""
    trace: str
    """What the reference computes the trace term with."""

    @property
    def distance(self) -> Callable[[np.ndarray, np.ndarray], float]:
        """Of two sets of features (N, 400) and (M, 400)."""
        return frechet_distance if self.ddof else frechet_distance_over_n

    def conditions(self) -> dict[str, str]:
        """All that decides the number, in words."""
        return {
            "preset": self.name,
            "reference": self.reference,
            "resize": RESIZES[self.resize],
            "covariance": f"over {'N - 1' if self.ddof else 'N'}, float64",
            "trace term": f"exact, float64 (the reference: {self.trace})",
            "BatchNorm eps": f"{self.eps:g}",
            "features": "I3D logits before softmax, averaged over time, 400",
        }


DEFAULT_PRESET = "videogpt"
PRESETS = {
    preset.name: preset
    for preset in (
        Preset("tf", "stretch-corner", 1, 1e-3, "the original TensorFlow code", "symmetric SVD, float32"),
        Preset("styleganv", "stretch", 0, 1e-3, "StyleGAN-V (its eps is probable, not known)", "sqrtm, float64"),
        Preset("videogpt", "crop", 1, 1e-5, "VideoGPT, Seer", "symmetric SVD, float32"),
        Preset("cdfvd", "stretch", 0, 1e-5, "cd-fvd", "sqrtm, float64"),
    )
}


class I3DFeatures:
    """Clips -> I3D's logits, float64; one clip at a time, so that a row depends on nothing but its clip."""

    def __init__(self, path: Path, preset: Preset, device: str = "cpu", arithmetic: Arithmetic = "folded") -> None:
        """Raises FcaError where the weights cannot be used, see load_i3d."""
        from fcacli.evaluation.i3d import fold, load_i3d

        network = load_i3d(path, preset.eps)
        self.trained_eps = network.trained_eps
        """BatchNorm's epsilon with which the weights were trained; the preset's is what is computed with."""
        self._network = (fold(network) if arithmetic == "folded" else network).to(device)
        self._preset, self._device = preset, device
        with path.open("rb") as file:
            weights = hashlib.file_digest(file, "sha256").hexdigest()
        self.identity = f"i3d {weights} {preset.resize} {preset.eps:g} {arithmetic}"
        """Equal where equal clips give equal rows: the weights, the resize, eps, the arithmetic."""

    def __call__(self, videos: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 (T, H, W, 3) each -> (N, 400).

        Raises:
            FcaError: a clip has fewer than 9 frames, or is no such array.
        """
        import torch

        rows = np.empty((len(videos), 400), np.float64)
        exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)  # TF32 is off by 1e-3
        with torch.inference_mode(), exact:
            for row, video in zip(rows, videos, strict=True):
                row[:] = self._network(resized(video, self._preset.resize).to(self._device)[None])[0].double().cpu().numpy()
        return rows


def resized(video: np.ndarray, rule: Resize) -> "Tensor":
    """uint8 (T, H, W, 3) -> float32 (3, T, 224, 224) in [-1, 1].

    Raises:
        FcaError: fewer than 9 frames, or no such array.
    """
    import torch
    import torch.nn.functional as F

    if video.dtype != np.uint8 or video.ndim != 4 or video.shape[-1] != 3 or 0 in video.shape:
        raise FcaError(f"expected uint8 (T, H, W, 3) frames, got {video.dtype} {video.shape}")
    if len(video) < MIN_FRAMES:
        raise FcaError(f"FVD and KVD need clips of at least {MIN_FRAMES} frames, got {len(video)}", "leave fvd and kvd out")
    frames = torch.from_numpy(np.ascontiguousarray(video)).permute(0, 3, 1, 2).float()  # (T, 3, H, W)
    height, width = frames.shape[2:]
    if rule == "crop":
        short = min(height, width)
        size = (math.ceil(height * SIZE / short), math.ceil(width * SIZE / short))
        frames = F.interpolate(frames, size, mode="bilinear", align_corners=False)
        top, left = (size[0] - SIZE) // 2, (size[1] - SIZE) // 2
        frames = frames[:, :, top : top + SIZE, left : left + SIZE]
    elif rule == "stretch":
        frames = F.interpolate(frames, (SIZE, SIZE), mode="bilinear", align_corners=False)
    else:
        frames = _from_corner(_from_corner(frames, 2), 3)
    return (frames / 127.5 - 1).transpose(0, 1)


def _from_corner(frames: "Tensor", axis: int) -> "Tensor":
    """Linear along one axis to 224: pixel i is taken at i times the ratio of sizes, not at pixels' centres."""
    import torch

    size = frames.shape[axis]
    place = torch.arange(SIZE, dtype=torch.float64) * (size / SIZE)  # (224,)
    low = place.long()
    share = (place - low).float().reshape([-1 if each == axis else 1 for each in range(4)])
    return torch.lerp(frames.index_select(axis, low), frames.index_select(axis, (low + 1).clamp(max=size - 1)), share)
