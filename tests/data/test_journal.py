"""Claims about the journal: what is noted is known again as long as it is true, whatever ended the process before."""

import dataclasses
import resource
import signal
import subprocess
import sys

import pytest

from fcacli.data.facts import Facts
from fcacli.data.journal import Entry, Journal, Skipped, Stored, outcome_from, source_digest
from fcacli.data.manifest import Clip
from fcacli.data.source import Video
from fcacli.errors import FcaError

CLIP = Clip("videos/7.mp4", "pushing cup left", "7.webm", 2, 64, 48, [0.0, 0.083], "ab" * 32)
STORED = Stored("train", 5, CLIP, Facts(2, 0.083, 64, 48, 12.0, False, False, 0))
SKIPPED = Skipped("8", "8.webm", "the file is empty", "unreadable")


def entry(key, outcome=STORED):
    return Entry(key, "place", "digest", dataclasses.asdict(outcome))


def test_outcomes_come_back_in_another_process(tmp_path):
    path = tmp_path / "below" / "journal.jsonl"
    journal = Journal(path)
    journal.add(entry("a"))
    journal.add(entry("b", SKIPPED))
    again = list(Journal(path).entries())  # nothing was closed
    assert [found.key for found in again] == ["a", "b"] and (again[0].place, again[0].digest) == ("place", "digest")
    assert [outcome_from(found.outcome) for found in again] == [STORED, SKIPPED]
    assert list(Journal(tmp_path / "none.jsonl").entries()) == []


def test_a_torn_line_costs_itself_alone(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.add(entry("a"))
        journal.add(entry("b"))
    path.write_bytes(path.read_bytes()[:-30])
    with Journal(path) as journal:
        journal.add(entry("c"))
    assert [found.key for found in Journal(path).entries()] == ["a", "c"]


@pytest.mark.parametrize("line", ["{", "[]", "7", '{"key": "a"}', "[" * 100_000, '{"key": 1, "other": 2}'])
def test_a_line_that_is_none_is_passed_over(tmp_path, line):
    path = tmp_path / "journal.jsonl"
    path.write_text(line + "\n")
    with Journal(path) as journal:
        journal.add(entry("a"))
    assert [found.key for found in Journal(path).entries()] == ["a"]


@pytest.mark.parametrize(
    "change", [{"split": "../x"}, {"size": "5"}, {"clip": {"file_name": "/x"}}, {"facts": {}}, {"strip": {"jpeg": 1}}]
)
def test_a_damaged_outcome_is_refused(change):
    with pytest.raises((FcaError, KeyError, TypeError, ValueError)):
        outcome_from(dataclasses.asdict(STORED) | change)


def test_a_source_that_cannot_be_read_has_no_digest(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"video")
    assert len(source_digest(Video(path))) == 64
    assert source_digest(Video(tmp_path)) == source_digest(Video(tmp_path / "none.mp4")) == ""


def test_a_full_disk_is_named(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with (
            pytest.raises(FcaError, match=r"cannot write .*journal.jsonl: File too large"),
            Journal(tmp_path / "journal.jsonl") as j,
        ):
            for number in range(100):
                j.add(entry(f"{number}"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heard)


ADDING = """
import sys
from pathlib import Path
from fcacli.data.journal import Entry, Journal
journal = Journal(Path(sys.argv[1]))
for number in range(10 ** 9):
    journal.add(Entry(f"{number}", "", "", {}))
    print(number, flush=True)
"""


def test_what_was_noted_survives_kill_9(tmp_path):
    path = tmp_path / "journal.jsonl"
    process = subprocess.Popen([sys.executable, "-c", ADDING, str(path)], stdout=subprocess.PIPE, text=True)
    while int(process.stdout.readline()) < 50:
        pass
    process.kill()
    said = process.communicate()[0].splitlines()
    noted = {found.key for found in Journal(path).entries()}
    assert {str(number) for number in range(51)} | set(said[:-1]) <= noted
