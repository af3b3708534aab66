"""Claims about the audit: what `fca prepare` and `fca prepare --check` find, leave out, and show."""

import html.parser
import json
import shutil

import numpy as np
import pytest
from fixtures_path import fixture
from raw_videos import cut, moving_square, turn, write_ssv2, write_video

from fcacli.data import source
from fcacli.data.decode import decode
from fcacli.data.manifest import read_split
from fcacli.data.sampling import Form
from fcacli.errors import FcaError, Misuse
from fcacli.events import Message
from fcacli.workflows.prepare import check, prepare
from fcacli.workspace import Workspace

HOSTILE = "<script>alert(1)</script> & \"quoted\" 'too' {{ 7 * 7 }} \u202e"


def clip(root, name, video=None, text="x", suffix=".mp4", **options):
    path = write_video(
        root / f"{name}{suffix}", moving_square(18, seed=sum(map(ord, name))) if video is None else video, **options
    )
    path.with_suffix(".txt").write_text(text)
    return path


def messages(events):
    return [event.text for event in events if isinstance(event, Message)]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """One clip of each kind, in train and val."""
    root = tmp_path_factory.mktemp("raw")
    clip(root, "train/good", text="a caption")
    clip(root, "val/good", moving_square(20, seed=77), text=HOSTILE, suffix=".webm")
    clip(root, "train/uneven", moving_square(18, seed=5), times=[n / 12 + (n > 8) for n in range(18)])
    turn(clip(root, "train/turned", moving_square(18, seed=6)), 0, 1, -1, 0)
    cut(clip(root, "train/cut", moving_square(60, seed=7), suffix=".webm"))
    clip(root, "train/short", moving_square(5))
    clip(root, "train/black", np.zeros((18, 48, 64, 3), np.uint8))
    clip(root, "train/mute", moving_square(18, seed=8), text=" \n")
    (root / "train" / "empty.mp4").touch()
    (root / "train" / "empty.txt").write_text("x")
    shutil.copy(root / "val" / "good.webm", root / "train" / "leak.webm")
    (root / "train" / "leak.txt").write_text("another caption")
    shutil.copy(root / "train" / "uneven.mp4", root / "train" / "uneven2.mp4")
    (root / "train" / "uneven2.txt").write_text("x")
    return root


LEFT_OUT = {
    "train/black": ("black", "all of its 18 frames are black"),
    "train/cut": ("damaged", "truncated|decoding ends"),
    "train/empty": ("unreadable", "Invalid data"),
    "train/leak": ("leaked", "the same content as val/good.webm of val, and it is in train"),
    "train/mute": ("no caption", "it has no caption"),
    "train/short": ("too short", "fewer frames than needed: 5 of 16"),
}


@pytest.fixture(scope="module", params=["prepare", "check"])
def audited(raw, request, tmp_path_factory):
    """What both commands find: result, audit.json, audit.html, messages, and the files there."""
    events = []
    command = {"prepare": prepare, "check": check}[request.param]
    result = command("folder", raw, Workspace(tmp_path_factory.mktemp("space")), name="d", workers=1, report=events.append)
    found = json.loads((result.folder / "audit.json").read_text())
    page = result.audit.read_text()
    return result, found, page, messages(events), {path.name for path in result.folder.rglob("*") if path.is_file()}


def test_bad_clips_are_left_out_and_listed_with_reason(audited):
    import re

    result, found, page, said, files = audited
    listed = {row["source"].rsplit(".", 1)[0]: (row["fault"], row["reason"]) for row in found["excluded"]}
    assert listed.keys() == LEFT_OUT.keys()
    for name, (fault, reason) in LEFT_OUT.items():
        assert listed[name][0] == fault and re.search(reason, listed[name][1]), listed[name]
        assert f"<td>{name}." in page
    assert found["left_out"] == {fault: 1 for fault, _ in LEFT_OUT.values()}
    assert found["usable"] == result.counts == {"train": 4, "val": 1, "test": 0} and found["clips"] == 11
    assert any(name.endswith(".mp4") for name in files) is ("dataset.json" in files) is ("metadata.jsonl" in files)
    assert {"audit.json", "audit.html"} <= files
    assert sum("left out, see" in line for line in said) == 1


def test_variable_rates_rotation_and_duplicates_are_told_and_used(audited):
    _, found, _, said, _ = audited
    peculiar = found["peculiar"]
    assert peculiar["variable frame rate"] == {"clips": 2, "examples": ["train/uneven.mp4", "train/uneven2.mp4"]}
    assert peculiar["rotated upright"] == {"clips": 1, "examples": ["train/turned.mp4"]}
    assert found["duplicates"] == {"contents": 1, "clips": 2, "examples": [["train/uneven.mp4", "train/uneven2.mp4"]]}
    for words in ("2 clips: variable frame rate", "1 clips: rotated upright", "2 clips share their content", "1 clips leaked"):
        assert any(words in line for line in said), words


