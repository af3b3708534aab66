"""`fca train`: fit an adapter to a prepared dataset; run again, it continues."""

import hashlib
import json
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcacli import __version__
from fcacli.config import TrainConfig, differences, to_dict
from fcacli.errors import FcaError, Misuse
from fcacli.events import Message, Report, silent
from fcacli.workflows.devices import choose_gpus, computes_bf16
from fcacli.workflows.lock import locked
from fcacli.workflows.train_options import TrainOptions, asked_differently, resolve
from fcacli.workspace import Workspace, read_json, write_json

if TYPE_CHECKING:
    from fcacli.model.attach import Adapter
    from fcacli.model.bases.cogvideox import CogVideoX
    from fcacli.training.checkpoint import State
    from fcacli.training.loop import Session
    from fcacli.workflows.encode import Chosen, Encoded

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
    workers: int | None = None,
    checkpoint_minutes: float = 5.0,
    max_seconds: float | None = None,
    report: Report = silent,
) -> TrainResult:
    """Train an adapter, or continue the latest unfinished run.

    Args:
        options: what the user asked for; the rest is the base's default or, of a run that is continued, the run's own.
        gpus: 0 for the CPU, 1 for a CUDA device, None for one if there is one.
        run: name of the run to continue or to start.
        new: start a new run even if an unfinished one could continue.
        workers: processes that load clips where these do not fit into memory; None for two.
        checkpoint_minutes: time between checkpoints.
        max_seconds: stop, saved and unfinished, after so much training time.

    Raises:
        Misuse: an option is out of range, or a run would continue under other options than it was started with.
        FcaError: no prepared data, a broken base, a second `fca train` on the same run, a loss that is not finite.
        Interrupted: Ctrl-C or SIGTERM; the run is saved.
    """
    from fcacli.training.loop import Session

    options = options or TrainOptions()
    device = choose_gpus(gpus)
    latest = None if new else _find(workspace, run)
    saved = _going_on(latest, options)
    dataset = workspace.dataset(saved.data if saved else options.data)
    base = _load_base(saved, options, device, report)
    config = saved or resolve(options, base.spec, base.fingerprint, dataset.name, computes_bf16(device))
    if latest is not None and saved is None and _same_and_finished(latest, config, report):
        return _result(latest, config)
    folder = latest if latest is not None and saved is not None else workspace.new_run(run)
    _require_fit(base, config)
    session = Session(
        workers=2 if workers is None else workers, checkpoint_seconds=60 * checkpoint_minutes, max_seconds=max_seconds
    )
    with ExitStack() as held:
        if saved is not None:
            held.enter_context(locked(folder))
        encoded = _encode(base, dataset, config, report)
        adapter = _adapter(base, config, folder, report)
        if saved is not None:
            _require_same_data(folder, encoded)
        else:
            held.enter_context(locked(folder))
            _write_config(folder, config, encoded)
        _fit(base, adapter, encoded, dataset, config, folder, session, report)
    return _result(folder, config)


# ---------------------------------------------------------------- which run


def _find(workspace: Workspace, name: str | None) -> Path | None:
    """The run of that name, or the latest one; None if there is none."""
    runs = workspace.all_runs()
    return next((run for run in reversed(runs) if name in (None, run.name)), None)


def _going_on(run: Path | None, options: TrainOptions) -> TrainConfig | None:
    """The configuration of the run that is to continue; None if a new one starts.

    Raises:
        Misuse: it would continue under other options.
    """
    from fcacli.training.checkpoint import all_checkpoints, is_finished, read_config

    if run is None or is_finished(run):
        return None
    saved = read_config(run)
    if not (different := _asked_differently(options, saved)):
        return saved
    if not all_checkpoints(run):
        return None  # stopped before it had anything to go on from
    raise Misuse(
        f"run {run.name} is unfinished and was started with other options: {'; '.join(different)}",
        "fca train   continues it as it was; add --new to start another run",
    )


def _asked_differently(options: TrainOptions, saved: TrainConfig) -> list[str]:
    from fcacli.model.bases import resolve_base

    different = asked_differently(options, saved)
    if options.data not in (None, saved.data):
        different.append(f"data: {saved.data} -> {options.data}")
    if options.base not in (None, "auto") and (base := resolve_base(options.base).name) != saved.base:
        different.append(f"base: {saved.base} -> {base}")
    return different


def _same_and_finished(run: Path, config: TrainConfig, report: Report) -> bool:
    from fcacli.training.checkpoint import is_finished, read_config

    if not is_finished(run) or differences(read_config(run), config):
        return False
    report(Message(f"run {run.name} is finished with just these options ({config.steps} steps); --new trains another"))
    return True


