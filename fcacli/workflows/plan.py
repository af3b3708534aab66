"""`fca plan`: what a training would take, before it starts; and what `fca train` asks of it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fcacli.config import TrainConfig
from fcacli.errors import FcaError
from fcacli.events import Message, Report, silent
from fcacli.workflows.devices import choose_gpus, computes_bf16
from fcacli.workflows.room import fits_easily, free_device, free_memory, peak_of_process
from fcacli.workflows.train_options import TrainOptions, as_arguments, resolve
from fcacli.workspace import Workspace

if TYPE_CHECKING:
    from fcacli.model.bases import BaseSpec
    from fcacli.planning.choice import Tried
    from fcacli.planning.memory import Memory, Planner
    from fcacli.planning.training import Kind

__all__ = ["Disk", "Planned", "plan"]

WARM = 3
"""Steps of a session that are slower than the others."""


@dataclass(frozen=True)
class Disk:
    """Bytes."""

    encodings: int | None
    """Of the prepared data; None where none is prepared."""
    encodings_said: str
    """The same, by kind, for a person."""
    checkpoints: int
    """Of those kept, and the one that is being written."""


@dataclass(frozen=True)
class Planned:
    """What `fca plan` reports."""

    base: str
    config: TrainConfig
    memory: Memory
    disk: Disk
    card: int
    """Bytes of device memory that this needs, with the allowances; 0 on the CPU."""
    gpu_memory: int | None
    """Bytes asked about."""
    hours: float | None
    """Of the training steps; None where no run here has measured one like it."""
    command: str
    tried: list[dict[str, object]]
    """Options that were tried for `gpu_memory`, and what each needs."""
    process: int
    """Bytes of main memory of this process, which holds the libraries and no tensors: measured here."""

    def allowances(self) -> list[str]:
        """What is not tensors, apart from them."""
        from fcacli.planning.choice import CONTEXT, FRAGMENTATION

        lines = [f"besides, in memory: python and its libraries, {_gb(self.process)} in this process"]
        if self.memory.kind == "cuda":
            lines[0] += " (with CUDA's more: not measured)"
            lines.append(
                f"besides, on the device (assumed, not measured): CUDA context {_gb(CONTEXT)}, fragmentation {FRAGMENTATION:.0%}; "
                f"so the card has to have {_gb(self.card)}, for {self.memory.peak.name}"
            )
        return lines


def plan(
    workspace: Workspace,
    options: TrainOptions | None = None,
    *,
    gpus: int | None = None,
    gpu_memory: int | None = None,
    keep: int = 3,
    report: Report = silent,
) -> Planned:
    """Plan a training with these options, or with the least costly ones that fit `gpu_memory` bytes.

    It is planned for a CUDA device, also where there is none, but with `gpus` 0, and for the miniature where there is none.
    No weights are read.

    Raises:
        Misuse: an option is out of range.
        FcaError: nothing that was tried fits.
    """
    from fcacli.model.bases import resolve_base

    options = options or TrainOptions()
    spec = resolve_base(options.base or "auto")
    kind: Kind = "cuda" if gpu_memory is not None else _kind(gpus, spec)
    config = resolve(options, spec, "", options.data or "", kind == "cuda" or computes_bf16("cpu"))
    planner, disk = _planner(workspace, spec, config, kind)
    report(Message(f"base {spec.name} ({spec.reason}), planned for {'a CUDA device' if kind == 'cuda' else 'the CPU'}"))
    if gpu_memory is None:
        tried = [_as_asked(config, planner)]
    else:
        tried = _fitting(config, options, planner, _room_of_card(gpu_memory), report)
        if not _room_of_card(gpu_memory)(tried[-1].memory):
            raise _nothing_fits(tried, gpu_memory)
    return _planned(workspace, options, spec, tried, disk, keep, gpu_memory, gpus if kind == "cpu" else gpus or 1)


def require_room(options: TrainOptions, config: TrainConfig, spec: BaseSpec, device: str, gpus: int | None, report: Report) -> None:
    """Before `fca train` begins: does it fit this machine?

    Raises:
        FcaError: it does not; the hint is a line that does, if there is one.
    """
    kind: Kind = "cuda" if device == "cuda" else "cpu"
    free = free_device() if kind == "cuda" else free_memory()
    if free is None or fits_easily(spec, config, free):
        return
    planner, _ = _planner(None, spec, config, kind)
    fits = _room_free(free)
    if fits((asked := _as_asked(config, planner)).memory):
        return
    tried = _fitting(config, options, planner, fits, report)
    where = "GPU memory" if kind == "cuda" else "memory"
    peak = asked.memory.peak.name
    message = f"{peak} needs {_gb(asked.memory.needed)} of {where}, {_gb(free)} are free (fca plan shows all phases)"
    line = f"fca train {as_arguments(replace(options, **tried[-1].changes), gpus)}"
    found = fits(tried[-1].memory)
    raise FcaError(message, f"{line}\nor --force, to try it" if found else "a smaller --size, fewer --frames, or --force, to try it")


# ---------------------------------------------------------------- its parts


def _kind(gpus: int | None, spec: BaseSpec) -> Kind:
    if gpus == 0 or (spec.name == "mini" and choose_gpus(None) == "cpu"):
        return "cpu"
    return "cuda"


def _planner(workspace: Workspace | None, spec: BaseSpec, config: TrainConfig, kind: Kind) -> tuple[Planner, Disk]:
    """A planner, and the disk that encodings take; without a workspace none are looked for."""
    from fcacli.planning.memory import Planner
    from fcacli.workflows.encode.batches import AHEAD, batches_of
    from fcacli.workflows.train import require_fit

    planner = Planner(spec, config.clip, kind, batches_of(kind), AHEAD)
    base = planner.base()
    require_fit(base, config)
    return planner, _encodings(workspace, base, config) if workspace else Disk(None, "", 0)


def _encodings(workspace: Workspace, base, config: TrainConfig) -> Disk:  # type: ignore[no-untyped-def]
    from fcacli.workflows.encode.encode import choose_clips, counts_of, keys_of
    from fcacli.workflows.encode.plan import Counts, gigabytes
    from fcacli.workflows.encode.plan import plan as plan_encodings

    try:
        clips = choose_clips(workspace.dataset(config.data or None), config.clip)
    except FcaError:
        thousand = plan_encodings(base, config.clip, Counts(1000, 1000))
        return Disk(None, f"no prepared data here; 1,000 clips with as many captions take {gigabytes(thousand.total)}", 0)
    planned = plan_encodings(base, config.clip, counts_of({split: keys_of(clips[split], config.clip, "") for split in clips}))
    return Disk(planned.total, planned.said(), 0)


def _as_asked(config: TrainConfig, planner: Planner) -> Tried:
    from fcacli.planning.choice import Tried

    return Tried({}, config, planner.memory(config))


def _fitting(
    config: TrainConfig, options: TrainOptions, planner: Planner, fits: Callable[[Memory], bool], report: Report
) -> list[Tried]:
    from fcacli.planning.choice import choose

    asked = {option.name for option in fields(options) if getattr(options, option.name) not in (None, {})}

    def memory(config: TrainConfig) -> Memory:
        report(Message(f"planning {_shown(config)}", "detail"))
        return planner.memory(config)

    return choose(config, asked, planner.base().head_dim, memory, fits)


def _room_of_card(size: int) -> Callable[[Memory], bool]:
    from fcacli.planning.choice import card_for

    return lambda memory: card_for(memory.needed) <= size


def _room_free(size: int) -> Callable[[Memory], bool]:
    """What is free has CUDA's context behind it already."""
    from fcacli.planning.choice import card_for

    return lambda memory: card_for(memory.needed, context=0) <= size


