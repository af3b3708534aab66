"""`fca prepare`: raw videos and labels -> data/<name>/, one form for every dataset; again, and it does what is missing."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from fcacli import __version__
from fcacli.data.convert import Job, convert_all
from fcacli.data.journal import Journal, Outcome, Skipped, Stored, source_key
from fcacli.data.manifest import SPLITS, Clip, Dataset, Record, Split, file_names, write_split
from fcacli.data.readers import read
from fcacli.data.transcode import SETTINGS, too_short
from fcacli.errors import FcaError, Misuse
from fcacli.events import Message, Progress, Report, silent
from fcacli.workflows.lock import locked
from fcacli.workspace import UNFINISHED, Workspace, read_json, remove_leftovers, slug, write_json

MIN_FRAMES = 16
"""The published protocol's clip length; shorter videos are left out."""
HELD_OUT = 0.1
"""Share of the train clips that becomes val where the raw data has none."""
SMALL = 200
"""Clips below which the share is counted out instead of left to each clip's hash."""


@dataclass(frozen=True)
class PrepareResult:
    """What a call of `prepare` left behind."""

    folder: Path
    counts: dict[str, int]
    """Clips of each split."""
    made: int
    """Clips converted now."""
    reused: int
    """Clips that were there from an earlier call."""
    skipped: list[Skipped]
    """Clips left out, with the reason."""


def prepare(
    reader: str,
    raw: Path,
    workspace: Workspace,
    *,
    name: str | None = None,
    limit: int | None = None,
    splits: Sequence[Split] | None = None,
    workers: int | None = None,
    min_frames: int = MIN_FRAMES,
    report: Report = silent,
) -> PrepareResult:
    """Convert the clips that `reader` finds below `raw` to data/<name>/{train,val,test}.

    At most `limit` clips of each split, in the reader's order. Without val clips, a share of train is held out as val.
    Videos that cannot be read, or with fewer than `min_frames` frames, are listed in skipped.json; the rest goes on.

    Raises:
        FcaError: nothing usable is found, or nothing can be written.
        Misuse: an option that cannot be right.
    """
    for option, value in (("--limit", limit), ("--workers", workers), ("min_frames", min_frames)):
        if value is not None and value < 1:
            raise Misuse(f"{option} must be at least 1, got {value}")
    wanted = tuple(split for split in SPLITS if splits is None or split in splits)
    if splits is not None and (unknown := set(splits) - set(SPLITS)):
        raise Misuse(f"there is no split {', '.join(sorted(unknown))}; expected {', '.join(SPLITS)}")
    dataset = workspace.new_dataset((slug(raw.resolve().name) if reader == "folder" else reader) if name is None else name)
    records = list(read(reader, raw, lambda text: report(Message(text))))
    _check_same_source(dataset, reader, raw)
    jobs = _jobs(records, raw, dataset, wanted, limit, min_frames)
    if not jobs:
        raise FcaError(f"{raw} holds no clips with a prompt in {' or '.join(wanted)}", "without --split all splits are taken")
    with locked(dataset, f"{dataset} is being prepared or encoded", "wait for its end and run this again"):
        remove_leftovers(dataset, "*", "*/videos")
        return _prepare(dataset, reader, raw, jobs, workers or cores(), report)


