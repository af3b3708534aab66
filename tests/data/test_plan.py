"""Claims about the plan: names, what is missing, what leaks, what is held out."""

from pathlib import Path

import numpy as np
import pytest

from fcacli.data.facts import Facts
from fcacli.data.journal import Stored
from fcacli.data.manifest import Clip, Record
from fcacli.data.plan import SAMPLE, Plan
from fcacli.data.sampling import Form
from fcacli.data.source import Array, Video

FACTS = Facts(18, 1.5, 64, 48, 12.0, False, False, 0)


def record(number, split="train", text="x"):
    return Record(f"{number}", text, split, Video(Path(f"/raw/{number}.webm")))


def planned(records):
    plan = Plan(Form(), 16)
    for number, one in enumerate(records):
        plan.add(number, one, plan.new_name(one.id), Path("/raw"))
    plan.indexed()
    return plan


def put(plan, position, content, split="train"):
    clip = Clip(f"videos/{position}.mp4", "x", f"{position}.webm", 18, 64, 48, [n / 12 for n in range(18)], content)
    plan.put(position, Stored(split, 5, clip, FACTS))


def test_names_are_plain_short_and_unique():
    hostile = ["../../etc/passwd", "/abs", "a\\b:c", "..", "", ".hidden", "x\0y\n", "\udc80", "-rf", "ä" * 300]
    with Plan(Form(), 1) as plan:
        names = [plan.new_name(id) for id in [*hostile, "7", "7", "Cup", "cup", "cup-2", "7", "7-2"]]
    assert len({name.casefold() for name in names}) == len(names)
    assert all(name and name[0] not in ".-_" and not set(name) & set("/\\\0\n:") for name in names)
    assert max(len(name.encode()) for name in names) <= 85
    assert names[10:] == ["7", "7-2", "Cup", "cup-2", "cup-2-2", "7-3", "7-2-2"]


def test_a_sample_at_equal_distances_comes_first_and_nothing_twice():
    with planned(record(n) for n in range(200)) as plan:
        positions = []
        for row in plan.missing((1, 1), list):
            positions.append(row.position)
            if len(positions) > SAMPLE:  # the sample's outcomes are late, as on many processes
                put(plan, row.position, "aa")
        assert sorted(positions) == list(range(1, 201))
        assert positions[:SAMPLE] == [1 + index * 200 // SAMPLE for index in range(SAMPLE)]


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_parts_are_disjoint_and_add_up(parts):
    with planned(record(n) for n in range(20)) as plan:
        found = [[row.position for row in plan.missing((number, parts), list)] for number in range(1, parts + 1)]
    assert (
        sorted(position for part in found for position in part) == list(range(1, 21))
        and max(map(len, found)) - min(map(len, found)) <= 1
    )


def test_sources_that_carry_their_pixels_are_read_again_in_their_place():
    def records():
        for number in range(5):
            heavy = Array(Path("/raw/out.npy"), f"{number}", np.full((4, 64, 64, 3), number, np.uint8))
            yield record(number) if number == 2 else Record(f"{number}", "x", "train", heavy)

    with planned(records()) as plan:
        rows = list(plan.missing((1, 1), records))
        assert [row.position for row in rows] == [3, 1, 2, 4, 5]
        assert [int(row.source.pixels[0, 0, 0, 0]) for row in rows[1:]] == [0, 1, 3, 4]


def test_a_clip_without_caption_is_left_out_at_once():
    with planned([record(1), record(2, text="")]) as plan:
        assert [(skipped.id, skipped.fault) for skipped in plan.skipped()] == [("2", "no caption")]
        assert [row.name for row in plan.missing((1, 1), list)] == ["1"]


def test_train_clips_with_the_content_of_val_or_test_are_left_out_there():
    splits = ["train", "train", "val", "val", "test", "train"]
    contents = ["aa", "bb", "aa", "cc", "cc", "dd"]
    with planned(record(n, split) for n, split in enumerate(splits)) as plan:
        for position, (content, split) in enumerate(zip(contents, splits, strict=True), 1):
            put(plan, position, content, split)
        assert plan.leave_out_leaks() == 2
        assert [(skipped.id, skipped.fault) for skipped in plan.skipped()] == [("0", "leaked"), ("3", "leaked")]
        assert "the same content as 2.webm of val, and it is in train" in next(plan.skipped()).reason
        assert [position for position, _, _ in plan.stored()] == [2, 3, 5, 6]


def held_out(contents):
    """Positions of the clips held out."""
    with planned(record(n) for n in range(len(contents))) as plan:
        for position, content in enumerate(contents, 1):
            put(plan, position, content)
        count = plan.hold_out(0.1, 200)
        assert count == plan.count("split = 'val'") == plan.count("lies != split")
        return {position for position, _, _ in plan.stored("split = 'val'")}


def test_the_held_out_share_is_a_tenth_and_stable():
    contents = [f"{n:08x}" for n in range(2000)]
    chosen = held_out(contents)
    assert 150 < len(chosen) < 250
    assert held_out(contents[:1000]) == {position for position in chosen if position <= 1000}
    assert len(held_out(contents[:30])) == 3 and len(held_out(contents[:3])) == 1
    assert held_out(["ff000000"] * 3) == held_out([]) == set()


@pytest.mark.parametrize("count", [30, 2000])
def test_what_is_held_out_does_not_depend_on_the_stored_form(count):
    """The content is a hash of the stored pixels."""
    forms = [[f"{(n * factor) % 2**32:08x}" for n in range(count)] for factor in (2654435761, 40503)]
    assert held_out(forms[0]) == held_out(forms[1])


@pytest.mark.parametrize("count", [30, 2000])
def test_equal_clips_are_held_out_together_or_not_at_all(count):
    chosen = held_out([f"{n % (count // 3):08x}" for n in range(count)])
    assert chosen and all((position + count // 3 in chosen) == (position in chosen) for position in range(1, 2 * count // 3))
