"""The training loop: `fit`, on accelerate."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor
from torch.utils.data import Dataset

from fcacli.config import TrainConfig
from fcacli.data.dataset import Sample, collate, order
from fcacli.errors import FcaError, Interrupted, ProcessLost, name_of, naming_memory
from fcacli.events import Event, Message, Progress, Report, silent, track
from fcacli.training import checkpoint
from fcacli.training.activations import keep_inputs_in_main_memory
from fcacli.training.checkpoint import State
from fcacli.training.finite import require_finite, require_finite_validation, require_finite_weights
from fcacli.training.interrupt import Signals
from fcacli.training.kernels import step_kernels
from fcacli.training.loader import StepBatches, Unloadable, batches, in_memory, micro_batches, naming_dead_workers
from fcacli.training.log import NoLog, RunLog, memory
from fcacli.training.objective import diffusion_loss, draw, held_out_loss
from fcacli.training.optim import learning_rate, make_optimizer, set_learning_rate
from fcacli.training.pace import Pace
from fcacli.training.room import Room
from fcacli.training.stepping import AdapterOptimizer
from fcacli.training.team import ALONE, Losses, Team, without_broken_links
from fcacli.training.waits import Waits
from fcacli.workspace import Workspace, atomic_folder, read_json, write_json

PHASE = "train"
LESS_MEMORY = (
    "a new run with --checkpointing, --weights bf16, --offload-optimizer, --base-weights int8 or nf4, --block-swap, "
    "--offload-activations, --offload-gradients, a smaller --batch-size and a larger --accumulate, or a smaller --size "
    "(fca train --fork latest keeps the weights); or, from the beginning (--new), fewer --frames or a smaller --adapter-width"
)
LESS_VALIDATION = (
    "fca train --fork latest, which keeps the weights, with --vae-tiling, --guidance 1, --validate-clips 0 or a smaller --size"
)

Validate = Callable[[int, Path, Report], dict[str, float]]
"""(step, folder, report): clips made by the adapter as it is now, by all processes; the main one writes them into the folder.
Returns figures to log. Where it reports, a signal stops it."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is trained on what."""

    base: Any
    """The frozen base; nothing of it but the transformer needs to be loaded."""
    adapter: Any
    """Attached to the base; holds the weights of the newest checkpoint, if there is one."""
    write_adapter: Callable[[Path], object]
    """Writes the adapter into a checkpoint folder."""
    train: Dataset[Sample]
    held_out: Dataset[Sample] | None
    null: tuple[Tensor, Tensor]
    """Text (L, dt) and mask (L,) of the empty caption."""
    unpack: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict
    """What makes of a loaded batch one that the objective takes, on its device."""
    check: Callable[[Report], None] | None = None
    """Called before the first step, when the weights have the type that they are trained in."""
    validate: Validate | None = None


@dataclass(frozen=True, kw_only=True)
class Session:
    """How one call of `fit` goes about it; nothing here changes what is computed."""

    workers: int = 0
    """Processes that load clips."""
    max_seconds: float | None = None
    """Stop, saved and unfinished, after this time."""
    checkpoint_seconds: float = 300.0
    """Time between checkpoints."""
    keep: int = 3
    """Checkpoints kept."""