def _prepare(dataset: Path, reader: str, raw: Path, jobs: list[Job], workers: int, report: Report) -> PrepareResult:
    """Do what is missing of `jobs`; until all is there again, no dataset.json says that it is."""
    journal = Journal(dataset)
    outcomes = _earlier_outcomes(jobs, journal)
    reused = sum(isinstance(outcome, Stored) for outcome in outcomes.values())
    if reused < len(jobs):
        _mark_unfinished(dataset, reader, raw)
    _convert_missing(jobs, outcomes, journal, workers, report)
    skipped = [outcome for job in jobs if isinstance(outcome := outcomes[job.name], Skipped)]
    stored = [(job, outcome) for job in jobs if isinstance(outcome := outcomes[job.name], Stored)]
    if skipped:
        write_json(dataset / "skipped.json", [_printable(outcome) for outcome in skipped])
    if not stored:
        raise FcaError(
            f"none of the {len(jobs)} clips can be used; {skipped[0].source}: {skipped[0].reason}",
            f"the others are listed in {dataset / 'skipped.json'}",
        )
    clips, moved = _assign_splits(stored, report)
    if moved:
        _mark_unfinished(dataset, reader, raw)
        _move(moved, dataset, journal)
    _write(dataset, reader, raw, clips, skipped)
    counts: dict[str, int] = {split: len(rows) for split, rows in clips.items()}
    _summarise(dataset, counts, skipped, report)
    return PrepareResult(dataset, counts, made=len(stored) - reused, reused=reused, skipped=skipped)


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_same_source(dataset: Path, reader: str, raw: Path) -> None:
    """One name is one raw dataset: another one must not replace it unnoticed."""
    marks = [dataset / name for name in ("dataset.json", UNFINISHED) if (dataset / name).exists()]
    if not marks:
        return
    before = read_json(marks[0])
    if not isinstance(before, dict) or (before.get("reader"), before.get("raw")) != (reader, str(raw.resolve())):
        origin = f"{before.get('reader')} {before.get('raw')}" if isinstance(before, dict) else "something else"
        raise FcaError(
            f"{dataset} was prepared from {origin}, not from {reader} {raw.resolve()}",
            f"choose another name: fca prepare {reader} {raw} --name OTHER",
        )


def _jobs(
    records: list[Record], raw: Path, dataset: Path, splits: tuple[Split, ...], limit: int | None, min_frames: int
) -> list[Job]:
    """What has to be there in the end, whether done already or not; names do not depend on `splits` and `limit`."""
    jobs: list[Job] = []
    taken = dict.fromkeys(splits, 0)
    for record, name in zip(records, file_names(record.id for record in records), strict=True):
        if record.split not in taken or taken[record.split] == limit:
            continue
        taken[record.split] += 1
        below = record.video.relative_to(raw) if record.video.is_relative_to(raw) else record.video
        source = below.as_posix().encode(errors="backslashreplace").decode()
        try:
            key = source_key(name, source, record.video, [*SETTINGS, record.fps])
        except OSError:
            key = ""  # the attempt to read it says why
        jobs.append(Job(key, name, record.split, dataset, record.video, record.text, source, record.fps, min_frames))
    return jobs


def _earlier_outcomes(jobs: list[Job], journal: Journal) -> dict[str, Outcome]:
    """By clip name, of those clips whose outcome in an earlier call still holds."""
    outcomes: dict[str, Outcome] = {}
    for job in jobs:
        outcome = journal.find(job.key)
        if isinstance(outcome, Stored) and outcome.clip.frames < job.min_frames:
            frames = outcome.clip.frames
            outcome = Skipped(job.name, job.source, too_short(frames, job.min_frames), frames)
        elif isinstance(outcome, Skipped) and outcome.frames is not None:
            outcome = None if outcome.frames >= job.min_frames else outcome
        if outcome is not None:
            outcomes[job.name] = outcome
    return outcomes


def _convert_missing(jobs: list[Job], outcomes: dict[str, Outcome], journal: Journal, workers: int, report: Report) -> None:
    """Convert the jobs without outcome, noting each in `outcomes` and the journal as soon as it is done."""
    missing = [job for job in jobs if job.name not in outcomes]
    report(Progress("preparing clips", len(outcomes), len(jobs)))
    for job, outcome in convert_all(missing, workers):
        outcomes[job.name] = outcome
        if job.key:
            journal.add(job.key, outcome)
        report(Progress("preparing clips", len(outcomes), len(jobs)))


