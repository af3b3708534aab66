"""Which run a call of `fca train` is about: an unfinished one that goes on, a fork of one, or a new one.

    runs/<run>/config.json    {"created", "version", "config", "dataset", "clips", "forked_from"}; a folder without it is no run

"dataset" says which clips were there to train on, "clips" those of them that could be read. Runs of earlier versions lack
"dataset", and their held-out clips are the first of val.

A fork starts with a checkpoint of step 0 that holds its source's weights, so that it depends on the source no more.
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fcacli import __version__
from fcacli.config import TrainConfig, differences, to_dict
from fcacli.errors import FcaError, Misuse
from fcacli.events import Message, Report, silent
from fcacli.workflows.train_options import TrainOptions, as_arguments, asked_differently, forked_differently
from fcacli.workspace import Workspace, read_json, write_json

if TYPE_CHECKING:
    from fcacli.model.attach import Adapter
    from fcacli.workflows.encode.encode import Encoded
    from fcacli.workflows.encode.job import Chosen


def find(workspace: Workspace, name: str | None) -> Path | None:
    """The run of that name, or the latest one; None if there is none."""
    runs = workspace.all_runs()
    return next((run for run in reversed(runs) if name in (None, run.name)), None)


def going_on(run: Path | None, options: TrainOptions, gpus: int | None) -> TrainConfig | None:
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
        _ways_on(run, options, gpus, forked_differently(options, saved) + [d for d in different if d.startswith("base: ")]),
    )


def _asked_differently(options: TrainOptions, saved: TrainConfig) -> list[str]:
    """A base that lies elsewhere now is the same base, if its files are."""
    from fcacli.model.bases import load_base, resolve_base

    different = asked_differently(options, saved)
    if options.data not in (None, saved.data):
        different.append(f"data: {saved.data} -> {options.data}")
    if options.base not in (None, "auto"):
        spec = resolve_base(options.base)
        if spec.name != saved.base and load_base(spec).fingerprint != saved.base_fingerprint:
            different.append(f"base: {saved.base} -> {spec.name}")
    return different


def _ways_on(run: Path, options: TrainOptions, gpus: int | None, not_forked: list[str]) -> str:
    """A command line each: as it was, from the beginning, from its weights (where these fit what was asked for)."""
    asked = as_arguments(options, gpus)
    lines = [
        (Workspace.continuing(run), "continues it as it was"),
        (f"fca train --new {asked}", "another run, from the beginning"),
        (f"fca train --fork {run.name} {asked}", "another run, from its weights"),
    ]
    if not_forked:
        lines[-1] = ("(--fork keeps adapter, base and frames)", "")
    width = max(len(command) for command, _ in lines)
    return "\n".join(f"{command:{width}}   {what}".rstrip() for command, what in lines)


def same_and_finished(run: Path, config: TrainConfig, report: Report) -> bool:
    """Whether just this was trained already, on the same base, wherever that lies; where it lies now is noted."""
    from fcacli.training.checkpoint import is_finished

    if not is_finished(run) or _differences(run, config):
        return False
    write_base(run, config.base)
    report(Message(f"run {run.name} is finished with just these options ({config.steps} steps); --new trains another"))
    return True


def require_no_twin(runs: Path, config: TrainConfig, before: Collection[str]) -> None:
    """Encoding may have taken hours, in which another `fca train` was at work.

    Raises:
        FcaError: there is a run with just these options that was not there before.
    """
    for run in Workspace(runs.parent).all_runs():
        if run.name not in before and not _differences(run, config):
            raise FcaError(
                f"run {run.name} was started meanwhile with just these options",
                f"{Workspace.continuing(run)} goes on with it when it is not at work, fca train --new trains another",
            )


def _differences(run: Path, config: TrainConfig) -> list[str]:
    """Of a run's configuration and another one, on the same base wherever that lies."""
    from fcacli.training.checkpoint import read_config

    return differences(replace(read_config(run), base=config.base), config)


def describe_new(run: Path, latest: Path | None, config: TrainConfig) -> str:
    """One line: which run starts on which data and, where one is finished that could have been meant, in what they differ."""
    from fcacli.training.checkpoint import is_finished

    line = f"a new run, {run.name}, on data/{config.data}"
    if latest is None or not is_finished(latest):
        return line
    different = _differences(latest, config)
    if any(found.startswith("adapter.kind: ") for found in different):  # whose fields are others
        different = [found for found in different if not found.startswith("adapter.") or found.startswith("adapter.kind: ")]
    return f"{line}; the finished run {latest.name} had other options: {'; '.join(different)}"


# ---------------------------------------------------------------- forks


@dataclass(frozen=True)
class Source:
    """What a forked run starts from."""

    run: Path
    checkpoint: Path
    """The newest one."""
    config: TrainConfig

    def identity(self) -> dict[str, Any]:
        """As the fork's config.json has it."""
        from fcacli.training.checkpoint import step_of

        return {"run": self.run.name, "step": step_of(self.checkpoint)}


def fork_source(workspace: Workspace, name: str, report: Report) -> Source:
    """The run of that name, or the latest one for "latest", with its newest sound checkpoint.

    Raises:
        FcaError: there is no such run, or it has no checkpoint.
    """
    from fcacli.training.checkpoint import latest, read_config

    run = workspace.run(None if name == "latest" else name, option="--fork")
    newest = latest(run, report)
    if newest is None:
        raise FcaError(f"run {run.name} has no readable checkpoint to fork from", "fca train --new")
    return Source(run, newest, read_config(run))


