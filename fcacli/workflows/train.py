"""`fca train`: fit an adapter to a prepared dataset; again, and it continues."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fcacli.events import Report, silent
from fcacli.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What the user asked for; None means the base's default (or, of a run that is continued, the run's own)."""

    base: str | None = None
    """mini, cogvideox-2b, a hub id, a folder; None or "auto" chooses by the machine."""
    data: str | None = None
    """Folder name below data/; None for the latest."""
    adapter: Literal["fca", "lora"] | None = None
    steps: int | None = None
    batch_size: int | None = None
    accumulate: int | None = None
    lr: float | None = None
    warmup: int | None = None
    weight_decay: float | None = None
    clip_norm: float | None = None
    optimizer: Literal["adamw8bit", "adamw"] | None = None
    precision: Literal["auto", "bf16", "fp32"] | None = None
    """auto: bf16 where the device computes in it, else fp32."""
    checkpointing: bool | None = None
    caption_dropout: float | None = None
    seed: int | None = None
    validate_every: int | None = None
    validate_clips: int | None = None
    frames: int | None = None
    init_frames: int | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    fit: Literal["crop", "pad", "stretch"] | None = None
    sample_steps: int | None = None
    guidance: float | None = None
    adapter_width: int | None = None
    """FCAConfig.width."""
    lora_rank: int | None = None
    adapter_fields: Mapping[str, Any] = field(default_factory=dict)
    """Any other field of FCAConfig or LoRAConfig by its name, e.g. {"modulation": "block"}."""


@dataclass(frozen=True)
class TrainResult:
    """What a call of `train` left behind."""

    run: Path
    checkpoint: Path
    """The newest checkpoint."""
    step: int
    steps: int
    train_loss: float | None
    """Of the last step."""
    held_out_loss: float | None
    """Of the last validation; None where the dataset has no validation clips."""
    finished: bool


def train(
    workspace: Workspace,
    options: TrainOptions | None = None,
    *,
    gpus: int | None = None,
    run: str | None = None,
    new: bool = False,
    workers: int | None = None,
    max_seconds: float | None = None,
    report: Report = silent,
) -> TrainResult:
    """Train an adapter, or continue the latest unfinished run.

    Args:
        options: what the user asked for; the rest is the base's default.
        gpus: 0 for the CPU, 1 for one CUDA device, None for one if there is one.
        run: name of the run to continue or to start.
        new: start a new run although an unfinished one is there.
        workers: processes that load clips; None chooses by the size of the data.
        max_seconds: stop (saved, unfinished) after this time; no part of the config.
    """
    raise NotImplementedError