def test_totals_and_histograms_are_those_of_the_usable_sources(audited):
    _, found, page, _, _ = audited
    assert found["frames"] == 4 * 18 + 20 and found["captions"] == 3
    assert [row for row in found["histograms"]["frames"] if row[2]] == [[18, 18, 4], [20, 20, 1]]
    assert found["histograms"]["size"] == [["64x48", 4], ["48x64", 1]]
    assert sum(count for _, count in found["histograms"]["frames per second"]) == 5
    assert page.count('<svg class="chart"') == 3 and "64x48: 4" in page


class Tags(html.parser.HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.values = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.values += attributes


def test_the_page_is_offline_and_everything_in_it_escaped(audited):
    _, _, page, _, _ = audited
    tags = Tags(page)
    assert "script" not in tags.tags and "&lt;script&gt;alert(1)" in page and "{{ 7 * 7 }}" in page
    assert not [name for name, _ in tags.values if name.startswith("on")]
    links = [value for name, value in tags.values if name in ("src", "href", "xlink:href", "action")]
    assert links and all(value.startswith("data:image/jpeg;base64,") for value in links)
    assert "http" not in page.replace("http-equiv", "") and "default-src 'none'" in page


def test_the_contact_sheet_marks_the_given_frames(raw, tmp_path):
    page = check(
        "folder", raw, Workspace(tmp_path), workers=1, form=Form(frames=8, init_frames=3), min_frames=8
    ).audit.read_text()
    strips = page.split('<svg class="strip"')[1:]
    assert len(strips) == 5 and all(strip.split("</svg>")[0].count("<rect") == 3 for strip in strips)
    assert "8 frames of 64x48" in page and "given</b>" not in page.split("<h2>")[0]


def test_each_clip_is_decoded_once(raw, tmp_path, monkeypatch):
    passes = []
    frames = source.Video.frames
    monkeypatch.setattr(source.Video, "frames", lambda self, track: passes.append(self.path.name) or frames(self, track))
    for command, name in ((prepare, "a"), (check, "b")):
        passes.clear()
        command("folder", raw, Workspace(tmp_path), name=name, workers=1)
        assert len(passes) == len(set(passes)) == 10  # of the 11 one has no caption


def test_check_goes_on_where_it_stopped_and_prepare_does_not_need_it(raw, tmp_path):
    first, second = (check("folder", raw, Workspace(tmp_path), name="d", workers=1) for _ in range(2))
    assert (first.made, first.reused) == (6, 0) and (second.made, second.reused) == (0, 6)
    assert first.counts == second.counts and first.skipped == second.skipped
    assert not list(first.folder.rglob("*.mp4"))
    with pytest.raises(FcaError, match="no prepared data"):
        Workspace(tmp_path).dataset("d")
    assert prepare("folder", raw, Workspace(tmp_path), name="d", workers=1).made == 6


@pytest.mark.parametrize("command", [prepare, check])
def test_where_no_clip_can_be_used_the_page_or_the_list_says_why(tmp_path, command):
    clip(tmp_path / "raw", "a", moving_square(3))
    with pytest.raises(FcaError, match=r"none of the 1 clips can be used; a.mp4: fewer frames than needed: 3 of 16") as error:
        command("folder", tmp_path / "raw", Workspace(tmp_path), name="d", workers=1)
    folder = tmp_path / "data" / "d"
    assert str(folder / ("skipped.json" if command is prepare else "audit.json")) in error.value.hint
    assert "3 of 16" in (folder / ("skipped.json" if command is prepare else "audit.html")).read_text()


@pytest.mark.parametrize("command", [prepare, check])
def test_strict_stops_at_the_first(raw, tmp_path, command):
    with pytest.raises(FcaError, match=r"train/mute.mp4: it has no caption") as error:
        command("folder", raw, Workspace(tmp_path), workers=1, strict=True)
    assert "without --strict" in error.value.hint
    only = tmp_path / "raw"
    shutil.copytree(raw, only, ignore=shutil.ignore_patterns("mute*", "empty*", "short*", "cut*"))
    with pytest.raises(FcaError, match=r"train/black.mp4: all of its 18 frames are black"):
        command("folder", only, Workspace(tmp_path), name="a", workers=1, strict=True)
    (only / "train" / "black.mp4").unlink()
    with pytest.raises(FcaError, match=r"train/leak.webm: leaked"):
        command("folder", only, Workspace(tmp_path), name="b", workers=1, strict=True)


def many(root, count, **options):
    for number in range(count):
        clip(root, f"{number:03}", moving_square(16, seed=number), **options)
    return root


def test_what_the_whole_job_needs_is_said_early_and_a_small_disk_ends_it(tmp_path, monkeypatch):
    root = many(tmp_path / "raw", 70)
    events = []
    result = prepare("folder", root, Workspace(tmp_path), name="a", workers=1, report=events.append)
    line = next(text for text in messages(events) if "clips need about" in text)
    assert line.startswith("70 clips need about") and "are free" in line
    size = sum(path.stat().st_size for path in result.folder.glob("*/videos/*"))
    assert json.loads((result.folder / "audit.json").read_text())["bytes"] == size
    needed = json.loads(check("folder", root, Workspace(tmp_path), name="b", workers=1).audit.with_suffix(".json").read_text())
    assert needed["needed"]["bytes"] == pytest.approx(size, rel=0.2) and needed["needed"]["process_seconds"] > 0

    free = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("fcacli.workflows.preparation.shutil.disk_usage", lambda path: free)
    with pytest.raises(FcaError, match=r"70 clips need about .*and only 1 kB are free") as error:
        prepare("folder", root, Workspace(tmp_path), name="c", workers=1)
    assert "--limit" in error.value.hint
    assert 16 <= len(list((tmp_path / "data" / "c").glob("*/videos/*.mp4"))) < 20


def test_missing_and_surplus_files_are_in_the_audit(tmp_path):
    root = write_ssv2(tmp_path / "raw", {"train": [("1", "a"), ("2", "b"), ("3", "c")], "validation": [("7", "d")]})
    clips = root / "20bn-something-something-v2"
    (clips / "3.webm").rename(clips / "99.webm")
    result = check("ssv2", root, Workspace(tmp_path), workers=1)
    (note,) = json.loads((result.folder / "audit.json").read_text())["notes"]
    assert "1 have no video here" in note and "1 videos have no label" in note and note in result.audit.read_text()


def test_filter_takes_captions_that_hold_it(tmp_path):
    root = tmp_path / "raw"
    for number, text in enumerate(["Pushing a cup", "pulling a cup", "lifting", "pushing it"]):
        clip(root, f"{number}", moving_square(16, seed=number), text)
    result = prepare("folder", root, Workspace(tmp_path), workers=1, match="^push|lift")
    captions = [one.text for split in ("train", "val") for one in read_split(result.folder, split)]
    assert sorted(captions) == ["Pushing a cup", "lifting", "pushing it"]
    with pytest.raises(FcaError, match="holds no clips with a prompt that holds 'eating'") as error:
        prepare("folder", root, Workspace(tmp_path), workers=1, match="eating")
    assert "without --filter" in error.value.hint
    with pytest.raises(Misuse, match="is not a regular expression"):
        prepare("folder", root, Workspace(tmp_path), workers=1, match="(")


def test_a_dataset_of_sixteen_squares_by_seers_protocol(tmp_path):
    root = tmp_path / "raw"
    clip(root, "long", moving_square(30, seed=1))
    clip(root, "short", moving_square(5, seed=2))
    form = Form(frames=12, init_frames=2, width=32, height=32, protocol="seer")
    result = prepare("folder", root, Workspace(tmp_path), workers=1, form=form)
    clips = {one.id: one for split in ("train", "val") for one in read_split(result.folder, split)}
    assert {(one.frames, one.width, one.height) for one in clips.values()} == {(12, 32, 32)} and len(clips) == 2
    facts = json.loads((result.folder / "dataset.json").read_text())["form"]
    assert (facts["protocol"], facts["frames"], facts["init_frames"], facts["width"]) == ("seer", 12, 2, 32)
    path = next(result.folder.glob("*/videos/short.mp4"))
    assert np.abs(decode(path).frames[5:].astype(int) - 128).max() <= 3  # continued in mid-grey
    other = prepare("folder", root, Workspace(tmp_path), workers=1, replace=True)  # another form: all anew
    assert other.made == 1 and [one.reason for one in other.skipped] == ["fewer frames than needed: 5 of 16"]


def test_a_touched_source_is_known_by_its_bytes_and_a_changed_one_is_not(tmp_path):
    import os

    root = many(tmp_path / "raw", 3)
    first = prepare("folder", root, Workspace(tmp_path), name="d", workers=1)
    written = {path: path.stat().st_mtime_ns for path in first.folder.glob("*/videos/*")}
    for path in root.glob("*.mp4"):
        os.utime(path, ns=(1, 1))
    for _ in range(2):
        again = prepare("folder", root, Workspace(tmp_path), name="d", workers=1)
        assert (again.made, again.reused) == (0, 3)
        assert written == {path: path.stat().st_mtime_ns for path in first.folder.glob("*/videos/*")}
    data = (root / "001.mp4").read_bytes()
    (root / "001.mp4").write_bytes((root / "002.mp4").read_bytes())
    assert prepare("folder", root, Workspace(tmp_path), name="d", workers=1).made == 1 and data


def test_real_edge_cases_are_told(tmp_path):
    root = tmp_path / "raw"
    root.mkdir()
    for path in fixture("decode_edge").glob("*.m*"):
        (root / path.name).symlink_to(path)
        (root / path.name).with_suffix(".txt").write_text(path.stem)
    found = json.loads(
        check("folder", root, Workspace(tmp_path), workers=1, min_frames=3).audit.with_suffix(".json").read_text()
    )
    assert found["peculiar"]["rotated upright"]["examples"] == ["video_270.mov"]
    assert "test_video_66x50.mov" in found["peculiar"]["frame count other than the header or the raw data says"]["examples"]
    assert [(row["source"], row["fault"]) for row in found["excluded"]] == [("corrupted.mp4", "damaged")]