def _write_config(run: Path, config: TrainConfig, encoded: "Encoded") -> None:
    created = datetime.now(UTC).isoformat()
    about = {"created": created, "version": __version__, "config": to_dict(config), "clips": _identity(encoded)}
    write_json(run / "config.json", about)


def _identity(encoded: "Encoded") -> dict[str, Any]:
    """Which clips a run sees, in which order: a run that continues must see the same."""
    seen = [[split, clip.content, clip.text] for split, clips in encoded.clips.items() for clip in clips]
    counts: dict[str, int] = {split: len(clips) for split, clips in encoded.clips.items()}
    return {**counts, "sha256": hashlib.sha256(json.dumps(seen).encode()).hexdigest()}


def _require_same_data(run: Path, encoded: "Encoded") -> None:
    before, now = read_json(run / "config.json").get("clips"), _identity(encoded)
    if before != now:
        changed = differences(before, now) if isinstance(before, dict) else ["not recorded"]
        raise Misuse(f"the clips are not those that run {run.name} was started with: {'; '.join(changed)}", "fca train --new")


# ---------------------------------------------------------------- its parts


def _load_base(saved: TrainConfig | None, options: TrainOptions, device: str, report: Report) -> "CogVideoX":
    from fcacli.model.bases import load_base, resolve_base

    spec = resolve_base(saved.base if saved else options.base or "auto")
    base = load_base(spec, device)
    report(Message(f"base {spec.name} ({'as the run was started' if saved else spec.reason}), on {device}"))
    if saved is not None and base.fingerprint != saved.base_fingerprint:
        raise Misuse(
            f"base {spec.name} is not what it was when the run was started: "
            f"fingerprint {saved.base_fingerprint} -> {base.fingerprint}",
            "fca train --new",
        )
    return base


def _require_fit(base: "CogVideoX", config: TrainConfig) -> None:
    """Before anything is encoded.

    Raises:
        Misuse: the clip or the adapter does not fit the base.
    """
    base.check_clip(config.clip)
    width = config.adapter.width if config.adapter.kind == "fca" else base.head_dim
    if width > base.d or width % base.head_dim:
        raise Misuse(f"--adapter-width {width} is not a multiple of {base.head_dim}, the base's head width, up to {base.d}")


def _encode(base: "CogVideoX", dataset: Path, config: TrainConfig, report: Report) -> "Encoded":
    from fcacli.workflows.encode import choose_clips, encode

    clips: Chosen = choose_clips(dataset, config.clip, report)
    return encode(base, dataset, clips, config.clip, report)


def _fit(
    base: "CogVideoX",
    adapter: "Adapter",
    encoded: "Encoded",
    dataset: Path,
    config: TrainConfig,
    run: Path,
    session: "Session",
    report: Report,
) -> "State":
    from fcacli.model.attach import save_adapter
    from fcacli.training.loop import Subject, fit
    from fcacli.workflows.validation import make_validation

    subject = Subject(
        base=base,
        adapter=adapter,
        write_adapter=lambda folder: save_adapter(adapter, folder, config.base, config.base_fingerprint, config.clip),
        train=encoded.dataset("train"),
        held_out=encoded.dataset("val") if encoded.clips["val"] else None,
        null=encoded.null(),
        validate=make_validation(base, adapter, encoded, dataset, config, report),
    )
    return fit(subject, config, run, session, report)


def _adapter(base: "CogVideoX", config: TrainConfig, run: Path, report: Report) -> "Adapter":
    """The adapter of the newest checkpoint, or a fresh one; attached to the base."""
    import torch

    from fcacli.model.attach import attach, load_adapter
    from fcacli.training.checkpoint import latest

    if (checkpoint := latest(run)) is not None:
        return load_adapter(base, checkpoint)
    torch.manual_seed(config.seed)
    adapter = attach(base, config.adapter, config.clip)
    report(Message(f"adapter {config.adapter.kind}: {adapter.parameter_count / 1e6:.2f} M parameters to train"))
    return adapter


def _result(run: Path, config: TrainConfig) -> TrainResult:
    from fcacli.training import checkpoint

    newest = checkpoint.latest(run)
    if newest is None:
        raise FcaError(f"run {run.name} has no readable checkpoint", "fca train")
    state = checkpoint.verify(newest)
    validations = checkpoint.all_validations(run)
    held_out = read_json(validations[-1] / checkpoint.VALIDATION).get("held_out") if validations else None
    finished = checkpoint.is_finished(run)
    return TrainResult(run, newest, state.step, config.steps, state.train_loss, held_out, finished)
