"""What `fca prepare` leaves: splits, their metadata, the clips left out, the audit, and the marks of what is not done yet."""

import shlex
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcacli import __version__
from fcacli.config import differences
from fcacli.data.audit import audit, in_words
from fcacli.data.audit_page import audit_page
from fcacli.data.journal import Journal, Skipped, Stored, outcome_from
from fcacli.data.manifest import SPLITS, Clip, Dataset, Split, write_split
from fcacli.data.plan import Plan
from fcacli.errors import FcaError, Misuse
from fcacli.events import Message, Report
from fcacli.workspace import UNFINISHED, atomic_file, read_json, write_json

if TYPE_CHECKING:
    from fcacli.workflows.preparation import Preparation
    from fcacli.workflows.prepare import PrepareOptions

BEFORE = "dataset.json.before"
"""The dataset.json of what is being replaced, until it is."""
HELD_OUT = 0.1
"""Share of the train clips that becomes val where the raw data has none."""
SMALL = 200
"""Clips below which the share is counted out instead of left to each clip's hash."""


def finish(work: "Preparation", report: Report) -> Path:
    """Everything but the clips themselves, dataset.json at the very end; the audit's page.

    Raises:
        FcaError: no clip can be used, or something cannot be written.
    """
    plan, dataset = work.plan, work.dataset
    _settle(work, report)
    write_json(dataset / "skipped.json", [_printable(skipped) for skipped in plan.skipped()])
    try:
        _require_some(work, "skipped.json")
    except FcaError:
        if (dataset / BEFORE).exists():  # nothing of what it says has been touched
            (dataset / BEFORE).replace(dataset / "dataset.json")
            (dataset / UNFINISHED).unlink(missing_ok=True)
        elif next(_journalled(plan, dataset), None) is None:  # no clip is there: the name is free
            (dataset / UNFINISHED).unlink(missing_ok=True)
        raise
    if plan.count("content not null and lies != split"):
        mark_unfinished(work)
        _move(plan, dataset)
    for split in SPLITS:
        if plan.count(f"content not null and split = '{split}'"):
            write_split(dataset, split, _clips(plan, split))
        else:
            (dataset / split / "metadata.jsonl").unlink(missing_ok=True)
    if work.options.replace:
        _remove_others(plan, dataset)
    page = _write_audit(work, {}, "audit", "skipped.json", report)
    counts: dict[str, int] = {split: plan.count(f"content not null and split = '{split}'") for split in SPLITS}
    skipped = plan.count("fault not null")
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    form, raw = asdict(work.options.form), str(work.raw.resolve())
    facts = Dataset(dataset.name, work.reader, raw, counts, skipped, now, __version__, form, work.options.choice())
    write_json(dataset / "dataset.json", asdict(facts))
    (dataset / UNFINISHED).unlink(missing_ok=True)
    (dataset / BEFORE).unlink(missing_ok=True)
    if not counts["train"]:
        report(Message(f"no train clip is left; {page} says what was left out and why", "warning"))
    found = ", ".join(f"{count:,} {split}" for split, count in counts.items() if count)
    report(Message(f"prepared {dataset}: {found}"))
    return page


def look(work: "Preparation", report: Report) -> Path:
    """The end of a check: the audit's page.

    Raises:
        FcaError: no clip can be used, or something cannot be written.
    """
    _settle(work, report)
    name = "checked" if other_options(work.dataset, work.options) else "audit"
    page = _write_audit(work, work.needed(), name, f"{name}.json", report)
    _require_some(work, f"{name}.json")
    counts = [(split, work.plan.count(f"content not null and split = '{split}'")) for split in SPLITS]
    found = ", ".join(f"{count:,} {split}" for split, count in counts if count)
    report(Message(f"{found} can be used; nothing was prepared, see {page}"))
    return page


