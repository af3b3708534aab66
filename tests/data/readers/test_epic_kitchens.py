"""EPIC-KITCHENS: by time in videos, by index in folders and tars of frames, in both releases' tables."""

import shutil
import tarfile

import numpy as np
import pytest
from fixtures_path import fixture
from raw_videos import moving_square, write_video
from twins import EPIC_55, decoded, facts, found, jpeg, write_epic_table, write_pictures, write_tar

from fcacli.data.decode import Track, Unreadable
from fcacli.data.readers.epic_kitchens import rate
from fcacli.errors import FcaError

ROWS = [
    ("P01_01_0", "P01_01", "open  door", 1.0, 2.0, 60, 119),
    ("P01_01_1", "P01_01", "take, plate", 0.14, 0.9, 8, 53),
]


def numbered(count):
    """Frames that tell their number, from 1 on."""
    return np.stack([np.full((32, 48, 3), number, np.uint8) for number in range(1, count + 1)])


def epic(root, rows=ROWS, **kinds):
    """`kinds`: frames, tar, video -> number of frames of P01_01."""
    write_epic_table(root / "annotations" / "EPIC_100_train.csv", rows)
    base = root / "EPIC-KITCHENS" / "P01"
    if count := kinds.get("frames"):
        write_pictures(base / "rgb_frames" / "P01_01", numbered(count), "frame_{:010d}.jpg", 1)
    if count := kinds.get("tar"):
        members = [(f"./frame_{number:010d}.jpg", jpeg(frame)) for number, frame in enumerate(numbered(count), 1)]
        write_tar(base / "rgb_frames" / "P01_01.tar", [*reversed(members), ("./frame_x.jpg", b"x")])
    if count := kinds.get("video"):
        write_video(base / "videos" / "P01_01.MP4", 3 * numbered(count), fps=30)
    return root


def numbers(record):
    return [round(float(frame.mean())) for frame in decoded(record)[0]]


@pytest.mark.parametrize("kind", ["frames", "tar"])
def test_frames_are_taken_by_index_both_ends_included(tmp_path, kind):
    records, notes = found("epic-kitchens", epic(tmp_path, **{kind: 120}))
    assert [facts(record) for record in records] == [
        ("P01_01_0", "open door", "train", 60, ""),
        ("P01_01_1", "take, plate", "train", 46, ""),
    ]
    assert numbers(records[0]) == list(range(60, 120)) and numbers(records[1]) == list(range(8, 54))
    assert [record.claimed for record in records] == [60, 46] and notes == []
    assert decoded(records[0])[1][59] == pytest.approx(59 * 1001 / 60000)


def test_videos_are_taken_by_time_not_by_index(tmp_path):
    # as the real P09_08: frame numbers run to 119, the video has 75 frames
    records, _ = found("epic-kitchens", epic(tmp_path, video=75))
    assert [record.claimed for record in records] == [None, None]
    frames, times, problem = decoded(records[0])
    assert len(frames) == 30 and problem == ""
    assert frames.mean((1, 2, 3)) / 3 == pytest.approx(np.arange(31, 61), abs=0.5)
    assert times[0] == pytest.approx(1.0) and times[-1] == pytest.approx(1 + 29 / 30, abs=1e-3)
    assert decoded(records[1])[0].mean((1, 2, 3)) / 3 == pytest.approx(np.arange(5, 28), abs=0.5)


def test_frames_go_before_tar_before_video(tmp_path):
    assert found("epic-kitchens", epic(tmp_path, frames=120, tar=120, video=75))[0][0].source.path.name == "P01_01"
    shutil.rmtree(tmp_path / "EPIC-KITCHENS" / "P01" / "rgb_frames" / "P01_01")
    assert found("epic-kitchens", tmp_path)[0][0].source.path.name == "P01_01.tar"


def test_epic_55_names_and_folders(tmp_path):
    rows = [("17", "P01_01", "open door", 0.14, 0.37, 8, 22)]
    write_epic_table(tmp_path / "EPIC_train_action_labels.csv", rows, EPIC_55)
    for kind in ("flow", "rgb"):
        folder = tmp_path / "frames_rgb_flow" / kind / "train" / "P01"
        write_pictures(folder / "P01_01", numbered(22 if kind == "rgb" else 1), "frame_{:010d}.jpg", 1)
    records, _ = found("epic-kitchens", tmp_path)
    assert [facts(record) for record in records] == [("P01_01_17", "open door", "train", 15, "")]


