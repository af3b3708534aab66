"""One preparation as a table: the clips that are to be there, in the reader's order, and what became of each.

The table is a private temporary SQLite database, in memory while it is small and on the disk beyond, so that memory does not
grow with the dataset. It holds nothing that is not found again: what lasts is the journal.
"""

import dataclasses
import hashlib
import json
import pickle
import re
import sqlite3
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcacli.data.journal import Entry, Outcome, Skipped, Stored, outcome_from, outcome_values, source_key
from fcacli.data.manifest import NAME_BYTES, Record, Split
from fcacli.data.sampling import Form
from fcacli.data.source import Source
from fcacli.data.transcode import SETTINGS, too_short
from fcacli.errors import FcaError

LARGEST_SOURCE = 4096
"""Bytes; a source that carries its pixels with it is not kept but read once more."""
SAMPLE = 16
"""Clips that come first, to tell from them what all will take."""
SHEET = 12
"""Clips on the contact sheet."""
SCHEMA = """
create table clip (
    position integer primary key, number integer, name text, split text, text text, label text, source blob, claimed integer,
    key text, place text, luck text,
    outcome text, fresh integer default 0, earlier text, digest text default '',
    lies text, content text, fault text, frames integer, seconds real, width integer, height integer, fps real,
    uneven integer, rotated integer, promised integer, size integer);
create table name (folded text primary key, next integer) without rowid;
"""
INDICES = """
create index by_number on clip (number);
create index by_key on clip (key);
create index by_place on clip (place);
create index by_content on clip (content);
create index by_luck on clip (luck);
"""


@dataclass(frozen=True)
class Row:
    """A clip of the plan."""

    position: int
    name: str
    """Its file name without suffix."""
    split: Split
    text: str
    label: str
    """Where its source lies, in words."""
    source: Source
    claimed: int
    key: str
    place: str
    digest: str
    """Of the source when it was worked on; only where nothing but its time stamp may have changed."""