def mark_unfinished(work: "Preparation") -> None:
    """From here to the end of `finish` the dataset is not to be used; who finds it so learns the command that finishes it."""
    dataset, reader, raw, command = work.dataset, work.reader, work.raw, _command(work, work.options)
    if (dataset / UNFINISHED).exists():  # clips of an interrupted call may have taken the place of others
        (dataset / BEFORE).unlink(missing_ok=True)
    write_json(dataset / UNFINISHED, {"reader": reader, "raw": str(raw.resolve()), "command": command})
    if (dataset / "dataset.json").exists():
        (dataset / "dataset.json").replace(dataset / BEFORE)


def _command(work: "Preparation", options: "PrepareOptions") -> str:
    """The command line that prepares the same with these options."""
    name = [] if work.dataset.name == work.reader else ["--name", work.dataset.name]
    replace_it = ["--replace"] if options.replace else []
    return shlex.join(["fca", "prepare", work.reader, str(work.raw), *name, *options.arguments(), *replace_it])


def check_same_source(dataset: Path, reader: str, raw: Path) -> None:
    """One name is one raw dataset: another one must not replace it unnoticed. One that has moved is the same."""
    marks = [dataset / name for name in ("dataset.json", UNFINISHED) if (dataset / name).exists()]
    if not marks:
        return
    before = read_json(marks[0])
    now = raw.resolve()
    if isinstance(before, dict) and before.get("reader") == reader:
        origin = Path(str(before.get("raw")))
        if origin == now or (origin.name == now.name and not origin.exists()):
            return
    there = f"{before.get('reader')} {before.get('raw')}" if isinstance(before, dict) else "something else"
    raise FcaError(
        f"{dataset} was prepared from {there}, not from {reader} {now}",
        f"choose another name: fca prepare {reader} {raw} --name OTHER, or --replace what is there",
    )


def other_options(dataset: Path, options: "PrepareOptions") -> list[str]:
    """In what a finished dataset differs from one of these options, as "name: old -> new" lines."""
    path, now = dataset / "dataset.json", options.choice()
    before = read_json(path) if path.is_file() else None
    if not isinstance(before, dict):
        return []
    form, choice = before.get("form"), before.get("choice", now)  # earlier versions noted the form alone
    there = {**(form if isinstance(form, dict) else {}), **(choice if isinstance(choice, dict) else {})}
    return differences(there, asdict(options.form) | now)


def require_same_options(dataset: Path, options: "PrepareOptions") -> None:
    """Clips that are prepared are replaced by others only where that was asked for.

    Raises:
        Misuse: they were prepared with other options.
    """
    if not options.replace and (different := other_options(dataset, options)):
        raise Misuse(f"{dataset} was prepared with other options: {'; '.join(different)}", "--name OTHER, or --replace")


def _settle(work: "Preparation", report: Report) -> None:
    """Leaks left out, then val clips held out of train where the raw data has none."""
    plan = work.plan
    if plan.leave_out_leaks() and work.options.strict:
        leak = next(skipped for skipped in plan.skipped() if skipped.fault == "leaked")
        raise FcaError(f"{leak.source}: {leak.reason}", "without --strict it is left out and listed")
    if plan.count("content not null and split = 'val'"):
        return
    train = plan.count("content not null and split = 'train'")
    if held_out := plan.hold_out(HELD_OUT, SMALL):
        report(Message(f"there are no val clips: {held_out:,} of {train:,} train clips are held out as val"))
    elif train:
        report(Message("there are no val clips, and too few train clips to hold one out", "warning"))


def _require_some(work: "Preparation", listed: str) -> None:
    plan = work.plan
    if not plan.count("content not null"):
        first = next(plan.skipped())
        raise FcaError(
            f"none of the {len(plan)} clips can be used; {first.source}: {first.reason}",
            _with_fewer_frames(work) + f"the others are listed in {work.dataset / listed}",
        )


