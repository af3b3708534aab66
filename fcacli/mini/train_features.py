"""Stage `features`: a small 3-D network that reads the caption's parts off a clip; its features measure distances of sets.

It is what Frechet and kernel distances on the miniature are computed with: "mini-FVD", "mini-KVD", comparable with nothing
else. It sees both domains, so that a shift between them counts.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fcacli.mini.build import WEIGHTS
from fcacli.mini.scene import AMOUNTS, COLOURS, KINDS, Action, Domain
from fcacli.mini.stage import HELD_OUT_SEED, TRAIN_SEED, Stage, to_video_tensor
from fcacli.mini.world import ALL_VERBS, sample_clip

CLIPS: dict[Domain, int] = {"base": 2500, "adapt": 2500}
HELD_OUT, BATCH, PEAK_RATE, WARMUP, EVAL_EVERY = 200, 32, 2e-3, 50, 250
PARTS: dict[str, tuple[str, ...]] = {
    "verb": ALL_VERBS,
    "colour": tuple(COLOURS),
    "kind": KINDS["adapt"],
    "direction": ("", "left", "right", "away", "closer", "up"),
    "amount": (*AMOUNTS, "edge"),
}
FEATURES = 64


class Features(nn.Module):
    """Clips (B, 3, T, 48, 48) in [-1, 1] to features (B, FEATURES); `parts` reads the caption's parts off them."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 12, 24, 40, 48)
        strides = ((1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
        self.convolutions = nn.ModuleList(
            nn.Conv3d(before, after, 3, stride, 1) for before, after, stride in zip(widths, widths[1:], strides, strict=False)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(4, width) for width in widths[1:])
        self.head = nn.Linear(widths[-1] * 9, FEATURES)
        self.parts = nn.ModuleDict({name: nn.Linear(FEATURES, len(values)) for name, values in PARTS.items()})

    def forward(self, video: Tensor) -> Tensor:
        x = video
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.gelu(norm(convolution(x)))
        return self.head(x.mean(2).flatten(1))  # the mean over time


@torch.no_grad()
def features_of(videos: np.ndarray) -> np.ndarray:
    """uint8 (N, T, 48, 48, 3) -> (N, FEATURES) float64, by the bundled network."""
    network = _bundled()
    return np.concatenate([network(to_video_tensor(video[None])).double().numpy() for video in videos])


@cache
def _bundled() -> Features:
    with torch.random.fork_rng(devices=[]):  # fresh weights, which are all replaced, must not move the caller's seed
        network = Features().eval()
    network.load_state_dict(_stored(WEIGHTS))
    return network


def _stored(weights: Path) -> dict[str, Tensor]:
    """The network's weights in such a folder, in float32."""
    return {name: value.float() for name, value in load_file(weights / "features" / FILE).items()}


FILE = "model.safetensors"


def train(stage: Stage) -> None:
    """Train until the stage ends; leaves weights/features."""
    videos, parts = _load(TRAIN_SEED, CLIPS)
    held_out = _load(HELD_OUT_SEED, {"base": HELD_OUT, "adapt": HELD_OUT})
    torch.manual_seed(stage.seed)
    network = Features()
    if stage.from_weights:
        network.load_state_dict(_stored(stage.out))
    optim = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=0.02)
    saved = stage.resume()
    if saved:
        network.load_state_dict(saved["network"])
        optim.load_state_dict(saved["optim"])
    while stage.progress < 1.0:
        rng = np.random.default_rng([stage.seed, stage.step])
        for group in optim.param_groups:
            group["lr"] = stage.rate(PEAK_RATE * stage.peak, WARMUP)
        rows = rng.integers(0, len(videos), BATCH)
        features = network(to_video_tensor(videos[rows]))
        losses = [F.cross_entropy(head(features), parts[name][rows]) for name, head in network.parts.items()]
        loss = torch.stack(losses).sum()
        optim.zero_grad(set_to_none=True)
        loss.backward()
        optim.step()
        stage.step += 1
        if stage.step % EVAL_EVERY == 0:
            stage.log(loss=round(loss.item(), 4), **_evaluate(network, *held_out))
        if stage.due:
            stage.checkpoint({"network": network.state_dict(), "optim": optim.state_dict()})
    stage.checkpoint({"network": network.state_dict(), "optim": optim.state_dict()})
    stage.log(**_evaluate(network, *held_out))
    (stage.out / "features").mkdir(exist_ok=True)
    save_file({name: value.half() for name, value in network.state_dict().items()}, stage.out / "features" / FILE)
    (stage.out / "features" / FILE).chmod(0o644)


def _load(seed: int, counts: dict[Domain, int]) -> tuple[np.ndarray, dict[str, Tensor]]:
    clips = [sample_clip(seed, i, domain) for domain, count in counts.items() for i in range(count)]
    return np.stack([clip.video() for clip in clips]), {name: _labels([c.action for c in clips], name) for name in PARTS}


def _labels(actions: list[Action], part: str) -> Tensor:
    return torch.tensor([PARTS[part].index(getattr(action, part)) for action in actions])


@torch.no_grad()
def _evaluate(network: Any, videos: np.ndarray, parts: dict[str, Tensor]) -> dict[str, float]:
    """Share of held-out clips whose part is read right."""
    features = torch.cat([network(to_video_tensor(videos[i : i + 50])) for i in range(0, len(videos), 50)])
    return {
        name: round((head(features).argmax(1) == parts[name]).float().mean().item(), 3) for name, head in network.parts.items()
    }