def _mark_unfinished(dataset: Path, reader: str, raw: Path) -> None:
    """From here to the end of `_write` the dataset is not to be used; who finds it so learns the command that finishes it."""
    name = [] if dataset.name == reader else ["--name", dataset.name]
    command = shlex.join(["fca", "prepare", reader, str(raw), *name])
    write_json(dataset / UNFINISHED, {"reader": reader, "raw": str(raw.resolve()), "command": command})
    (dataset / "dataset.json").unlink(missing_ok=True)


def _assign_splits(
    stored: list[tuple[Job, Stored]], report: Report
) -> tuple[dict[Split, list[Clip]], list[tuple[Job, Stored, Split]]]:
    """The clips of each split, and those whose files lie in another split's folder yet."""
    held_out: set[str] = set()
    if all(job.split != "val" for job, _ in stored):
        train = [(job, outcome) for job, outcome in stored if job.split == "train"]
        contents = held_out_contents([outcome.clip.content for _, outcome in train])
        held_out = {job.name for job, outcome in train if outcome.clip.content in contents}
        if held_out:
            report(Message(f"there are no val clips: {len(held_out)} of {len(train)} train clips are held out as val"))
        else:
            report(Message("there are no val clips, and too few train clips to hold one out", "warning"))
    clips: dict[Split, list[Clip]] = {split: [] for split in SPLITS}
    moved: list[tuple[Job, Stored, Split]] = []
    for job, outcome in stored:
        split: Split = "val" if job.name in held_out else job.split
        if outcome.split != split:
            moved.append((job, outcome, split))
        clips[split].append(replace(outcome.clip, text=job.text))
    return clips, moved


def _move(moved: list[tuple[Job, Stored, Split]], dataset: Path, journal: Journal) -> None:
    """Bring files to the folder of their split."""
    for job, outcome, split in moved:
        target = dataset / split / outcome.clip.file_name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            (dataset / outcome.split / outcome.clip.file_name).replace(target)
        except OSError as error:
            raise FcaError(f"cannot write {target}: {error.strerror}", "run the same command when that is repaired") from None
        journal.add(job.key, replace(outcome, split=split))


def held_out_contents(contents: list[str]) -> set[str]:
    """Which contents (SHA-256, hex) are val: about a tenth, at least one, decided by the content alone.

    Equal clips stay together, and in all but small datasets a clip does not change sides when others are added.
    """
    distinct = sorted(set(contents))
    if len(distinct) < SMALL:
        return set(distinct[: max(1, round(HELD_OUT * len(distinct)))]) if len(distinct) > 1 else set()
    return {content for content in distinct if int(content[:8], 16) < HELD_OUT * 2**32}


def _write(dataset: Path, reader: str, raw: Path, clips: dict[Split, list[Clip]], skipped: list[Skipped]) -> None:
    """metadata.jsonl of each split, skipped.json, and dataset.json at the very end."""
    for split, rows in clips.items():
        if rows:
            write_split(dataset, split, rows)
        else:
            (dataset / split / "metadata.jsonl").unlink(missing_ok=True)
    write_json(dataset / "skipped.json", [_printable(outcome) for outcome in skipped])
    counts: dict[str, int] = {split: len(rows) for split, rows in clips.items()}
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    facts = Dataset(dataset.name, reader, str(raw.resolve()), counts, len(skipped), now, __version__)
    write_json(dataset / "dataset.json", asdict(facts))
    (dataset / UNFINISHED).unlink(missing_ok=True)


def _printable(outcome: Skipped) -> dict[str, str]:
    return {"id": outcome.id, "source": outcome.source, "reason": outcome.reason}


def _summarise(dataset: Path, counts: dict[str, int], skipped: list[Skipped], report: Report) -> None:
    if skipped:
        first = f"{skipped[0].source}: {skipped[0].reason}"
        others = f" and {len(skipped) - 1} more" if len(skipped) > 1 else ""
        report(Message(f"left out, see {dataset / 'skipped.json'}: {first}{others}", "warning"))
    found = ", ".join(f"{count:,} {split}" for split, count in counts.items() if count)
    report(Message(f"prepared {dataset}: {found}"))
