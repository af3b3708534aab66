"""`fca train`: fit an adapter to a prepared dataset; run again, it continues."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fcacli.config import FCAConfig, TrainConfig
from fcacli.errors import FcaError, Misuse
from fcacli.events import Message, Report, silent
from fcacli.model.arithmetic import computes_bf16
from fcacli.workflows import which_run
from fcacli.workflows.devices import choose_gpus, require_gpu
from fcacli.workflows.lock import locked
from fcacli.workflows.plan import require_room
from fcacli.workflows.ranks import team_of
from fcacli.workflows.shares import enough_for, require_shares
from fcacli.workflows.train_options import TrainOptions, as_stored, require_precision, resolve, resolve_fork
from fcacli.workspace import Workspace, drop_empty, read_json

if TYPE_CHECKING:
    from fcacli.model.attach import Adapter
    from fcacli.model.bases.cogvideox import CogVideoX
    from fcacli.training.checkpoint import State
    from fcacli.training.loop import Session
    from fcacli.training.team import Team
    from fcacli.workflows.encode.encode import Encoded
    from fcacli.workflows.encode.job import Chosen

NOT_THE_TOY_WORLD = (
    "the miniature knows the toy world (fca toy) alone: on other videos it shows that things work, and no more. With a GPU: "
    "fca plan --base cogvideox-2b --gpu-memory 12GB prints the line for your card"
)

__all__ = ["TrainOptions", "TrainResult", "train"]


@dataclass(frozen=True)
class TrainResult:
    """What a call of `train` left behind."""

    run: Path
    checkpoint: Path
    """The newest one."""
    step: int
    steps: int
    train_loss: float | None
    """Of the last step."""
    held_out_loss: float | None
    """Of the last validation; None before the first, and where the dataset has no validation clips."""
    finished: bool


def train(
    workspace: Workspace,
    options: TrainOptions | None = None,
    *,
    gpus: int | None = None,
    run: str | None = None,
    new: bool = False,
    fork: str | None = None,
    force: bool = False,
    keep: int = 3,
    workers: int | None = None,
    checkpoint_minutes: float = 5.0,
    max_seconds: float | None = None,
    besides: Sequence[str] = (),
    report: Report = silent,
) -> TrainResult:
    """Train an adapter, or continue the latest unfinished run.

    Args:
        options: what the user asked for; the rest is the base's default or, of a run that is continued or forked, the run's.
        gpus: 0 for the CPU, 1 for a CUDA device, None for one if there is one. Several processes are started by a launcher
            (workflows/launch.py, torchrun); each calls this, with the same arguments, and gets the same result.
        run: name of the run to continue or to start.
        new: start a new run even if an unfinished one could continue.
        fork: start a new run from the newest weights of this one, a name or "latest".
        force: start also where the plan says that memory will not do.
        keep: checkpoints kept.
        workers: processes that load clips where these do not fit into memory; None for two.
        checkpoint_minutes: time between checkpoints.
        max_seconds: stop, saved and unfinished, after so much training time.
        besides: words of the command that are none of these, for the line that is proposed where memory will not do.

    Raises:
        Misuse: an option is out of range, or a run would continue under other options than it was started with.
        FcaError: no prepared data, a broken base, a second `fca train` on the same run, a loss that is not finite, less
            memory than the plan says.
        Interrupted: Ctrl-C or SIGTERM; the run is saved.
    """
    from fcacli.training.loop import Session

    options = options or TrainOptions()
    if keep < 1:
        raise Misuse(f"--keep must be at least 1, got {keep}")
    device = choose_gpus(gpus)  # said before anything else is done
    session = Session(
        workers=2 if workers is None else workers,
        checkpoint_seconds=60 * checkpoint_minutes,
        max_seconds=max_seconds,
        keep=keep,
    )
    with team_of(device, "fca train") as team, ExitStack() as held:
        report = report if team.main else silent
        begun = _kept(team, lambda: _begin(workspace, options, gpus, run, new, fork, force, besides, team.size, held, report))
        told = team.by_main(lambda: (begun.run, begun.config, begun.source, begun.finished) if begun else None)
        assert told is not None
        folder, config, source, finished = told
        if not finished:
            ready = begun or _follow(workspace, folder, config, gpus, team.size)
            chosen, encoded = _encode(ready, team, report)
            team.in_step = config.shard_base and team.size > 1
            adapter = team.own(lambda: _adapter(ready.base, config, folder, source, report))
            team.by_main(_start, ready, chosen, encoded, adapter, held, report)
            _fit(ready, encoded, adapter, session, team, report)
        return _result(folder)


# ---------------------------------------------------------------- its parts


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """A run that is ready to be trained."""

    base: "CogVideoX"
    dataset: Path
    config: TrainConfig
    run: Path
    source: which_run.Source | None = None
    """Of a fork."""
    new: bool = False
    """Its folder has no configuration yet."""
    finished: bool = False
    """There is nothing left to train."""
    others: frozenset[str] | None = None
    """Runs that were there, where it is not to be the second one with the same options; None where it may be."""


T = TypeVar("T")


def _kept(team: "Team", work: Callable[[], T]) -> T | None:
    """What `work` gives in the main process, which keeps it to itself; None in the others.

    Raises:
        FcaError: as it does there, in all.
    """
    kept: list[T] = []
    team.by_main(lambda: kept.append(work()))
    return kept[0] if kept else None


def _begin(
    workspace: Workspace,
    options: TrainOptions,
    gpus: int | None,
    run: str | None,
    new: bool,
    fork: str | None,
    force: bool,
    besides: Sequence[str],
    processes: int,
    held: ExitStack,
    report: Report,
) -> _Begun:
    """Find or start the run; the lock of one that continues is held by `held`."""
    source = which_run.fork_source(workspace, fork, report) if fork is not None else None
    latest = None if new or source else which_run.find(workspace, run)
    saved = which_run.going_on(latest, options, gpus)
    dataset = _dataset(workspace, options, saved, source)
    base = _load_base(options, saved or (source.config if source else None), gpus, report)
    config = _config(options, saved, source, base, dataset, processes, report)
    if latest is not None and saved is None and which_run.same_and_finished(latest, config, report):
        return _Begun(base=base, dataset=dataset, config=config, run=latest, finished=True)
    folder = latest if latest is not None and saved is not None else workspace.new_run(run)
    held.callback(drop_empty, folder)
    require_fit(base, config)
    require_shares(options, config, processes, report)
    if saved is None and not force:
        begun_by = [
            *(["--run", run] if run else []),
            *(["--fork", fork] if fork else []),
            *(["--new"] if new else []),
            *besides,
        ]
        require_room(base, dataset, config, options, gpus, report, processes, begun_by)
    base.keep(config.keeping_among(processes))
    if saved is None:
        report(Message(which_run.describe_new(folder, latest, config)))
        if base.spec.name == "mini" and not is_toy(dataset):
            report(Message(NOT_THE_TOY_WORLD, "warning"))
    else:
        report(Message(f"going on with run {folder.name}, on data/{config.data}"))
        newest = workspace.dataset()
        since = (newest / "dataset.json").stat().st_mtime > (folder / "config.json").stat().st_mtime
        if since and newest.name != config.data and options.data is None:
            report(Message(f"data/{newest.name} was prepared since: fca train --new trains on that", "warning"))
        held.enter_context(locked(folder))
    others = None if new or run or source else frozenset(path.name for path in workspace.all_runs())
    return _Begun(base=base, dataset=dataset, config=config, run=folder, source=source, new=saved is None, others=others)


def _follow(workspace: Workspace, run: Path, config: TrainConfig, gpus: int | None, processes: int) -> _Begun:
    """What the main process has begun, for another one."""
    base = _load_base(TrainOptions(), config, gpus, silent)
    base.keep(config.keeping_among(processes))
    return _Begun(base=base, dataset=workspace.dataset(config.data), config=config, run=run)


def _start(begun: _Begun, chosen: "Chosen", encoded: "Encoded", adapter: "Adapter", held: ExitStack, report: Report) -> None:
    """When all is encoded: what a new run begins with is written, its lock held by `held`."""
    folder, config, source = begun.run, begun.config, begun.source
    if not begun.new:
        which_run.require_same_data(folder, encoded.clips, "clips")
        which_run.write_base(folder, config.base)
        return
    if begun.others is not None:
        which_run.require_no_twin(folder.parent, config, begun.others)
    held.enter_context(locked(folder))
    seen = ""
    if source is not None:
        which_run.start_fork(source, folder, adapter, config, report)
        if seen := which_run.seen_by(source.run, source.config, begun.dataset.parent, chosen):
            report(Message(f"{seen}; its scores will say little about new clips", "warning"))
    which_run.write_config(folder, config, chosen, encoded, source, seen)


def is_toy(dataset: Path) -> bool:
    """Whether a prepared dataset is of the toy world, as far as can be told: what was prepared may be gone."""
    raw = read_json(dataset / "dataset.json").get("raw")
    return not isinstance(raw, str) or not Path(raw).is_dir() or (Path(raw) / "toy.json").is_file()


def _dataset(workspace: Workspace, options: TrainOptions, saved: TrainConfig | None, source: which_run.Source | None) -> Path:
    if saved is not None:
        return workspace.dataset(saved.data)
    return workspace.dataset(options.data or (source.config.data if source else None))


def _load_base(options: TrainOptions, before: TrainConfig | None, gpus: int | None, report: Report) -> "CogVideoX":
    """The base asked for, or that of the run which is continued or forked."""
    from fcacli.model.bases import load_base, resolve_base

    asked = None if options.base == "auto" else options.base
    try:
        spec = resolve_base(asked or (before.base if before else "auto"))
    except Misuse as error:
        if before is None or asked:
            raise
        raise FcaError(
            f"the base of the run is not here: {error.message}", "fca train --base FOLDER, where it lies now"
        ) from error
    device = choose_gpus(gpus)
    require_gpu(gpus, device, spec.name, report)
    report(Message(f"base {spec.name} ({'as the run was started' if before and not asked else spec.reason}), on {device}"))
    return load_base(spec, device)


def _config(
    options: TrainOptions,
    saved: TrainConfig | None,
    source: which_run.Source | None,
    base: "CogVideoX",
    dataset: Path,
    processes: int,
    report: Report,
) -> TrainConfig:
    """Of the run that continues, of a fork, or of a new run, of which each process gets a clip of a step.

    Raises:
        Misuse: the base is not the one that the run was started on, or the options are wrong.
    """
    name, fingerprint = base.spec.name, base.fingerprint
    if source is not None:
        return enough_for(processes, options, resolve_fork(options, source.config, name, fingerprint, dataset.name))
    if saved is None:
        require_precision(options, base)
        asked = as_stored(options, dataset, base, report)
        bf16 = str(base.dtype) == "torch.bfloat16" or computes_bf16(base.device.type)
        config = resolve(asked, base.spec, fingerprint, dataset.name, bf16)
        return enough_for(processes, options, config)
    if fingerprint != saved.base_fingerprint:
        raise Misuse(
            f"base {name} is not what it was when the run was started: fingerprint {saved.base_fingerprint} -> {fingerprint}",
            "fca train --new",
        )
    return replace(saved, base=name)


def require_fit(base: "CogVideoX", config: TrainConfig) -> None:
    """Before anything is encoded.

    Raises:
        Misuse: the clip or the adapter does not fit the base, or the optimizer its device.
    """
    base.check_clip(config.clip)
    width = config.adapter.width if isinstance(config.adapter, FCAConfig) else base.head_dim
    if width > base.d or width % base.head_dim:
        raise Misuse(
            f"--adapter-width {width} is not a multiple of {base.head_dim}, the base's head width, up to {base.d}",
            f"--adapter-width {max(base.head_dim, min(width // base.head_dim * base.head_dim, base.d))}",
        )
    if config.optimizer == "paged-adamw8bit" and base.kind == "cpu":
        raise Misuse(
            "--optimizer paged-adamw8bit keeps its state in pages that CUDA moves, and this is the CPU", "--optimizer adamw8bit"
        )


def _encode(begun: _Begun, team: "Team", report: Report) -> tuple["Chosen", "Encoded"]:
    """The clips that are there and, of these, those that could be read, encoded.

    Raises:
        Misuse: a run that continues was started with others; nothing is encoded then.
    """
    from fcacli.workflows.encode.encode import encode, encoding

    dataset, config = begun.dataset, begun.config
    with ExitStack() as held:
        team.by_main(lambda: held.enter_context(encoding(dataset, report)))
        chosen = which_run.clips_for(begun.run, config, dataset, report)
        team.by_main(lambda: None if begun.new else which_run.require_same_data(begun.run, chosen, "dataset"))
        return chosen, encode(begun.base, dataset, chosen, config.clip, report, team)


def _fit(begun: _Begun, encoded: "Encoded", adapter: "Adapter", session: "Session", team: "Team", report: Report) -> "State":
    from fcacli.model.attach import save_adapter
    from fcacli.training.checkpoint import all_checkpoints
    from fcacli.training.loop import Subject, fit
    from fcacli.workflows.parity import Gate
    from fcacli.workflows.validation import make_validation

    base, config = begun.base, begun.config
    gate = Gate(base, adapter, encoded, config, begun.run, team.main)
    fresh = team.by_main(lambda: not all_checkpoints(begun.run))
    subject = Subject(
        base=base,
        adapter=adapter,
        write_adapter=lambda folder: save_adapter(adapter, folder, config.base, config.base_fingerprint, config.clip),
        train=encoded.dataset("train"),
        held_out=encoded.dataset("val") if len(encoded.clips["val"]) else None,
        null=encoded.null(),
        unpack=encoded.unpack,
        check=gate.at_start if fresh else None,
        validate=make_validation(base, adapter, encoded, begun.dataset, config, gate, team, report),
    )
    return fit(subject, config, begun.run, session, report, team)


def _adapter(base: "CogVideoX", config: TrainConfig, run: Path, source: which_run.Source | None, report: Report) -> "Adapter":
    """The adapter of the newest checkpoint, or of the one that is forked, or a fresh one; attached to the base."""
    import torch

    from fcacli.model.attach import attach, load_adapter
    from fcacli.training.checkpoint import latest

    if source is not None:
        return load_adapter(base, source.checkpoint, config.clip)
    if (checkpoint := latest(run)) is not None:
        return load_adapter(base, checkpoint)
    torch.manual_seed(config.seed)
    adapter = attach(base, config.adapter, config.clip)
    report(Message(f"adapter {config.adapter.kind}: {adapter.parameter_count / 1e6:.2f} M parameters to train"))
    return adapter


def _result(run: Path) -> TrainResult:
    from fcacli.training import checkpoint

    newest = checkpoint.latest(run)
    if newest is None:
        raise FcaError(f"run {run.name} has no readable checkpoint", Workspace.continuing(run))
    state = checkpoint.verify(newest)
    validations = checkpoint.all_validations(run)
    held_out = read_json(validations[-1] / checkpoint.VALIDATION).get("held_out") if validations else None
    finished = checkpoint.is_finished(run)
    return TrainResult(run, newest, state.step, checkpoint.read_config(run).steps, state.train_loss, held_out, finished)
