"""Checkpoints of a run: whole or invisible, verified when read.

    runs/<run>/config.json                          {"created", "version", "config"}: the TrainConfig
    runs/<run>/log.jsonl                            a line per step: what was computed, bitwise the same in a resumed run
    runs/<run>/speed.jsonl                          a line per step: time, clips per second, memory
    runs/<run>/checkpoints/step-000100/             adapter.safetensors adapter_config.json optimizer.pt state.json
    runs/<run>/validation/step-000100/              validation.json and the clips of that step

A checkpoint folder is written beside its place and renamed into it, so a folder of that name is complete. state.json holds
size and hash of its files, so later damage is noticed. Everything random is a function of seed and step: there is no
random state to keep.
"""

import hashlib
import pickle
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError

from fcacli.config import TrainConfig, from_dict
from fcacli.errors import FcaError, Misuse, naming_memory
from fcacli.events import Message, Report, silent
from fcacli.workspace import atomic_folder, read_json, write_json

OPTIMIZER, STATE, VALIDATION = "optimizer.pt", "state.json", "validation.json"


class Stateful(Protocol):
    """What is saved of an optimizer, torch's own or another."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class State:
    """Where a run stands at a checkpoint."""

    step: int
    """Optimizer steps done."""
    log_bytes: int
    """Length of log.jsonl up to that step; a resume cuts the rest."""
    train_loss: float | None
    """Of the last step."""


def read_config(run: Path) -> TrainConfig:
    """The configuration that a run was started with.

    Raises:
        FcaError: config.json is damaged; the message names the field.
    """
    stored = read_json(run / "config.json")
    if not isinstance(stored, dict) or "config" not in stored:
        raise FcaError(f"{run / 'config.json'} holds no training configuration", "fca train --new")
    try:
        return from_dict(TrainConfig, stored["config"], where=str(run / "config.json"))
    except Misuse as error:
        raise FcaError(error.message, error.hint) from None


def checkpoint_folder(run: Path, step: int) -> Path:
    """Where the checkpoint of `step` lies."""
    return run / "checkpoints" / f"step-{step:06d}"


def validation_folder(run: Path, step: int) -> Path:
    """Where the validation of `step` lies; it exists once that validation is complete."""
    return run / "validation" / f"step-{step:06d}"


def all_checkpoints(run: Path) -> list[Path]:
    """Checkpoint folders, oldest first; none is opened."""
    return _steps(run / "checkpoints")


def all_validations(run: Path) -> list[Path]:
    """Validation folders, oldest first."""
    return _steps(run / "validation")


def _steps(folder: Path) -> list[Path]:
    named = [path for path in folder.glob("step-*") if re.fullmatch(r"step-\d+", path.name) and path.is_dir()]
    return sorted(named, key=step_of)


def step_of(folder: Path) -> int:
    """The step in the name of a checkpoint or validation folder."""
    return int(folder.name.removeprefix("step-"))


def latest(run: Path, report: Report = silent) -> Path | None:
    """The newest checkpoint whose files are as they were written; a damaged one is passed over, with a warning."""
    for folder in reversed(all_checkpoints(run)):
        try:
            verify(folder)
        except FcaError as error:
            report(Message(f"{error.message}; using the checkpoint before it", "warning"))
            continue
        return folder
    return None


def verify(folder: Path) -> State:
    """Check the files of a checkpoint against its state.json.

    Raises:
        FcaError: naming the file that is missing, damaged or unreadable.
    """
    stored = read_json(folder / STATE)
    try:
        files: Mapping[str, Mapping[str, Any]] = stored["files"]
        state = from_dict(State, stored["state"], where=str(folder / STATE))
        expected = {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in files.items()}
    except (Misuse, KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise FcaError(f"{folder / STATE} is not the state of a checkpoint ({error})") from None
    for name, (size, sha256) in expected.items():
        try:
            found = (folder / name).stat().st_size
            digest = _sha256(folder / name) if found == size else ""
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            raise FcaError(f"checkpoint {folder} is damaged: {name}: {getattr(error, 'strerror', error)}") from None
        if found != size:
            raise FcaError(f"checkpoint {folder} is damaged: {name} has {found} bytes, {size} were written")
        if digest != sha256:
            raise FcaError(f"checkpoint {folder} is damaged: the content of {name} is not what was written")
    return state


def save(run: Path, state: State, write_adapter: Callable[[Path], object], optimizer: Stateful) -> Path:
    """Write the checkpoint of `state.step`; one of that step which is already there is complete and stays.

    Args:
        write_adapter: writes adapter.safetensors and adapter_config.json into a folder.
    """
    folder = checkpoint_folder(run, state.step)
    if folder.exists():
        return folder
    with atomic_folder(folder) as temporary:
        try:
            with naming_memory(f"saving step {state.step}", "end other programs; fca train goes on from the checkpoint before"):
                write_adapter(temporary)
                with (temporary / OPTIMIZER).open("wb") as file:
                    torch.save(optimizer.state_dict(), file)
        except (RuntimeError, SafetensorError) as error:  # both libraries wrap what the file system said
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise FcaError(f"cannot write {folder}: {error}", "free disk space, or a folder that you may write to") from error
        files = {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in sorted(temporary.iterdir())}
        write_json(temporary / STATE, {"state": asdict(state), "files": files})
    return folder


def load_optimizer(folder: Path, optimizer: Stateful) -> None:
    """Put the optimizer state of a checkpoint into `optimizer`, exactly as it was."""
    try:
        optimizer.load_state_dict(torch.load(folder / OPTIMIZER, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise FcaError(f"cannot read {folder / OPTIMIZER}: {error}", "fca train --new") from error


def prune(run: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints."""
    for folder in all_checkpoints(run)[:-keep]:
        shutil.rmtree(folder, ignore_errors=True)


def clean(run: Path, step: int) -> None:
    """Remove what a killed process left half-written, and what lies after `step`, where the run goes on.

    Checkpoints after `step` are damaged ones that `latest` passed over; validations after it will be made again.
    """
    for folder in (run / "checkpoints", run / "validation"):
        for leftover in [*folder.glob(".*.tmp"), *(path for path in _steps(folder) if step_of(path) > step)]:
            shutil.rmtree(leftover, ignore_errors=True)


def is_finished(run: Path) -> bool:
    """Whether the last step's checkpoint and validation are there."""
    steps = read_config(run).steps
    checkpoint = latest(run)
    return checkpoint is not None and step_of(checkpoint) == steps and validation_folder(run, steps).exists()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
