"""`fca plan`: what a training would take, before it starts; and what `fca train` asks of it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fcacli.config import TrainConfig
from fcacli.errors import FcaError, Misuse
from fcacli.events import Message, Report, silent
from fcacli.workflows import launch
from fcacli.workflows.configured import configured, encodings_of
from fcacli.workflows.devices import choose_gpus
from fcacli.workflows.pace import seconds_per_step
from fcacli.workflows.ranks import here
from fcacli.workflows.room import fits_easily, free_memory, peak_of_process
from fcacli.workflows.train_options import TrainOptions, as_arguments
from fcacli.workspace import Workspace

if TYPE_CHECKING:
    from fcacli.model.bases import BaseSpec
    from fcacli.model.bases.cogvideox import CogVideoX
    from fcacli.planning.choice import Tried
    from fcacli.planning.memory import Memory, Planner
    from fcacli.planning.shaped import Kind, ShapedBase
    from fcacli.workflows.encode.plan import Plan as Encodings

__all__ = ["Disk", "Planned", "plan"]

IN_MAIN_MEMORY = {"offload_optimizer", "offload_gradients", "offload_activations", "block_swap"}
"""Options that save nothing where all is in main memory."""


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
    processes: int
    """That train together; memory is that of each."""
    tried: list[dict[str, object]]
    """Options that were tried for `gpu_memory`, and what each needs."""
    process: int
    """Bytes of main memory of this process, which holds the libraries and no tensors: measured here."""

    def settings(self) -> str:
        """What decides the memory, in a few words."""
        return _shown(self.config)

    def allowances(self) -> list[str]:
        """What is not tensors, apart from them."""
        return allowances(self.memory, self.card, self.process)


def allowances(memory: Memory, card: int, process: int) -> list[str]:
    """What is not tensors, for a person: of this process, and of a card of so many bytes."""
    from fcacli.planning.choice import CONTEXT, FRAGMENTATION

    host = memory.host_peak
    needed = f"so {_gb(host.host_least + process)} of main memory have to be free, for {host.name}"
    lines = [f"besides, in memory: python and its libraries, {_gb(process)} in this process; {needed}"]
    if memory.kind == "cuda":
        lines[0] += " (with CUDA python takes more: not measured)"
        lines.append(
            f"besides, on the device (as on an H200): CUDA context {_gb(CONTEXT)}, "
            f"fragmentation {FRAGMENTATION:.0%}; so the card has to have {_gb(card)}, for {memory.peak.name}"
        )
    return lines


def plan(
    workspace: Workspace,
    options: TrainOptions | None = None,
    *,
    gpus: int | None = None,
    processes: int | None = None,
    nodes: int = 1,
    gpu_memory: int | None = None,
    keep: int = 3,
    report: Report = silent,
) -> Planned:
    """Plan a training with these options, or with the least costly ones that fit `gpu_memory` bytes.

    It is planned for a CUDA device, also where there is none, but with `gpus` 0, and for the miniature where there is none;
    with several, or several `processes` on the CPU, or `nodes` of as many, for each of them. No weights are read.

    Raises:
        Misuse: an option is out of range, or a card's memory is named for the CPU.
        FcaError: nothing that was tried fits.
    """
    from fcacli.model.bases import resolve_base
    from fcacli.planning.shaped import shaped_base

    if gpu_memory is not None and gpus == 0:
        raise Misuse("--gpu-memory is that of a CUDA device, and --gpus 0 is the CPU", "leave one of them out")
    options = options or TrainOptions()
    spec = resolve_base(options.base or "auto")
    kind: Kind = "cuda" if gpu_memory is not None else kind_of(gpus, spec)
    base = shaped_base(spec, kind)
    layout = launch.layout(gpus, processes, nodes, command="plan") or launch.Layout(processes=1, device=kind)
    config, encodings = configured(workspace, options, base, layout.size, report)
    planner = _planner(base, config, kind, encodings, processes=layout.size)
    on = f"on data/{config.data}, " if config.data else ""
    report(Message(f"base {spec.name} ({spec.reason}), {on}planned for {'a CUDA device' if kind == 'cuda' else 'the CPU'}"))
    if gpu_memory is None:
        tried = [_as_asked(config, planner)]
    else:
        tried = _fitting(config, options, base, planner, _room_of_card(gpu_memory), report)
        if not _room_of_card(gpu_memory)(tried[-1].memory.needed):
            raise _nothing_fits(tried, gpu_memory)
    if gpu_memory is not None:  # the machine of that card may choose another base by itself
        options = replace(options, base=options.base or spec.name)
    return _planned(
        workspace,
        options,
        spec,
        tried,
        _disk(base, config, encodings),
        keep,
        gpu_memory,
        gpus,
        layout,
    )


def require_room(
    loaded: CogVideoX,
    dataset: Path,
    config: TrainConfig,
    options: TrainOptions,
    gpus: int | None,
    report: Report,
    processes: int = 1,
    begun_by: Sequence[str] = (),
) -> None:
    """Before `fca train` begins on a base: does it fit this machine? On the CPU, as often as there are processes here.

    Args:
        begun_by: words of the command besides its options, which a line that does fit has as well.

    Raises:
        FcaError: it does not; the hint is a line that does, if there is one.
    """
    from fcacli.model.device_memory import free_on
    from fcacli.workflows.encode.encode import all_encoded

    kind: Kind = "cuda" if loaded.device.type == "cuda" else "cpu"
    memory = free_memory()
    host = None if memory is None else memory // here()
    free = free_on(loaded.device) if kind == "cuda" else host
    if free is None or all(fits_easily(loaded, config, size) for size in (free, host) if size is not None):
        return
    base = _shaped(loaded.spec, config, kind)
    encoded = all_encoded(loaded, dataset, config.clip)
    planner = _planner(base, config, kind, encodings_of(base, dataset, config), encoded, processes)
    fits = _room_free(free)
    asked = _as_asked(config, planner)
    if kind == "cuda" and host is not None:
        _require_main_memory(asked.memory, host)
    if fits(asked.memory.needed):
        return
    fixed = {"adapter_width"} if "--fork" in begun_by else set()
    tried = _fitting(config, options, base, planner, fits, report, fixed)
    where = "GPU memory" if kind == "cuda" else "memory"
    peak = asked.memory.peak.name
    message = f"{peak} needs {_gb(asked.memory.needed)} of {where}, {_gb(free)} are free (fca plan shows all phases)"
    line = " ".join(["fca train", as_arguments(replace(options, **tried[-1].changes), gpus), shlex.join(begun_by)]).rstrip()
    found = fits(tried[-1].memory.needed)
    raise FcaError(message, f"{line}\nor --force, to try it" if found else _less(options, base))


# ---------------------------------------------------------------- its parts


def _require_main_memory(memory: Memory, free: int) -> None:
    """
    Raises:
        FcaError: beside the device it takes more main memory than is free.
    """
    peak = memory.host_peak
    if peak.host_least > free:
        raise FcaError(
            f"{peak.name} needs {_gb(peak.host_least)} of main memory beside the GPU, {_gb(free)} are free "
            "(fca plan shows all phases)",
            "end other programs, keep less in main memory (a smaller --block-swap, no --offload-*), or --force, to try it",
        )


def _less(options: TrainOptions, base: ShapedBase) -> str:
    """What to ask for instead where no option that was left open is enough."""
    words = [
        *(["a smaller --batch-size"] if options.batch_size else []),
        *(["--checkpointing"] if options.checkpointing is False else []),
        *(["a smaller --size, fewer --frames"] if base.spec.name != "mini" else []),  # which knows clips of one shape
    ]
    return ", ".join([*words, "or --force, to try it"])


def kind_of(gpus: int | None, spec: BaseSpec) -> Kind:
    """What is planned for: the CPU where it is asked for, and for the miniature where there is nothing else."""
    if gpus == 0 or (spec.name == "mini" and (gpus or 1) == 1 and choose_gpus(None) == "cpu"):
        return "cpu"
    return "cuda"


def _shaped(spec: BaseSpec, config: TrainConfig, kind: Kind) -> ShapedBase:
    """
    Raises:
        Misuse: the clip or the adapter does not fit the base.
    """
    from fcacli.planning.shaped import shaped_base
    from fcacli.workflows.train import require_fit

    base = shaped_base(spec, kind)
    require_fit(base, config)
    return base


def _planner(
    base: ShapedBase,
    config: TrainConfig,
    kind: Kind,
    encodings: Encodings | None,
    encoded: bool = False,
    processes: int = 1,
) -> Planner:
    from fcacli.planning.memory import Planner
    from fcacli.training.loader import IN_MEMORY
    from fcacli.workflows.encode.batches import AHEAD, batches_of

    batches = {} if encoded else batches_of(kind, config.clip)
    if encodings is None:
        return Planner(base, config.clip, kind, batches, AHEAD, processes=processes)
    kept = encodings.total if encodings.total <= IN_MEMORY else 0
    return Planner(base, config.clip, kind, batches, AHEAD, kept, encodings.images, processes)


def _disk(base: ShapedBase, config: TrainConfig, encodings: Encodings | None) -> Disk:
    from fcacli.workflows.encode.plan import Counts, gigabytes
    from fcacli.workflows.encode.plan import plan as plan_encodings

    if encodings is not None:
        return Disk(encodings.total, encodings.said(), 0)
    thousand = plan_encodings(base, config.clip, Counts(1000, 1000))
    return Disk(None, f"no prepared data here; 1,000 clips with as many captions take {gigabytes(thousand.total)}", 0)


def _as_asked(config: TrainConfig, planner: Planner) -> Tried:
    from fcacli.planning.choice import Tried

    return Tried({}, config, planner.memory(config))


def _fitting(
    config: TrainConfig,
    options: TrainOptions,
    base: ShapedBase,
    planner: Planner,
    fits: Callable[[int], bool],
    report: Report,
    fixed: Set[str] = frozenset(),
) -> list[Tried]:
    from fcacli.planning.choice import choose

    asked = fixed | {option.name for option in fields(options) if getattr(options, option.name) not in (None, {})}
    if planner.kind == "cpu":
        asked |= IN_MAIN_MEMORY
    if planner.processes > 1:
        asked |= {"offload_gradients"}  # which they share

    def memory(config: TrainConfig) -> Memory:
        report(Message(f"planning {_shown(config)}", "detail"))
        return planner.memory(config)

    may_share = planner.processes > 1 and config.batch_size * config.accumulate % planner.processes == 0
    return choose(config, asked, base.head_dim, base.layers, memory, fits, planner.estimate, may_share)


def _room_of_card(size: int) -> Callable[[int], bool]:
    """Whether a peak of so many bytes of tensors fits."""
    from fcacli.planning.choice import card_for

    return lambda needed: card_for(needed) <= size


def _room_free(size: int) -> Callable[[int], bool]:
    """What is free has CUDA's context behind it already."""
    from fcacli.planning.choice import card_for

    return lambda needed: card_for(needed, context=0) <= size


