"""`fca prepare`: raw videos and labels -> data/<name>/, one form for every dataset; again, and it does what is missing."""

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fcacli.data.journal import Skipped
from fcacli.data.manifest import SPLITS, Split
from fcacli.data.readers import ReaderOptions
from fcacli.data.sampling import Form
from fcacli.errors import Misuse
from fcacli.events import Message, Report, silent
from fcacli.workflows import prepared
from fcacli.workflows.preparation import Preparation, begin
from fcacli.workspace import Workspace

MIN_FRAMES = 16
"""The published protocol's clip length; shorter videos are left out."""


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """Which clips, and what they become."""

    form: Form = field(default_factory=Form)
    reader: ReaderOptions = field(default_factory=ReaderOptions)
    splits: Sequence[Split] | None = None
    """None for all."""
    limit: int | None = None
    """At most so many clips of each split, in the reader's order."""
    match: str | None = None
    """Regular expression that the caption holds, in whatever case."""
    min_frames: int | None = None
    """Shorter sources are left out; None for `form.frames`, or MIN_FRAMES."""
    workers: int | None = None
    """Processes; None for one per core."""
    shard: tuple[int, int] = (1, 1)
    """Which part of how many."""
    strict: bool = False
    """Stop at the first clip that cannot be used."""
    replace: bool = False
    """Replace what was prepared under the same name with other options."""

    def __post_init__(self) -> None:
        for option, value in (("--limit", self.limit), ("--workers", self.workers), ("min_frames", self.min_frames)):
            if value is not None and value < 1:
                raise Misuse(f"{option} must be at least 1, got {value}")
        if unknown := set(self.splits or ()) - set(SPLITS):
            raise Misuse(f"there is no split {', '.join(sorted(unknown))}; expected {', '.join(SPLITS)}")
        if not 1 <= self.shard[0] <= self.shard[1]:
            raise Misuse(f"--shard takes I/N with I from 1 to N, got {self.shard[0]}/{self.shard[1]}", "--shard 1/2")
        try:
            re.compile(self.match or "")
        except (re.error, OverflowError, RecursionError) as error:
            raise Misuse(f"--filter {self.match!r} is not a regular expression: {error}", "--filter 'push|pull'") from None

    @property
    def least(self) -> int:
        """Frames that a stored clip must have; Seer's are filled up in grey."""
        return 1 if self.form.protocol == "seer" else self.min_frames or self.form.frames or MIN_FRAMES

    @property
    def wanted(self) -> tuple[Split, ...]:
        return tuple(split for split in SPLITS if self.splits is None or split in self.splits)

    def choice(self) -> dict[str, Any]:
        """The options that decide which clips are there in the end."""
        split = ",".join(self.splits) if self.splits else None
        of_reader = {"camera": self.reader.camera, "fold": self.reader.fold}
        return {"split": split, "limit": self.limit, "filter": self.match, **of_reader}

    def arguments(self) -> list[str]:
        """The options that decide what is there in the end, as they are written on a command line."""
        values = {name: value for name, value in asdict(self.form).items() if value != getattr(Form, name)}
        if size := [str(values.pop(side)) for side in ("width", "height") if side in values]:
            values["size"] = "x".join(size)
        values |= {name: value for name, value in vars(self.reader).items() if value != getattr(ReaderOptions, name)}
        values |= {name: value for name, value in self.choice().items() if name not in vars(self.reader)}
        flags = [(f"--{name.replace('_', '-')}", value) for name, value in values.items() if value is not None]
        return [word for flag, value in flags for word in ([flag] if value is True else [flag, str(value)])]


@dataclass(frozen=True)
class PrepareResult:
    """What a call of `prepare` or `check` left behind."""

    folder: Path
    counts: dict[str, int]
    """Clips of each split."""
    made: int
    """Clips converted now."""
    reused: int
    """Clips that were there from an earlier call."""
    skipped: list[Skipped]
    """Clips left out, with the reason."""
    audit: Path | None
    """The page that shows what was found; None while other parts are at work."""
    waiting: int = 0
    """Clips left to other parts of the job; the dataset can be used when there are none."""


def prepare(
    reader: str,
    raw: Path,
    workspace: Workspace,
    *,
    name: str | None = None,
    options: PrepareOptions | None = None,
    report: Report = silent,
    **choices: Any,
) -> PrepareResult:
    """Convert the clips that `reader` finds below `raw` to data/<name>/{train,val,test}.

    Without val clips, a share of train is held out as val. Clips that cannot be used are listed in skipped.json and
    audit.json; the rest goes on. What was prepared under the same name with other options is replaced only if `options` say so.

    Args:
        choices: fields of PrepareOptions, in place of `options`.

    Raises:
        FcaError: nothing usable is found, nothing can be written, or (with `strict`) a clip cannot be used.
        Misuse: an option that cannot be right.
    """
    options = options or PrepareOptions(**choices)
    with begin(reader, raw, workspace, name, options, report) as work, work.preparing():
        work.convert("preparing clips", "store")
        made, reused = _made_and_reused(work)
        if made:
            os.sync()  # what dataset.json says is there, is on the disk
        if options.shard != (1, 1):
            work.recall()
            if waiting := work.plan.count("outcome is null"):
                number, parts = options.shard
                report(Message(f"part {number} of {parts} is done; {waiting:,} clips are left to the others"))
                return _result(work, made, reused, None, waiting)
        with work.joining():
            page = prepared.finish(work, report)
        return _result(work, made, reused, page)


def check(
    reader: str,
    raw: Path,
    workspace: Workspace,
    *,
    name: str | None = None,
    options: PrepareOptions | None = None,
    report: Report = silent,
    **choices: Any,
) -> PrepareResult:
    """What `prepare` would do: every clip is decoded, audit.json and audit.html are written, and no clip; checked.json and
    checked.html beside clips that were prepared with other options.

    Raises:
        FcaError, Misuse: as `prepare`.
    """
    options = options or PrepareOptions(**choices)
    if options.shard != (1, 1):
        raise Misuse("--check looks at the whole: leave out --shard")
    with begin(reader, raw, workspace, name, options, report) as work, work.alone():
        work.recall_checked()
        work.convert("checking clips", "check")
        made, reused = _made_and_reused(work)
        page = prepared.look(work, report)
        return _result(work, made, reused, page)


def _made_and_reused(work: Preparation) -> tuple[int, int]:
    return work.plan.count("content not null and fresh = 1"), work.plan.count("content not null and fresh = 0")


def _result(work: Preparation, made: int, reused: int, page: Path | None, waiting: int = 0) -> PrepareResult:
    counts: dict[str, int] = {split: work.plan.count(f"content not null and split = '{split}'") for split in SPLITS}
    return PrepareResult(work.dataset, counts, made, reused, list(work.plan.skipped()), page, waiting)
