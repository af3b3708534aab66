"""The work of `fca prepare`: the plan filled from the reader, what is missing done, and who may do it at the same time."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Literal

from fcacli.data.audit import amount, duration
from fcacli.data.convert import Job, convert_all
from fcacli.data.journal import Journal, Skipped, Stored
from fcacli.data.manifest import Record
from fcacli.data.plan import SAMPLE, Plan
from fcacli.data.readers import check_reader, read
from fcacli.data.transcode import Task
from fcacli.errors import FcaError
from fcacli.events import Message, Progress, Report
from fcacli.workflows.lock import locked
from fcacli.workflows.prepared import check_same_source, mark_unfinished, require_same_options
from fcacli.workspace import Workspace, remove_leftovers, slug

if TYPE_CHECKING:
    from fcacli.workflows.prepare import PrepareOptions

CHECKED = "checked.jsonl"
"""The journal of `check`, which stores nothing."""
ROOM = 1.05
"""Times the estimated need that has to be free on the disk."""
BUSY, WAIT = "is being prepared or encoded", "wait for its end and run this again"


@dataclass
class Preparation:
    """One call of `prepare` or `check`."""

    reader: str
    raw: Path
    dataset: Path
    options: "PrepareOptions"
    report: Report
    plan: Plan
    notes: list[str] = field(default_factory=list)
    """What the reader found missing or left over."""
    sizes: list[int] = field(default_factory=list)
    """Bytes of the first clips that were encoded; they are spread over the whole."""
    seconds: list[float] = field(default_factory=list)
    """That one process took for each of them."""

    def records(self) -> Iterator[Record]:
        """The reader's clips, again and again the same."""
        return read(self.reader, self.raw, lambda text: None, self.options.reader)

    def fill(self) -> None:
        """Plan every clip that is wanted; names do not depend on which are.

        Raises:
            FcaError: there is none.
        """
        options, matches = self.options, re.compile(self.options.match or "", re.IGNORECASE).search
        taken = dict.fromkeys(options.wanted, 0)

        def note(text: str) -> None:
            self.notes.append(text)
            self.report(Message(text))

        for number, record in enumerate(read(self.reader, self.raw, note, options.reader)):
            name = self.plan.new_name(record.id)
            if record.split not in taken or taken[record.split] == options.limit or not matches(record.text):
                continue
            taken[record.split] += 1
            self.plan.add(number, record, name, self.raw)
            if all(count == options.limit for count in taken.values()):
                break  # what follows may be gigabytes of an archive
        self.plan.indexed()
        if not self.plan.count("text != ''"):
            having = f" that holds {options.match!r}" if options.match else ""
            where = " or ".join(options.wanted)
            hint = "without --filter all captions are taken" if options.match else "without --split all splits are taken"
            raise FcaError(f"{self.raw} holds no clips with a prompt{having} in {where}", hint)

    def recall(self) -> None:
        """What this and other processes did before."""
        for path in sorted(self.dataset.glob("journal*.jsonl")):
            self.plan.recall(Journal(path).entries(), self.dataset)

    def recall_checked(self) -> None:
        """What an earlier `check` saw."""
        self.plan.recall(Journal(self.dataset / CHECKED).entries(), None)

    def convert(self, phase: str, work: Literal["store", "check"]) -> None:
        """Do what is missing of this part, noting each clip in the plan and the journal as soon as it is done.

        Raises:
            FcaError: the disk is too small for all, or (with `strict`) a clip cannot be used.
        """
        number, parts = self.options.shard
        mine = f"position % {parts} = {number % parts}"
        self._strict()
        total, done = self.plan.count(mine), self.plan.count(f"{mine} and outcome not null")
        self.report(Progress(phase, done, total))
        left = total - done
        workers = min(self.options.workers or cores(), max(1, left))
        with Journal(self.dataset / self._journal(work)) as journal:
            for job, end in convert_all(self._jobs(work), workers):
                outcome = self.plan.revive(job.position) if end.outcome is None else end.outcome
                if end.outcome is not None:
                    self.plan.put(job.position, end.outcome)
                self.plan.note(job.position, end.digest)
                if (entry := self.plan.entry(job.position)).key:
                    journal.add(entry)
                if isinstance(outcome, Skipped):
                    self._strict(outcome)
                elif end.outcome is not None:
                    self._measure(outcome, end.seconds, work, left, workers)
                done += 1
                self.report(Progress(phase, done, total))

    def _jobs(self, work: Literal["store", "check"]) -> Iterator[Job]:
        options, shown = self.options, self.plan.on_sheet()
        for index, row in enumerate(self.plan.missing(options.shard, self.records)):
            task = Task(row.source, row.label, row.text, options.form, options.least, row.claimed, row.position in shown)
            measured = work == "check" and index < SAMPLE
            yield Job(row.position, row.name, row.split, self.dataset, task, "measure" if measured else work, row.digest)

    def _journal(self, work: Literal["store", "check"]) -> str:
        number, parts = self.options.shard
        return CHECKED if work == "check" else "journal.jsonl" if parts == 1 else f"journal-{number}-of-{parts}.jsonl"

    def _strict(self, outcome: Skipped | None = None) -> None:
        if self.options.strict and (outcome := outcome or next(self.plan.skipped(), None)) is not None:
            raise FcaError(f"{outcome.source}: {outcome.reason}", "without --strict it is left out and listed")

    def _measure(self, outcome: Stored, seconds: float, work: str, left: int, workers: int) -> None:
        """Learn from the first clips what the others will take, and say it as soon as it is known."""
        if outcome.size is None or len(self.sizes) == SAMPLE:
            return
        self.sizes.append(outcome.size)
        self.seconds.append(seconds)
        if len(self.sizes) < SAMPLE or left < 4 * SAMPLE:
            return
        size, time = mean(self.sizes) * left, mean(self.seconds) * left / workers
        free = shutil.disk_usage(self.dataset).free
        need = f"{left:,} clips need about {amount(size)} on the disk and {duration(time)} on {workers} processes"
        self.report(Message(f"{need}; {amount(free)} are free"))
        if work == "store" and size * ROOM > free:
            raise FcaError(
                f"{need}, and only {amount(free)} are free where {self.dataset} lies",
                "free some space, or make less: --limit, --split, --frames, --size",
            )

    def needed(self) -> dict[str, float]:
        """Bytes, and seconds of one process, for all clips that can be used, from those measured."""
        count, size = self.plan.count("content not null"), self.plan.mean_size()
        need = {} if size is None else {"bytes": round(size * count)}
        return need | ({"process_seconds": round(mean(self.seconds) * count, 1)} if self.seconds else {})

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the dataset against everybody else."""
        with locked(self.dataset, f"{self.dataset} {BUSY}", WAIT):
            for other in sorted((self.dataset / ".shards").glob("*")):
                with locked(other, f"part {other.name} of {self.dataset} {BUSY}", WAIT):
                    pass
            remove_leftovers(self.dataset, "*", "*/videos")
            yield

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """Hold the dataset, alone or together with the other parts of the job; what was done before is taken over, and it is
        marked where something is missing."""
        number, parts = self.options.shard
        with ExitStack() as held:
            if parts == 1:
                held.enter_context(self.alone())
                self._take_over()
            else:
                own = self.dataset / ".shards" / f"{number}-of-{parts}"
                with locked(self.dataset, f"{self.dataset} {BUSY}", waiting=self.report):
                    held.enter_context(locked(own, f"part {number} of {parts} of {self.dataset} {BUSY}", WAIT))
                    self._take_over()
            yield

    def _take_over(self) -> None:
        require_same_options(self.dataset, self.options)
        self.recall()
        if self.plan.count("outcome is null"):
            mark_unfinished(self)

    @contextmanager
    def joining(self) -> Iterator[None]:
        """Hold the dataset to write what all parts found; the others may have done so already."""
        if self.options.shard == (1, 1):
            yield
            return
        with locked(self.dataset, f"{self.dataset} {BUSY}", waiting=self.report):
            self.recall()
            yield


@contextmanager
def begin(
    reader: str, raw: Path, workspace: Workspace, name: str | None, options: "PrepareOptions", report: Report
) -> Iterator[Preparation]:
    """A preparation with its plan filled; nothing is written yet.

    Raises:
        FcaError: nothing usable is found, or data/<name> was prepared from something else.
        Misuse: the name or the reader cannot be right.
    """
    check_reader(reader, raw)
    dataset = workspace.new_dataset((slug(raw.resolve().name) if reader == "folder" else reader) if name is None else name)
    with Plan(options.form, options.least) as plan:
        work = Preparation(reader, raw, dataset, options, report, plan)
        work.fill()
        if not options.replace:
            check_same_source(dataset, reader, raw)
        yield work


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