def seen_by(run: Path, config: TrainConfig, data: Path, chosen: "Chosen") -> str:
    """What of a fork's held-out clips its source, or what that was forked from, may have been trained on; "" for none.

    Args:
        run, config: the source.
        data: where datasets lie.
        chosen: clips of the fork.
    """
    may_be = f"held-out clips may be ones that run {run.name} was trained on"
    if not len(chosen["val"]):
        return ""
    if not (run / "config.json").is_file():
        return f"{may_be}: it is gone"
    try:
        theirs = clips_for(run, config, data / config.data)
        changed = _changed(run, theirs, "dataset")
    except FcaError:
        changed = ["gone"]
    if changed:
        return f"{may_be}: data/{config.data} has changed since"
    trained = {clip.content for clip in theirs["train"]}
    if count := sum(clip.content in trained for clip in chosen["val"]):
        return f"{count} of {len(chosen['val'])} held-out clips are ones that run {run.name} was trained on"
    if (before := read_json(run / "config.json").get("forked_from")) is None:
        return ""
    from fcacli.training.checkpoint import read_config

    source = run.parent / before["run"]
    return seen_by(source, read_config(source) if source.is_dir() else config, data, chosen)


def start_fork(source: Source, run: Path, adapter: "Adapter", config: TrainConfig, report: Report) -> None:
    """Write the checkpoint of step 0: the adapter as the source left it, the optimizer new."""
    from fcacli.model.attach import save_adapter
    from fcacli.training.checkpoint import State, save
    from fcacli.training.optim import make_optimizer

    def write(folder: Path) -> None:
        save_adapter(adapter, folder, config.base, config.base_fingerprint, config.clip)

    save(run, State(step=0, log_bytes=0, train_loss=None), write, make_optimizer(adapter.trainable(), config))
    step = source.identity()["step"]
    report(Message(f"starts from the weights of run {source.run.name}, step {step}, with a new optimizer"))


# ---------------------------------------------------------------- config.json


def write_config(
    run: Path, config: TrainConfig, chosen: "Chosen", encoded: "Encoded", source: Source | None, seen: str = ""
) -> None:
    """This makes a folder a run; `seen` is what `seen_by` says of a fork."""
    created = datetime.now(UTC).isoformat()
    forked_from = source.identity() | ({"seen": seen} if seen else {}) if source else None
    about = {"created": created, "version": __version__, "config": to_dict(config), "dataset": _identity(chosen)}
    write_json(run / "config.json", {**about, "clips": _identity(encoded.clips), "forked_from": forked_from})


def write_base(run: Path, base: str) -> None:
    """Note where the base of a run lies now."""
    about = read_json(run / "config.json")
    if about["config"]["base"] != base:
        about["config"]["base"] = base
        write_json(run / "config.json", about)


def clips_for(run: Path, config: TrainConfig, dataset: Path, report: Report = silent) -> "Chosen":
    """What is there for a run, or a new one, to train on.

    Raises:
        FcaError: nothing is prepared, or no train clip is long enough.
    """
    from fcacli.workflows.encode.encode import choose_clips

    earlier = (run / "config.json").is_file() and "dataset" not in read_json(run / "config.json")
    return choose_clips(dataset, config.clip, report, first=earlier)


def require_same_data(run: Path, clips: "Chosen", which: Literal["dataset", "clips"]) -> None:
    """Before a run continues: what is there, or what is encoded, is what it was started with.

    Raises:
        Misuse: it is not.
    """
    if which == "dataset" and which not in read_json(run / "config.json"):
        return  # of an earlier version: seen when all is encoded
    if changed := _changed(run, clips, which):
        raise Misuse(
            f"the clips are not those that run {run.name} was started with: {'; '.join(changed)}",
            f"fca train --new   or, from its weights: fca train --fork {run.name}",
        )


def require_training_data(run: Path, config: TrainConfig, dataset: Path, report: Report) -> None:
    """Before a run is scored on held-out clips: they are those that were held out of it. A run of an earlier version does not
    tell clips that could not be read from those that are others, and is warned of.

    Raises:
        FcaError: the dataset is another one by now.
    """
    about = read_json(run / "config.json")
    if seen := (about.get("forked_from") or {}).get("seen"):
        report(Message(f"run {run.name} is a fork, and {seen}: its scores say little about new clips", "warning"))
    which: Literal["dataset", "clips"] = "dataset" if "dataset" in about else "clips"
    if about.get(which) is None or not (changed := _changed(run, clips_for(run, config, dataset), which)):
        return
    message = f"{dataset} has changed since run {run.name} was trained on it, its held-out clips may be ones it has seen"
    message += f": {'; '.join(changed)}"
    if which == "clips":
        report(Message(message, "warning"))
        return
    raise FcaError(message, f"prepare it as it was, or train on what is there: fca train --new --data {dataset.name}")


def _changed(run: Path, clips: "Chosen", which: Literal["dataset", "clips"]) -> list[str]:
    before, now = read_json(run / "config.json").get(which), _identity(clips)
    return differences(before, now) if isinstance(before, dict) else ["not recorded"]


def _identity(chosen: "Chosen") -> dict[str, Any]:
    """Which clips a run sees, in which order: a run that continues must see the same."""
    digest, comma = hashlib.sha256(b"["), b""
    for seen in ([split, clip.content, clip.text] for split, clips in chosen.items() for clip in clips):
        digest.update(comma + json.dumps(seen).encode())
        comma = b", "
    digest.update(b"]")
    counts: dict[str, int] = {split: len(clips) for split, clips in chosen.items()}
    return {**counts, "sha256": digest.hexdigest()}
