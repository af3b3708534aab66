"""`fca prepare READER RAW` in an empty folder, for each reader; and what it says of real broken files."""

import json
import shutil

import pytest
from fixtures_path import fixture
from raw_videos import cut, moving_square, write_ssv2, write_video
from test_epic_kitchens import epic
from test_ssv2_archives import archive, clips
from test_ucf101 import ucf
from twins import episode, write_lerobot_2, write_lerobot_3, write_pictures, write_tfrecord, write_trajectory
from typer.testing import CliRunner

from fcacli.cli.app import app
from fcacli.data.manifest import Record
from fcacli.data.readers import READERS
from fcacli.data.source import Video


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def fca(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "NO_COLOR": "1"})


def prepared(reader, raw, *options):
    """The rows of all splits as (split, prompt, frames, width, height, seconds), and the clips left out by their source."""
    from pathlib import Path

    done = fca("prepare", reader, raw, "--workers", 1, "--name", "x", *options)
    assert done.exit_code == 0, done.output
    assert done.stdout == "data/x\n"
    rows = []
    for split in ("train", "val", "test"):
        path = Path("data", "x", split, "metadata.jsonl")
        for line in path.read_text().splitlines() if path.exists() else ():
            row = json.loads(line)
            assert (path.parent / row["file_name"]).is_file()
            rows.append((split, row["text"], row["frames"], row["width"], row["height"], round(row["frame_times"][-1], 3)))
    left_out = json.loads(Path("data", "x", "skipped.json").read_text())
    return sorted(rows), {Path(clip["source"].partition("#")[0]).name: clip["reason"] for clip in left_out}


def test_ssv2(tmp_path):
    raw = write_ssv2(tmp_path / "raw", {"train": [("1", "pushing cup")], "validation": [("2", "lifting box")]})
    rows = [("train", "pushing cup", 18, 64, 48, 1.417), ("val", "lifting box", 18, 64, 48, 1.417)]
    assert prepared("ssv2", raw) == (rows, {})


def test_ssv2_from_the_downloaded_parts(tmp_path):
    raw = archive(tmp_path / "raw", clips(tmp_path, "77", "2"), wrapped=(0,))
    rows = [("train", "pushing cup", 18, 64, 48, 1.417), ("val", "dropping pen", 18, 64, 48, 1.417)]
    assert prepared("ssv2", raw) == (rows, {})


def test_an_archive_is_read_no_further_than_asked(tmp_path):
    raw = archive(tmp_path / "raw", clips(tmp_path, "2", "4", "77"))
    cut(raw / "20bn-something-something-v2-02", 0.5)
    done = fca("prepare", "ssv2", raw, "--workers", 1, "--split", "train", "--limit", 1)
    assert done.exit_code == 0 and "damaged" not in done.output
    assert "damaged" in fca("prepare", "ssv2", raw, "--workers", 1, "--split", "train").output


def test_bridge_raw(tmp_path):
    for number in (0, 1):
        folder = tmp_path / "raw" / "kitchen" / "lift_pot" / "raw" / "traj_group0" / f"traj{number}"
        write_trajectory(folder, 18 + number, seed=9 * number)
    rows, left_out = prepared("bridge", tmp_path / "raw")
    assert sorted(row[1:] for row in rows) == [("lift pot", 18, 64, 48, 3.4), ("lift pot", 19, 64, 48, 3.6)] and left_out == {}


def test_bridge_rlds(tmp_path):
    for number, split in enumerate(("train", "val")):
        name = f"bridge_dataset-{split}.tfrecord-00000-of-00001"
        write_tfrecord(tmp_path / "raw" / "1.0.0" / name, [episode(f"lift {split}", 18, seed=number)])
    rows, _ = prepared("bridge", tmp_path / "raw")
    assert rows == [("train", "lift train", 18, 64, 48, 3.4), ("val", "lift val", 18, 64, 48, 3.4)]


def test_epic_kitchens(tmp_path):
    rows, _ = prepared("epic-kitchens", epic(tmp_path / "raw", video=75))
    assert sorted(row[1:] for row in rows) == [("open door", 30, 48, 32, 0.967), ("take, plate", 23, 48, 32, 0.734)]


def test_ucf101(tmp_path):
    rows, left_out = prepared("ucf101", ucf(tmp_path / "raw"), "--fold", 2, "--frames", 8)
    assert [row[:3] for row in rows] == [
        ("train", "Apply Eye Makeup", 8),
        ("train", "Handstand Pushups", 8),
        ("val", "Yo Yo", 8),
    ]
    assert left_out == {}


def test_lerobot_2(tmp_path):
    raw = write_lerobot_2(tmp_path / "raw", [(["lift box", "valid"], 18, 18), (["valid"], 18, 18), (["drop"], 20, 17)])
    rows, left_out = prepared("lerobot", raw)
    assert sorted(row[1:] for row in rows) == [("drop", 17, 64, 48, 1.6), ("lift box", 18, 64, 48, 1.7)]
    assert list(left_out) == ["episode_000001.mp4"]


def test_lerobot_3(tmp_path):
    rows, left_out = prepared("lerobot", write_lerobot_3(tmp_path / "raw", [18, 20, 17], missing=1))
    assert sorted(row[1:] for row in rows) == [("lift box 0", 18, 64, 48, 1.7), ("lift box 1", 20, 64, 48, 1.9)]
    assert left_out == {"file-000.mp4": "16 of 17 frames are there: the video ends at 5.40 s"}