def test_rate_of_extracted_frames():
    assert rate("P01_01") == pytest.approx(59.94, abs=0.001) and rate("P28_101") == 50


def test_missing_frames_are_a_problem(tmp_path):
    records, _ = found("epic-kitchens", epic(tmp_path, frames=100))
    assert decoded(records[0])[2] == "19 of the 60 frames 60-119 are not there"
    records, _ = found("epic-kitchens", epic(tmp_path / "tar", tar=100))
    assert decoded(records[0])[2] == "19 of its 60 frames are not there"
    records, _ = found("epic-kitchens", epic(tmp_path / "none", tar=50))
    with pytest.raises(Unreadable, match="none of its 60 frames is there"):
        decoded(records[0])


def test_a_video_that_ends_before_the_action_is_a_problem(tmp_path):
    records, _ = found("epic-kitchens", epic(tmp_path, video=50))
    assert decoded(records[0])[2] == "the video ends at 1.67 s, the clip at 2.00 s"


def test_seer_takes_about_a_hundred_frames(tmp_path):
    rows = [("a", "P01_01", "cut", 0.1, 5, 1, 250), ("b", "P01_01", "cut", 0.1, 1, 1, 60)]
    records, _ = found("epic-kitchens", epic(tmp_path, rows, frames=1), protocol="seer")
    # range(start, end + 1, (end - start) // 100), as in its release
    assert [list(record.source.numbers) for record in records] == [list(range(1, 251, 2)), list(range(1, 61))]
    assert records[0].source.fps == pytest.approx(29.97, abs=0.001) and records[0].claimed == 125


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("n", "../../P01", "cut", 0, 1, 1, 60), "video_id should be like P01_01, found '../../P01'"),
        (("n", "P01_01", "cut", 1, 1, 1, 60), "an action from 1.0 s to 1.0 s, frames 1 to 60, cannot be"),
        (("n", "P01_01", "cut", 0, 1, 0, 60), "an action from 0.0 s to 1.0 s, frames 0 to 60, cannot be"),
        (("n", "P01_01", "cut", 0, 1, 1, 9999999999), "an action from 0.0 s to 1.0 s, frames 1 to 9999999999, cannot be"),
        (("n", "P01_01", "cut", 0, 1, "x", 60), "start_frame should be a number, found 'x'"),
    ],
)
def test_a_broken_row_is_left_out_and_said(tmp_path, row, message):
    records, notes = found("epic-kitchens", epic(tmp_path, [row, *ROWS], frames=120))
    assert len(records) == 2 and len(notes) == 1 and f"line 2: {message}" in notes[0]


def test_videos_that_are_not_there_are_counted(tmp_path):
    rows = [*ROWS, ("P02_01_0", "P02_01", "cut", 0, 1, 1, 60), ("P02_01_1", "P02_01", "cut", 0, 1, 1, 60)]
    records, notes = found("epic-kitchens", epic(tmp_path, rows, frames=120))
    assert len(records) == 2 and notes == ["2 of 4 actions lie in 1 videos that are not there, e.g. P02_01"]


