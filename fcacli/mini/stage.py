"""What the pretraining stages share: a clock that ends them, checkpoints, a JSON-lines log, averaged weights, clips."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fcacli.mini.scene import Domain
from fcacli.mini.world import sample_clip

TRAIN_SEED, HELD_OUT_SEED = 1, 2
CHECKPOINT_SECONDS = 120.0


@dataclass(kw_only=True)
class Stage:
    """One run of one stage. It ends at `until` (Unix time) or after `steps` steps, whichever is given."""

    name: str
    out: Path
    work: Path
    seed: int
    until: float | None = None
    steps: int | None = None
    rank: int = 0
    world: int = 1
    """Number of processes working on this stage, and which of them this is."""
    device: str = "cpu"
    """Where the transformer trains and judged clips are made."""
    from_weights: bool = False
    """Begin with the weights in `out` where `work` has no checkpoint; the log goes on."""
    peak: float = 1.0
    """Of the stage's own learning rates."""
    step: int = 0
    spent: float = 0.0
    """Seconds used by earlier runs that this one continues."""
    started: float = field(default_factory=time.time)
    saved: float = field(default_factory=time.time)

    @property
    def progress(self) -> float:
        """Share of the whole training done, 0 to 1: what the learning rate follows."""
        if self.steps is not None:
            return min(1.0, self.step / self.steps)
        used = self.spent + time.time() - self.started
        whole = self.spent + (self.until or self.started) - self.started
        return min(1.0, used / max(whole, 1e-9))

    @property
    def seconds(self) -> float:
        """Training time so far, earlier runs included."""
        return self.spent + time.time() - self.started

    def rate(self, peak: float, warmup: int, floor: float = 0.01, progress: float | None = None) -> float:
        """Learning rate now (or at `progress`): linear warm-up over `warmup` steps, then cosine down to floor * peak."""
        fall = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (self.progress if progress is None else progress)))
        return peak * min(1.0, (self.step + 1) / warmup) * fall

    def log(self, **row: Any) -> None:
        """Append a line to weights/log/<stage>.jsonl and print it."""
        line = json.dumps({"step": self.step, "seconds": round(self.seconds), **row})
        path = self.out / "log" / f"{self.name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)

    def resume(self) -> dict[str, Any] | None:
        """The last checkpoint's state, or None; sets `step` and `spent`."""
        path = self.work / f"{self.name}.pt"
        if not path.is_file():
            if self.rank:
                return None
            if not self.from_weights:
                (self.out / "log" / f"{self.name}.jsonl").unlink(missing_ok=True)
            return None
        saved = torch.load(path, map_location=self.device, weights_only=True)
        self.step, self.spent = saved["step"], saved["spent"]
        return saved["state"]

    def checkpoint(self, state: dict[str, Any]) -> None:
        """Save atomically."""
        path = self.work / f"{self.name}.pt"
        fresh = path.with_suffix(".new")
        torch.save({"step": self.step, "spent": self.seconds, "state": state}, fresh)
        fresh.replace(path)
        self.saved = time.time()

    @property
    def due(self) -> bool:
        """Is a checkpoint due?"""
        return time.time() - self.saved > CHECKPOINT_SECONDS


class Average:
    """Exponential moving average of a module's floating-point state."""

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self.decay = decay
        self.count = 0
        self.state = {key: value.detach().clone().float() for key, value in module.state_dict().items()}

    def update(self, module: torch.nn.Module) -> None:
        """One step; the decay warms up, so that early averages are not the random start."""
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        values = module.state_dict()
        for key, mean in self.state.items():
            mean.lerp_(values[key].detach().float(), 1 - decay)

    def save(self) -> dict[str, Any]:
        """What `load` takes."""
        return {"count": self.count, "state": self.state}

    def load(self, saved: dict[str, Any]) -> None:
        """Continue from `save`."""
        self.count, self.state = saved["count"], saved["state"]


def clips_as_video(seed: int, first: int, count: int, domain: Domain) -> tuple[np.ndarray, list[str]]:
    """Videos uint8 (clips, T, 48, 48, 3) and captions."""
    clips = [sample_clip(seed, first + i, domain) for i in range(count)]
    return np.stack([clip.video() for clip in clips]), [clip.caption for clip in clips]


def to_video_tensor(video: np.ndarray) -> torch.Tensor:
    """uint8 (B, T, H, W, 3) -> float (B, 3, T, H, W) in [-1, 1]."""
    return torch.from_numpy(video).permute(0, 4, 1, 2, 3).float() / 127.5 - 1.0