def fit(
    subject: Subject, config: TrainConfig, run: Path, session: Session, report: Report = silent, team: Team = ALONE
) -> State:
    """Train up to `config.steps`, going on from the newest checkpoint of `run`; returns where the run then stands.

    Data order, time steps, noise and dropped captions are functions of step and slot, so a continued run computes what an
    uninterrupted one does, and several processes what one does.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; the run is saved.
        FcaError: a loss or gradient that is not finite, naming step and clips; a file that cannot be read or written; memory
            that ran out. Where a clip cannot be loaded or another process has ended, the run is saved.
    """
    base, adapter = subject.base, subject.adapter
    accelerator = _accelerator(config, base.device)
    optimizer = make_optimizer(adapter.trainable(), config)
    if config.checkpointing:
        base.transformer.enable_gradient_checkpointing()
    if config.offload_activations:
        keep_inputs_in_main_memory(base.transformer)
    if config.weights == "bf16-stochastic" and len(set(team.gathered(_name_of(base.device)))) > 1:
        raise FcaError(
            "--weights bf16-stochastic draws lots on each GPU, and GPUs of different kinds draw others",
            "fca train --new --weights bf16",
        )
    if subject.check is not None:
        team.own(partial(subject.check, report))
    state = _restore(run, optimizer, team, report)
    log = RunLog(run, state.step, state.log_bytes, report) if team.main else NoLog()
    loaded = _loaded(subject, config, state.step, session, accelerator, team, report)
    losses = team.averaging(lambda *given: diffusion_loss(base, adapter, *given), adapter.in_order_of_use())
    pace = Pace(config.batch_size * config.accumulate, session.checkpoint_seconds, session.max_seconds)
    room = Room(run, report)

    def write(state: State) -> tuple[State, Path]:
        require_finite_weights(adapter, state.step, run)
        state = replace(state, log_bytes=log.synced_bytes())
        saved = checkpoint.save(run, state, subject.write_adapter, optimizer)
        checkpoint.prune(run, session.keep)
        room.saved(saved)
        return state, saved

    def save(state: State) -> tuple[State, Path]:
        written = team.by_main(write, state)
        pace.saved()
        return written

    with naming_dead_workers(), team.watch(report) as signals, log, closing(loaded):
        report(Progress(PHASE, state.step, config.steps))
        try:
            while True:
                signal, over, due = team.most(signals.received or 0, pace.over(), pace.checkpoint_due())
                stop = bool(signal) or (bool(over) and state.step < config.steps)
                validating = not stop and _validation_due(state.step, config)
                if stop or validating or due or state.step == config.steps:
                    state, saved = save(state)
                if validating:
                    stop_here = _stopping(report, signals, state.step, config, run)
                    made = _validate(subject, config, run, state.step, accelerator, optimizer, team, stop_here)
                    log.computed(state.step, made)
                    pace.resume()
                if stop or state.step == config.steps:
                    break

                lr = learning_rate(state.step, config)
                set_learning_rate(optimizer, lr)
                with naming_memory(f"training step {state.step + 1}", LESS_MEMORY):
                    with team.naming_lost():
                        loss, norm = _gradients(subject, losses, optimizer, config, accelerator, loaded, state.step, run, team)
                    optimizer.step(state.step)

                state = replace(state, step=state.step + 1, train_loss=loss)
                log.computed(state.step, {"loss": loss, "lr": lr, "grad_norm": norm})
                measured = pace.stepped(loss) | memory(accelerator.device) | {"disk_gb": room.left(), "processes": team.size}
                measured["waited"] = round(loaded.stepped(measured["seconds"]), 4)
                log.measured(state.step, measured)
                report(Progress(PHASE, state.step, config.steps, pace.shown(measured)))
        except (Unloadable, ProcessLost) as error:  # never after the optimizer's step: weights and log are those of state.step
            if not team.main:
                raise
            _, saved = write(state)
            raise type(error)(f"{error.message}; stopped at step {state.step}, saved in {saved}", error.hint) from error

    if stop and signal:
        raise _interrupted(signal, state.step, config, run, f"saved in {saved}")
    return state


def _loaded(
    subject: Subject, config: TrainConfig, step: int, session: Session, accelerator: Accelerator, team: Team, report: Report
) -> Waits:
    """This process's micro-batches from optimizer step `step` on."""
    data = in_memory(subject.train)
    chosen = StepBatches(len(data), config, step, order, team.rank, team.size)
    name = getattr(subject.train, "id_of", str)
    clips = ([name(index) for index in indices] for indices in chosen)
    return Waits(batches(data, chosen, accelerator.device, session.workers, collate), clips, session.workers, report)


def _gradients(
    subject: Subject,
    losses: Losses,
    optimizer: AdapterOptimizer,
    config: TrainConfig,
    accelerator: Accelerator,
    loaded: Waits,
    step: int,
    run: Path,
    team: Team,
) -> tuple[float, float]:
    """Forward and backward passes of the optimizer step after `step`; returns mean loss and norm of the clipped gradient.

    Raises:
        Unloadable: a clip cannot be read.
        FcaError: a loss or the gradient is not finite; the optimizer has not used it.
    """
    scheduler = subject.base.scheduler
    null_text, null_mask = (part.to(accelerator.device) for part in subject.null)
    per_step = config.batch_size * config.accumulate
    parts = micro_batches(config, team.rank, team.size)
    computed, ids = [], []
    there = _loaded_by_all(loaded, len(parts), team) if team.size > 1 else loaded
    for slots in parts:
        batch = subject.unpack(next(there))
        shape, timesteps = batch["latents"].shape[1:], scheduler.config.num_train_timesteps
        drawn = draw(config.seed, step, slots, per_step, shape, timesteps, config.caption_dropout, config.timestep_power)
        with step_kernels(config, accelerator.device), nullcontext() if slots is parts[-1] else team.apart(losses):
            with accelerator.autocast():
                loss = losses(batch, (null_text, null_mask), drawn)  # (B,)
            accelerator.backward(loss.mean() / (per_step / (len(slots) * team.size)))
        computed.append(loss.detach())
        ids += batch["ids"]
    norm = float(optimizer.gradients.clip(config.clip_norm))
    by_rank = team.gathered((torch.cat(computed).tolist(), ids))
    per_clip, all_ids = ([item for part in column for item in part] for column in zip(*by_rank, strict=True))
    require_finite(per_clip, norm, all_ids, step + 1, run)
    return math.fsum(per_clip) / per_step, norm