def test_each_missing_thing_is_one_clear_error(tmp_path):
    with pytest.raises(FcaError, match="no videos below"):
        found("epic-kitchens", epic(tmp_path / "a"))
    epic(tmp_path / "b", frames=3)
    table = tmp_path / "b" / "annotations" / "EPIC_100_train.csv"
    table.write_text("narration_id,video_id\nP01_01_0,P01_01\n")
    with pytest.raises(FcaError, match="has no column narration; it has narration_id, video_id"):
        found("epic-kitchens", tmp_path / "b")
    table.rename(table.with_name("EPIC_100_test_timestamps.csv"))  # has no narrations
    with pytest.raises(FcaError, match="no annotations below"):
        found("epic-kitchens", tmp_path / "b")
    rows = [(f"{video}_0", video, "cut", 0, 1, 1, 60) for video in ("P02_01", "P02_02", "P02_03", "P02_04")]
    said = r"annotations/EPIC_100_train.csv \(P02_01, P02_02, P02_03 and 1 more\) is below .*/d; the videos there are P01_01$"
    with pytest.raises(FcaError, match=f"none of the 4 videos of {said}") as error:
        found("epic-kitchens", epic(tmp_path / "d", rows, frames=3))
    assert "the annotations of P01_01" in error.value.hint
    epic(tmp_path / "c", tar=3)
    tar = tmp_path / "c" / "EPIC-KITCHENS" / "P01" / "rgb_frames" / "P01_01.tar"
    tar.write_bytes(b"\x1f\x8b" + tar.read_bytes())
    with pytest.raises(FcaError, match=r"cannot read .*P01_01\.tar"):
        found("epic-kitchens", tmp_path / "c")


def test_links_and_huge_members_of_a_tar_are_no_frames(tmp_path):
    epic(tmp_path, frames=1)
    shutil.rmtree(tmp_path / "EPIC-KITCHENS")
    link = tarfile.TarInfo("frame_0000000060.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    write_tar(tmp_path / "P01_01.tar", [link, ("/../../frame_0000000061.jpg", jpeg(numbered(1)[0]))])
    records, _ = found("epic-kitchens", tmp_path)
    assert [len(record.source.places) for record in records] == [1, 0]  # by its number, whatever the path before it
    assert decoded(records[0])[2] == "59 of its 60 frames are not there"


def real(root, table, name):
    shutil.copy(fixture(f"epic_kitchens/annotations/{table}"), root / name)
    return root


def test_real_frames_and_annotations(tmp_path):
    real(tmp_path, "EPIC_100_uda_target_val_P28_101.csv", "EPIC_100_validation.csv")
    (tmp_path / "EPIC-KITCHENS").symlink_to(fixture("epic_kitchens/EPIC-KITCHENS") / "P28" / "rgb_frames")
    shutil.copytree(fixture("epic_kitchens/EPIC-KITCHENS"), tmp_path / "frames")
    records, notes = found("epic-kitchens", tmp_path)
    assert len(records) == 120 and notes == []
    assert [(record.id, record.text, record.split, record.claimed) for record in records[:2]] == [
        ("P28_101_0", "open cupboard", "val", 55),
        ("P28_101_1", "take bread", "val", 129),
    ]
    with pytest.raises(Unreadable, match="none of the 55 frames 119-173 is there"):
        list(records[0].source.frames(Track()))
    # the sample holds every fifth frame from 80 to 115
    write_epic_table(tmp_path / "EPIC_100_train.csv", [("x", "P28_101", "wait", 1.6, 2.3, 80, 115)])
    frames, _, problem = decoded(found("epic-kitchens", tmp_path)[0][0])
    assert frames.shape == (8, 256, 456, 3) and problem == "28 of the 36 frames 80-115 are not there"


def test_real_tables_of_both_releases(tmp_path):
    real(tmp_path, "EPIC_55_train_action_labels.csv", "EPIC_train_action_labels.csv")
    real(tmp_path, "EPIC_100_validation.csv", "EPIC_100_validation.csv")
    write_video(tmp_path / "videos" / "P01_01.MP4", moving_square(8, width=32, height=32), fps=2)
    write_video(tmp_path / "videos" / "P01_11.MP4", moving_square(8, width=32, height=32), fps=2)
    records, notes = found("epic-kitchens", tmp_path)
    first = next(record for record in records if record.split == "val")
    assert (records[0].id, records[0].text, records[0].split) == ("P01_01_0", "open door", "train")
    assert (first.id, first.text) == ("P01_11_0", "take plate")
    assert sum(record.split == "train" for record in records) == 100
    assert [(s.start, s.stop) for s in (records[0].source.span, first.source.span)] == [(0.14, 3.37), (0.0, 1.89)]
    assert decoded(records[0])[1] == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
    assert (len(notes) == 1 and notes[0].endswith("videos that are not there, e.g. P02_12")) or "of 9,768 actions" in notes[0]