def _nothing_fits(tried: list[Tried], gpu_memory: int) -> FcaError:
    from fcacli.planning.choice import card_for

    best = min(tried, key=lambda one: one.memory.needed)
    short = card_for(best.memory.needed) - gpu_memory
    shown = "; ".join(f"{_shown(one.config)}: {_gb(card_for(one.memory.needed))}" for one in tried)
    return FcaError(
        f"nothing that was tried fits {_gb(gpu_memory)}: {best.memory.peak.name} needs {_gb(short)} more with {_shown(best.config)}; "
        f"tried, by the card that each needs: {shown}",
        "a larger --gpu-memory, a smaller --size or fewer --frames",
    )


def _planned(
    workspace: Workspace,
    options: TrainOptions,
    spec: BaseSpec,
    tried: list[Tried],
    disk: Disk,
    keep: int,
    gpu_memory: int | None,
    gpus: int | None,
) -> Planned:
    from fcacli.planning.choice import card_for

    chosen = tried[-1]
    seconds = seconds_per_step(workspace, chosen.config, chosen.memory.kind)
    return Planned(
        base=spec.name,
        config=chosen.config,
        memory=chosen.memory,
        disk=replace(disk, checkpoints=(keep + 1) * chosen.memory.checkpoint),
        card=card_for(chosen.memory.needed) if chosen.memory.kind == "cuda" else 0,
        gpu_memory=gpu_memory,
        hours=None if seconds is None else seconds * chosen.config.steps / 3600,
        command=f"fca train {as_arguments(replace(options, **chosen.changes), gpus)}".strip(),
        process=peak_of_process(),
        tried=[{"options": one.changes, "needed": one.memory.needed} for one in tried],
    )


def seconds_per_step(workspace: Workspace, config: TrainConfig, kind: str) -> float | None:
    """Median seconds of a step in the newest run here that computes the same on the same kind of device."""
    from fcacli.training.checkpoint import read_config

    def work(of: TrainConfig) -> tuple[object, ...]:
        return of.base, of.clip, of.adapter, of.batch_size, of.accumulate, of.precision, of.checkpointing, of.optimizer

    for run in reversed(workspace.all_runs()):
        try:
            same = work(read_config(run)) == work(config)
        except FcaError:
            continue
        if same and (seconds := _measured(run / "speed.jsonl", kind)):
            return statistics.median(seconds)
    return None


def _measured(path: Path, kind: str) -> list[float]:
    if not path.is_file():
        return []
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return [line["seconds"] for line in lines[WARM:] if ("device_gb" in line) == (kind == "cuda")]


def _shown(config: TrainConfig) -> str:
    """What decides the memory, in a few words."""
    adapter, clip = config.adapter, config.clip
    size = f"width {adapter.width}" if hasattr(adapter, "width") else f"rank {adapter.rank}"
    batch = f"batch {config.batch_size}" + (f"x{config.accumulate}" if config.accumulate > 1 else "")
    recomputing = "checkpointing" if config.checkpointing else "no checkpointing"
    words = (f"{adapter.kind} {size}", f"{clip.frames}x{clip.width}x{clip.height}", batch, config.precision, config.optimizer)
    return ", ".join((*words, recomputing))


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