def _loaded_by_all(loaded: Iterator[Any], count: int, team: Team) -> Iterator[Any]:
    """So many micro-batches, when all processes have theirs: none waits on its device for one that has no clip.

    Raises:
        Unloadable: in all processes, where one of them cannot read a clip.
    """
    try:
        return iter(team.own(lambda: [next(loaded) for _ in range(count)]))
    except ProcessLost:
        raise
    except FcaError as error:
        raise Unloadable(error.message, error.hint) from error


def _accelerator(config: TrainConfig, device: torch.device) -> Accelerator:
    """accelerate for one run; what an earlier run in this process left of its state is dropped."""
    AcceleratorState._reset_state(reset_partial_state=True)
    if device.type == "cuda":
        without_broken_links()
    precision = "bf16" if config.precision == "bf16" else "no"
    return Accelerator(mixed_precision=precision, cpu=device.type == "cpu")


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _restore(run: Path, optimizer: AdapterOptimizer, team: Team, report: Report) -> State:
    """Load the newest sound checkpoint's optimizer; clear away what lies behind it."""
    folder = team.by_main(checkpoint.latest, run, report)
    if folder is None:
        if damaged := checkpoint.all_checkpoints(run):
            raise FcaError(f"no checkpoint of {run.name} is readable ({len(damaged)} damaged)", "fca train --new")
        state = State(step=0, log_bytes=0, train_loss=None)
    else:
        state = checkpoint.verify(folder)
        checkpoint.load_optimizer(folder, optimizer)
        report(Message(f"continuing {run.name} from step {state.step}"))
    team.by_main(checkpoint.clean, run, state.step)
    return state


def _validation_due(step: int, config: TrainConfig) -> bool:
    if step == config.steps:
        return True
    return step > 0 and config.validate_every > 0 and step % config.validate_every == 0


def _validate(
    subject: Subject,
    config: TrainConfig,
    run: Path,
    step: int,
    accelerator: Accelerator,
    optimizer: AdapterOptimizer,
    team: Team,
    report: Report,
) -> dict[str, float]:
    """The held-out loss, and the clips of the passed-in callable, while the optimizer's state waits in host memory; a
    validation that is there already is only read."""
    folder = checkpoint.validation_folder(run, step)
    if team.by_main(folder.exists):
        return team.by_main(read_json, folder / checkpoint.VALIDATION)
    values: dict[str, float] = {}
    with optimizer.away(), ExitStack() as held:
        temporary = team.by_main(lambda: held.enter_context(atomic_folder(folder)))
        if subject.held_out is not None:
            count, size = len(subject.held_out), config.batch_size  # type: ignore[arg-type]
            all_chosen = [list(range(first, min(first + size, count))) for first in range(0, count, size)]
            chosen = team.share(all_chosen)
            loaded = batches(subject.held_out, chosen, accelerator.device, 0, collate)
            with naming_memory(f"the held-out loss of step {step}", LESS_MEMORY), accelerator.autocast():
                tracked = track(map(subject.unpack, loaded), report, "held-out loss", total=len(chosen))
                values = held_out_loss(subject.base, subject.adapter, tracked, team, len(all_chosen))
            require_finite_validation(values, step, run)
        if subject.validate is not None:
            with naming_memory(f"the validation of step {step}", LESS_VALIDATION):
                values |= subject.validate(step, temporary, report)

        def finish() -> None:
            write_json(temporary / checkpoint.VALIDATION, values)
            held.close()

        team.by_main(finish)
    return values


def _stopping(report: Report, signals: Signals, step: int, config: TrainConfig, run: Path) -> Report:
    """A report that ends a validation when a signal has come; the checkpoint of its step is written already."""

    def report_or_stop(event: Event) -> None:
        if signals.received is not None:
            raise _interrupted(signals.received, step, config, run, "saved; its validation will be made when the run goes on")
        report(event)

    return report_or_stop


def _interrupted(signal: int, step: int, config: TrainConfig, run: Path, what: str) -> Interrupted:
    how_on = Workspace.continuing(run)
    return Interrupted(signal, f"stopped by {name_of(signal)} at step {step} of {config.steps}, {what}", how_on)