class Plan:
    """The table; a context manager."""

    def __init__(self, form: Form, min_frames: int):
        self.form = form
        self.min_frames = min_frames
        self._settings = [*SETTINGS, form.settings()]
        self.sql = sqlite3.connect("", isolation_level=None)
        self.sql.executescript("pragma journal_mode = off; pragma synchronous = off;" + SCHEMA)

    def __enter__(self) -> "Plan":
        return self

    def __exit__(self, *exception: object) -> None:
        self.sql.close()

    def __len__(self) -> int:
        return int(self.count("1"))

    def count(self, condition: str) -> int:
        """Clips for which a condition on the columns holds."""
        return int(self.sql.execute(f"select count(*) from clip where {condition}").fetchone()[0])

    def add(self, number: int, record: Record, name: str, root: Path) -> None:
        """One more clip, the reader's record of that number; without a prompt it has its outcome already."""
        label = record.source.label(root)
        key, place = source_key(name, label, record.source, self._settings)
        source: bytes | None = pickle.dumps(record.source)  # our own classes, read again by this process alone
        if len(source or b"") > LARGEST_SOURCE:
            source = None
        luck = hashlib.sha256(name.encode()).hexdigest()
        row = (number, name, record.split, record.text, label, source, record.claimed or 0, key, place, luck)
        columns = "number, name, split, text, label, source, claimed, key, place, luck"
        position = self.sql.execute(f"insert into clip ({columns}) values (?,?,?,?,?,?,?,?,?,?)", row).lastrowid
        if not record.text:
            self.put(int(position or 0), Skipped(name, label, "it has no caption", "no caption"))

    def indexed(self) -> None:
        """All clips are there."""
        self.sql.executescript(INDICES)

    def new_name(self, id: str) -> str:
        """A safe file name (no suffix) for a clip's id, unlike all before it even where case does not count.

        A plain id is its own name; separators, dots in front and control characters become "_", long ones are cut.
        """
        plain = re.sub(r"[^\w.+-]+", "_", unicodedata.normalize("NFC", id)).lstrip("._-")
        plain = plain.encode()[:NAME_BYTES].decode(errors="ignore").rstrip(".") or "clip"
        name = plain
        take = "insert into name values (?, 2) on conflict do nothing"
        while self.sql.execute(take, [name.casefold()]).rowcount == 0:
            number = self.sql.execute("select next from name where folded = ?", [plain.casefold()]).fetchone()[0]
            self.sql.execute("update name set next = next + 1 where folded = ?", [plain.casefold()])
            name = f"{plain}-{number}"
        return name

    def recall(self, entries: Iterable[Entry], dataset: Path | None) -> None:
        """Take over what earlier runs did where it still holds: nothing has changed, and the file stored in `dataset` is there.

        Where only a source's time stamp may have changed, its outcome waits for `revive`. Without `dataset` nothing was stored.
        """
        for entry in entries:
            found = self.sql.execute(
                "select position, key from clip where key = ? union select position, key from clip where place = ?",
                [entry.key, entry.place],
            ).fetchone()
            if found is None or (outcome := self._still(entry, dataset)) is None:
                continue
            if found[1] == entry.key:
                self.put(found[0], outcome, fresh=False)
                self.note(found[0], entry.digest)
            elif entry.digest:
                earlier = json.dumps(entry.outcome)
                self.sql.execute(
                    "update clip set earlier = ?, digest = ? where position = ?", [earlier, entry.digest, found[0]]
                )

    def _still(self, entry: Entry, dataset: Path | None) -> Outcome | None:
        try:
            outcome = outcome_from(entry.outcome)
            if isinstance(outcome, Skipped):
                return None if outcome.frames is not None and outcome.frames >= self.min_frames else outcome
            if dataset is not None and (dataset / outcome.split / outcome.clip.file_name).stat().st_size != outcome.size:
                return None
            if (frames := outcome.clip.frames) < self.min_frames:
                reason = too_short(frames, self.min_frames)
                return Skipped(outcome.clip.id, outcome.clip.source, reason, "too short", frames)
            return outcome
        except (FcaError, KeyError, TypeError, ValueError, OSError):
            return None

    def revive(self, position: int) -> Outcome:
        """The earlier outcome of a clip whose source turned out to be what it was."""
        outcome = outcome_from(
            json.loads(self.sql.execute("select earlier from clip where position = ?", [position]).fetchone()[0])
        )
        self.put(position, outcome, fresh=False)
        return outcome

    def note(self, position: int, digest: str) -> None:
        """The digest of a clip's source."""
        self.sql.execute("update clip set digest = ? where position = ?", [digest, position])

    def entry(self, position: int) -> Entry:
        """The journal's line of a clip that has its outcome."""
        query = "select key, place, digest, outcome from clip where position = ?"
        key, place, digest, outcome = self.sql.execute(query, [position]).fetchone()
        return Entry(key, place, digest, json.loads(outcome))

    def put(self, position: int, outcome: Outcome, fresh: bool = True) -> None:
        """What became of a clip; `fresh`: in this run."""
        values: dict[str, Any] = {"outcome": json.dumps(outcome_values(outcome)), "fresh": int(fresh)}
        if isinstance(outcome, Stored):
            values |= vars(outcome.facts)
            values |= {"lies": outcome.split, "content": outcome.clip.content, "size": outcome.size, "fault": None}
        else:
            values |= {"fault": outcome.fault, "content": None}
        names = ", ".join(f"{name} = ?" for name in values)
        self.sql.execute(f"update clip set {names} where position = ?", [*values.values(), position])

    def missing(self, shard: tuple[int, int], again: Callable[[], Iterable[Record]]) -> Iterator[Row]:
        """The clips without outcome of part i of n; outcomes may be put meanwhile.

        Some at equal distances come first, as a sample of the whole. Sources that were not kept come last, from `again`:
        the reader's records once more.
        """
        number, parts = shard
        mine, order = f"outcome is null and position % {parts} = {number % parts}", "order by position limit"
        count = self.count(f"{mine} and source not null")
        sample = [
            row
            for index in range(SAMPLE if count > 4 * SAMPLE else 0)
            for row in self._rows(f"{mine} and source not null {order} 1 offset {index * count // SAMPLE}")
        ]
        yield from sample
        last, taken = 0, {row.position for row in sample}
        while page := self._rows(f"{mine} and source not null and position > {last} {order} 64"):
            for row in page:
                last = row.position
                if row.position not in taken:
                    yield row
        if self.count(f"{mine} and source is null"):
            for record_number, record in enumerate(again()):
                for row in self._rows(f"{mine} and source is null and number = {record_number} {order} 1"):
                    yield dataclasses.replace(row, source=record.source)

    def _rows(self, condition: str) -> list[Row]:
        names = [field.name for field in dataclasses.fields(Row)]
        rows = [
            dict(zip(names, row, strict=True))
            for row in self.sql.execute(f"select {', '.join(names)} from clip where {condition}")
        ]
        return [Row(**{**row, "source": row["source"] and pickle.loads(row["source"])}) for row in rows]

    def on_sheet(self) -> set[int]:
        """Positions of the clips of the contact sheet, picked by a hash of their names."""
        rows = self.sql.execute("select position from clip where text != '' order by luck limit ?", [SHEET])
        return {position for (position,) in rows}

    def stored(self, condition: str = "1") -> Iterator[tuple[int, str, Stored]]:
        """Position, caption and outcome of the clips that can be used, in order; outcomes may be put meanwhile."""
        last, query = 0, f"select position, text, outcome from clip where position > ? and content not null and {condition}"
        while page := self.sql.execute(f"{query} order by position limit 64", [last]).fetchall():
            for position, text, outcome in page:
                last = position
                stored = outcome_from(json.loads(outcome))
                if isinstance(stored, Stored):
                    yield position, text, stored

    def mean_size(self) -> float | None:
        """Bytes of a stored clip; None where none was measured."""
        size: float | None = self.sql.execute("select avg(size) from clip where content not null").fetchone()[0]
        return size

    def skipped(self) -> Iterator[Skipped]:
        """The clips left out, in order."""
        for (outcome,) in self.sql.execute("select outcome from clip where fault not null order by position"):
            skipped = outcome_from(json.loads(outcome))
            if isinstance(skipped, Skipped):
                yield skipped

    def leave_out_leaks(self) -> int:
        """Clips of train whose very content is also in val or test, and of val in test, are left out; how many these are."""
        found = self.sql.execute(
            """select a.position, a.name, a.label, a.split, b.split, b.label, min(b.position)
            from clip a join clip b on a.content = b.content
            where (a.split = 'train' and b.split in ('val', 'test')) or (a.split = 'val' and b.split = 'test')
            group by a.position order by a.position"""
        ).fetchall()
        for position, name, label, split, other, twin, _ in found:
            reason = f"leaked: the same content as {twin} of {other}, and it is in {split}"
            self.put(position, Skipped(name, label, reason, "leaked"), fresh=False)
        return len(found)

    def hold_out(self, share: float, small: int) -> int:
        """Make val of about a `share` of train's contents, at least one where there are two; how many clips that is.

        Decided by a hash of the clips' names, of equal clips the least one's: equal clips stay together, the form that they are
        stored in plays no part, and with `small` contents or more a clip does not change sides when others are added.
        """
        train = "content not null and split = 'train'"
        contents = self.sql.execute(f"select count(distinct content) from clip where {train}").fetchone()[0]
        if contents < 2:
            return 0
        chosen = f"select content from clip where {train} group by content "
        if contents < small:
            chosen += f"order by min(luck) limit {max(1, round(share * contents))}"
        else:
            chosen += f"having min(luck) < '{int(share * 2**32):08x}'"  # luck is hex digits
        return self.sql.execute(f"update clip set split = 'val' where {train} and content in ({chosen})").rowcount

    def moved(self) -> Iterator[tuple[int, Split, Stored]]:
        """Position, split and outcome of the clips whose file lies in another split's folder."""
        for position, _, stored in self.stored("lies != split"):
            yield position, self.sql.execute("select split from clip where position = ?", [position]).fetchone()[0], stored