def test_folder(tmp_path):
    for name in ("train/a", "val/b"):
        write_video(tmp_path / "raw" / f"{name}.mp4", moving_square(18, seed=len(name)))
        (tmp_path / "raw" / f"{name}.txt").write_text(f"lifting {name}")
    rows = [("train", "lifting train/a", 18, 64, 48, 1.417), ("val", "lifting val/b", 18, 64, 48, 1.417)]
    assert prepared("folder", tmp_path / "raw") == (rows, {})


def test_seers_clips_prompts_and_frames(tmp_path):
    ids = [f"put_pot_in-sink_distractors/{n}" for n in range(5)]
    for number, id in enumerate(ids):
        write_pictures(tmp_path / "raw" / "rawframes" / id, moving_square(18 + number, seed=number), "img_{:05d}.jpg", 1)
    (tmp_path / "raw" / "path_id_bridgedata.txt").write_text(json.dumps(ids))
    rows, _ = prepared("bridge", tmp_path / "raw", "--protocol", "seer")
    assert [row[:5] for row in rows] == [("train", "put pot in sink", 16, 256, 256)] * 4 + [
        ("val", "put pot in sink", 16, 256, 256)
    ]


def test_a_new_reader_is_a_function_and_a_line(tmp_path, monkeypatch):
    def read(root, note):
        for path in sorted(root.glob("*.mp4")):
            yield Record(path.stem, path.stem.replace("_", " "), "train", Video(path))

    monkeypatch.setitem(READERS, "named", (read, ()))
    for number, name in enumerate(("lifting_a_cup", "dropping_a_pen")):
        write_video(tmp_path / "raw" / f"{name}.mp4", moving_square(18, seed=number))
    rows, _ = prepared("named", tmp_path / "raw")
    assert sorted(row[1:3] for row in rows) == [("dropping a pen", 18), ("lifting a cup", 18)]


def test_an_option_of_another_reader_is_misuse(tmp_path):
    raw = write_ssv2(tmp_path / "raw", {"train": [("1", "pushing cup")]})
    done = fca("prepare", "ssv2", raw, "--camera", "top")
    assert done.exit_code == 2 and "--camera is for bridge, lerobot, not for ssv2" in done.output


def test_pickles_need_the_switch(tmp_path):
    from test_bridge import Bomb, write_numpy

    write_numpy(tmp_path / "raw", [Bomb()])
    done = fca("prepare", "bridge", tmp_path / "raw")
    assert done.exit_code == 1 and "--trust-pickle" in done.output
    assert not list(tmp_path.rglob("pwned"))


def test_real_broken_files(tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(fixture("decode_edge"), raw)
    for path in list(raw.glob("*.m*")):
        path.with_suffix(".txt").write_text(f"clip {path.name}")
    rows, left_out = prepared("folder", raw, "--frames", 16)
    # test_video_66x50's header says 87 frames, 82 decode; part_0's pixels are not square
    assert sorted(row[1:5] for row in rows) == [
        ("clip av1_video.mkv", 16, 640, 360),
        ("clip flipping_a_pancake.mkv", 16, 426, 240),
        ("clip part_0.mp4", 16, 455, 256),
        ("clip test_video_66x50.mov", 16, 66, 50),
    ]
    assert left_out == {
        "corrupted.mp4": "decoding ends after 28 frames: Invalid data found when processing input",
        "video_0.mov": "fewer frames than needed: 3 of 16",
        "video_270.mov": "fewer frames than needed: 3 of 16",
    }


def test_real_rotated_file_is_stored_upright(tmp_path):
    (tmp_path / "raw").mkdir()
    shutil.copy(fixture("decode_edge/video_270.mov"), tmp_path / "raw" / "a.mov")
    (tmp_path / "raw" / "a.txt").write_text("turning")
    assert [row[1:5] for row in prepared("folder", tmp_path / "raw", "--frames", 3)[0]] == [("turning", 3, 320, 568)]


@pytest.mark.parametrize(
    ("reader", "name", "rows"),
    [
        ("ssv2", "ssv2", [("poking green frog doll so that it falls over", 49, 427, 240, 4.0)]),
        ("bridge", "bridge", [("put cup from counter or drying rack into sink", 10, 64, 64, 1.8)]),
        ("ucf101", "ucf101", [("Apply Eye Makeup", 164, 320, 240, 6.52)]),
        (
            "lerobot",
            "lerobot/v2.0_gr00t",
            [("pick the cupcake from the counter and place it in the plate", 328, 256, 256, 16.35)],
        ),
        (
            "folder",
            "video_folder/finetrainers",
            [("A hiker standing at the top of a mountain, triumphantly, high quality", 49)],
        ),
    ],
)
def test_real_samples(reader, name, rows):
    options = {"bridge": ["--limit", 1, "--frames", 10], "ssv2": ["--split", "val"], "lerobot": ["--filter", "cupcake"]}
    found, _ = prepared(reader, fixture(name), *options.get(reader, []))
    assert {row[1 : 1 + len(rows[0])] for row in found} >= set(rows)