def _nothing_fits(tried: list[Tried], gpu_memory: int) -> FcaError:
    from fcacli.planning.choice import card_for

    best = min(tried, key=lambda one: one.memory.needed)
    short = card_for(best.memory.needed) - gpu_memory
    shown = "; ".join(f"{_shown(one.config)}: {_gb(card_for(one.memory.needed))}" for one in tried)
    return FcaError(
        f"nothing that was tried fits {_gb(gpu_memory)}: {best.memory.peak.name} needs {_gb(short)} more "
        f"with {_shown(best.config)}; tried, by the card that each needs: {shown}",
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
    layout: launch.Layout,
) -> Planned:
    from fcacli.planning.choice import card_for

    chosen = tried[-1]
    if layout.nodes > 1:
        layout = replace(layout, rendezvous="HOST:PORT")
    words = layout.words
    if layout.single:
        gpus = gpus if chosen.memory.kind == "cpu" else gpus or 1
        words = [] if gpus is None else ["--gpus", str(gpus)]
    seconds = seconds_per_step(workspace, chosen.config, chosen.memory.kind, layout.size)
    return Planned(
        base=spec.name,
        config=chosen.config,
        memory=chosen.memory,
        disk=replace(disk, checkpoints=(keep + 1) * chosen.memory.checkpoint),
        card=card_for(chosen.memory.needed) if chosen.memory.kind == "cuda" else 0,
        gpu_memory=gpu_memory,
        hours=None if seconds is None else seconds * chosen.config.steps / 3600,
        command=" ".join(filter(None, ["fca train", as_arguments(replace(options, **chosen.changes)), *words])),
        processes=layout.size,
        process=peak_of_process(),
        tried=[{"options": one.changes, "needed": one.memory.needed} for one in tried],
    )


def _shown(config: TrainConfig) -> str:
    """What decides the memory, in a few words."""
    adapter, clip = config.adapter, config.clip
    size = f"width {adapter.width}" if hasattr(adapter, "width") else f"rank {adapter.rank}"
    batch = f"batch {config.batch_size}" + (f"x{config.accumulate}" if config.accumulate > 1 else "")
    recomputing = "checkpointing" if config.checkpointing else "no checkpointing"
    words = (f"{adapter.kind} {size}", f"{clip.frames}x{clip.width}x{clip.height}", batch, config.precision, config.optimizer)
    saving = {
        f"{config.weights} weights": config.weights != "fp32",
        "optimizer in main memory": config.offload_optimizer,
        "gradients in main memory": config.offload_gradients,
        f"{config.base_weights} base": config.base_weights != "full",
        f"{config.block_swap} blocks swapped": config.block_swap > 0,
        "blocks shared out": config.shard_base,
        "block inputs in main memory": config.offload_activations,
        "decoding in tiles": config.vae_tiling,
        "compiled": config.compile,
    }
    return ", ".join((*words, recomputing, *(name for name, on in saving.items() if on)))


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