def _with_fewer_frames(work: "Preparation") -> str:
    """The command that takes the longest clip at least, where most are too short; it goes before another hint."""
    short, form = work.plan.count("fault = 'too short'"), work.options.form
    longest = max((skipped.frames or 0 for skipped in work.plan.skipped()), default=0)
    if 2 * short < len(work.plan) or longest <= (form.init_frames or 2):
        return ""
    options = replace(work.options, form=replace(form, frames=longest), min_frames=None)
    return f"{_command(work, options)}  (the longest clip has {longest} frames)\nor use longer videos; "


def _move(plan: Plan, dataset: Path) -> None:
    """Bring files to the folder of their split."""
    with Journal(dataset / "journal.jsonl") as journal:
        for position, split, stored in plan.moved():
            target = dataset / split / stored.clip.file_name
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                (dataset / stored.split / stored.clip.file_name).replace(target)
            except OSError as error:
                hint = "run the same command when that is repaired"
                raise FcaError(f"cannot write {target}: {error.strerror}", hint) from None
            plan.put(position, replace(stored, split=split), fresh=False)
            journal.add(plan.entry(position))


def _remove_others(plan: Plan, dataset: Path) -> None:
    """Files that earlier preparations with other options stored, and that are no clip of this one."""
    plan.sql.execute("create temp table file (split text, name text, primary key (split, name)) without rowid")
    for place, ours in _journalled(plan, dataset):
        if not ours:
            plan.sql.execute("insert or ignore into file values (?, ?)", place)
    keep = "delete from file where split = ? and name = ?"
    for place, ours in _journalled(plan, dataset):
        if ours:  # also those that are left out, as a leak is: they need not be made again
            plan.sql.execute(keep, place)
    for _, _, stored in plan.stored():
        plan.sql.execute(keep, [stored.split, stored.clip.file_name])
    for split, name in plan.sql.execute("select split, name from file"):
        (dataset / split / name).unlink(missing_ok=True)
    plan.sql.execute("drop table file")


def _journalled(plan: Plan, dataset: Path) -> Iterator[tuple[list[str], bool]]:
    """Split and file name of each clip that was ever stored, and whether it is one of the plan."""
    for path in sorted(dataset.glob("journal*.jsonl")):
        for entry in Journal(path).entries():
            try:
                stored = outcome_from(entry.outcome)
            except (FcaError, KeyError, TypeError, ValueError):
                continue
            if isinstance(stored, Stored):
                ours = plan.sql.execute("select 1 from clip where key = ?", [entry.key]).fetchone()
                yield [stored.split, stored.clip.file_name], ours is not None


def _clips(plan: Plan, split: Split) -> Iterator[Clip]:
    for _, text, stored in plan.stored(f"split = '{split}'"):
        yield replace(stored.clip, text=text)


def _write_audit(work: "Preparation", needed: dict[str, float], name: str, listed: str, report: Report) -> Path:
    """<name>.json and <name>.html; what is worth a line is said, and where the clips left out are `listed`."""
    plan, dataset = work.plan, work.dataset
    found: dict[str, Any] = {
        "name": dataset.name,
        "reader": work.reader,
        "raw": str(work.raw.resolve()),
        "form": asdict(work.options.form),
        "notes": work.notes,
        "needed": needed,
        **audit(plan),
    }
    write_json(dataset / f"{name}.json", found)
    with atomic_file(dataset / f"{name}.html") as temporary:
        audit_page(temporary, found, plan)
    for line in in_words(found):
        report(Message(line))
    if first := next(plan.skipped(), None):
        others = f" and {count - 1:,} more" if (count := plan.count("fault not null")) > 1 else ""
        report(Message(f"left out, see {dataset / listed}: {first.source}: {first.reason}{others}", "warning"))
    return dataset / f"{name}.html"


def _printable(skipped: Skipped) -> dict[str, str]:
    return {"id": skipped.id, "source": skipped.source, "reason": skipped.reason}
