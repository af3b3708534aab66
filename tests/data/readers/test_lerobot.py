"""LeRobot 2.0, 2.1 and 3.0, and what real sets get wrong."""

import json
import shutil

import numpy as np
import pytest
from fixtures_path import fixture
from raw_videos import moving_square, write_video
from twins import decoded, facts, found, write_avi, write_lerobot_2, write_lerobot_3

from fcacli.errors import FcaError

TOP, FRONT = "observation.images.top", "observation.images.front"
EPISODES = [(["lift box", "valid"], 12, 12), (["valid"], 9, 9), (["valid", " drop  box "], 7, 7), (["x"], 5, 0)]


@pytest.mark.parametrize("version", ["v2.0", "v2.1"])
def test_version_2_has_a_video_for_each_episode(tmp_path, version):
    records, notes = found("lerobot", write_lerobot_2(tmp_path, EPISODES, version=version))
    assert [facts(record) for record in records] == [
        ("episode_000000", "lift box", "train", 12, ""),
        ("episode_000001", "", "train", 9, ""),  # only the filler "valid"
        ("episode_000002", "drop box", "train", 7, ""),
    ]
    assert [record.claimed for record in records] == [12, 9, 7]
    assert len(notes) == 1 and notes[0].startswith(f"1 of 4 episodes have no video of {TOP} here, e.g. ")
    assert notes[0].endswith("episode_000003.mp4")


def test_version_3_has_many_episodes_in_one_file(tmp_path):
    records, notes = found("lerobot", write_lerobot_3(tmp_path, [12, 9, 20]))
    assert notes == []
    assert [facts(record) for record in records] == [
        ("episode_000000", "lift box 0", "train", 12, ""),
        ("episode_000001", "lift box 1", "train", 9, ""),
        ("episode_000002", "lift box 2", "train", 20, ""),
    ]
    # to_timestamp is one frame short: the last frame of each episode is there, and none of the next one's
    for start, episode, record in zip((0, 12, 21), range(3), records, strict=True):
        frames, times, _ = decoded(record)
        assert np.abs(frames[:, 8:].mean((1, 2, 3)) - (40 + 30 * episode)).max() < 2
        assert np.abs(frames[:, :3].mean((1, 2, 3)) - np.arange(start, start + len(frames))).max() < 2
        assert times == pytest.approx([(start + n) / 10 for n in range(len(frames))], abs=1e-3)


def test_version_3_file_that_is_one_frame_short(tmp_path):
    records, _ = found("lerobot", write_lerobot_3(tmp_path, [12, 9], missing=1))
    assert facts(records[0])[3:] == (12, "")
    assert facts(records[1])[3:] == (8, "8 of 9 frames are there: the video ends at 2.00 s")
    assert records[1].source.label(tmp_path) == f"videos/{TOP}/chunk-000/file-000.mp4#1.200+9"


def test_float32_times_do_not_lose_a_frame(tmp_path):
    records, _ = found("lerobot", write_lerobot_3(tmp_path, [11, 12, 13], fps=30))
    path = tmp_path / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    import pyarrow
    from pyarrow import parquet

    rows = parquet.read_table(path).to_pylist()
    name = f"videos/{TOP}/from_timestamp"
    for row, error in zip(rows, (0, 4e-3, -4e-3), strict=True):  # seconds
        row[name] = float(np.float32(row[name])) + error
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    moved, _ = found("lerobot", tmp_path)
    for record, other in zip(records, moved, strict=True):
        assert np.array_equal(decoded(record)[0], decoded(other)[0])


def test_cameras(tmp_path):
    write_lerobot_2(tmp_path, EPISODES[:2], cameras=[FRONT, TOP, "observation.images.wrist"])
    records, notes = found("lerobot", tmp_path)  # the declared first camera is absent on the disk
    assert len(records) == 2
    assert notes == [f"declared in meta/info.json, but without videos: {FRONT}, observation.images.wrist"]
    with pytest.raises(FcaError, match=f"camera {FRONT} is declared in meta/info.json but has no videos .there: {TOP}."):
        found("lerobot", tmp_path, camera="front")
    with pytest.raises(FcaError, match="there is no camera 'left'") as error:
        found("lerobot", tmp_path, camera="left")
    assert error.value.hint == f"--camera {TOP}"
    write_video(tmp_path / "videos" / "chunk-000" / FRONT / "episode_000001.mp4", moving_square(9), fps=10)
    records, notes = found("lerobot", tmp_path, camera="top")
    assert len(records) == 2 and notes == []
    records, notes = found("lerobot", tmp_path)
    assert [record.id for record in records] == ["episode_000001"] and notes[1] == (
        f"of the cameras {FRONT}, {TOP}, {FRONT} is taken; --camera takes another one"
    )


def test_what_info_json_says_of_a_video_is_compared_not_believed(tmp_path):
    write_lerobot_2(tmp_path / "a", [(["x"], 6, 6)], shape=(3, 48, 64))  # channels first is no fault
    assert found("lerobot", tmp_path / "a")[1] == []
    write_lerobot_2(tmp_path / "b", [(["x"], 6, 6)], shape=(480, 640, 3))
    write_avi(tmp_path / "b" / "x.mp4", moving_square(6))  # MPEG-4, declared as h264
    shutil.move(tmp_path / "b" / "x.mp4", tmp_path / "b" / "videos" / "chunk-000" / TOP / "episode_000000.mp4")
    (record,), notes = found("lerobot", tmp_path / "b")
    assert notes == [
        f"meta/info.json is wrong about {TOP}: shape [480, 640, 3], the video has 48 x 64; codec h264, the video is mpeg4."
        " The video counts"
    ]
    assert len(decoded(record)[0]) == 6


def test_declared_splits(tmp_path):
    write_lerobot_2(tmp_path, EPISODES[:3], splits={"train": "0:1", "val": "1:2", "test": "2:9", "x": "0:9"})
    assert [record.split for record in found("lerobot", tmp_path)[0]] == ["train", "val", "test"]


def test_paths_in_info_json_are_not_followed(tmp_path):
    write_lerobot_2(tmp_path, EPISODES[:1], video_path="/etc/{video_key}/{episode_index.__class__}")
    assert len(found("lerobot", tmp_path)[0]) == 1
    write_lerobot_2(tmp_path / "b", EPISODES[:1], cameras=["../../x", TOP])
    assert found("lerobot", tmp_path / "b")[1] == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "episodes.jsonl line 1 is not valid JSON"),
        ("[]", "line 1: episode_index and length should be numbers, found None and None"),
        ('{"episode_index": "../1", "length": 3, "tasks": []}', "found '../1' and 3"),
        ('{"episode_index": 0, "length": 0, "tasks": []}', "found 0 and 0"),
        ('{"episode_index": 0, "length": 12, "tasks": [1]}', "tasks should be a list of texts"),
    ],
)
def test_a_broken_row_is_left_out_and_said(tmp_path, line, message):
    write_lerobot_2(tmp_path, EPISODES[:2])
    path = tmp_path / "meta" / "episodes.jsonl"
    rows = path.read_text().splitlines()
    path.write_text("\n".join([line, *rows[1:]]))
    records, notes = found("lerobot", tmp_path)
    assert [record.id for record in records] == ["episode_000001"] and message in notes[0]


def test_each_missing_thing_is_one_clear_error(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(FcaError, match=r"info\.json is not there: this is no LeRobot dataset"):
        found("lerobot", tmp_path)
    with pytest.raises(FcaError, match=r"codebase_version is 'v1\.6', known are v2\.0, v2\.1, v3\.0"):
        found("lerobot", write_lerobot_2(tmp_path / "b", EPISODES, version="v1.6"))
    with pytest.raises(FcaError, match="declares no video"):
        found("lerobot", write_lerobot_2(tmp_path / "c", EPISODES, cameras=[]))
    shutil.rmtree(write_lerobot_3(tmp_path / "d", [3]) / "videos")
    with pytest.raises(FcaError, match=f"holds no video of {TOP}"):
        found("lerobot", tmp_path / "d")
    shutil.rmtree(write_lerobot_3(tmp_path / "e", [3]) / "meta" / "episodes")
    with pytest.raises(FcaError, match=r"holds no chunk-\*/file-\*\.parquet"):
        found("lerobot", tmp_path / "e")


def test_real_version_2_0():
    records, notes = found("lerobot", fixture("lerobot/v2.0_gr00t"))
    assert [facts(record) for record in records] == [
        ("episode_000001", "pick the sweet potato from the counter and place it in the plate", "train", 470, ""),
        ("episode_000004", "pick the cupcake from the counter and place it in the plate", "train", 328, ""),
    ]
    assert decoded(records[1])[1][:3] == pytest.approx([0.0, 0.05, 0.1])
    assert notes[0] == "declared in meta/info.json, but without videos: observation.images.egoview"
    assert notes[1].startswith("3 of 5 episodes have no video of observation.images.ego_view here")


def test_real_missing_camera():
    with pytest.raises(FcaError, match=r"egoview is declared in meta/info\.json but has no videos") as error:
        found("lerobot", fixture("lerobot/v2.0_gr00t"), camera="egoview")
    assert error.value.hint == "--camera observation.images.ego_view"


def test_real_version_2_1_in_av1():
    records, notes = found("lerobot", fixture("lerobot/v2.1_g1"))
    assert [facts(record) for record in records] == [
        ("episode_000029", "Pick up the yellow bottle on the table.", "train", 221, "")
    ]
    frames, times, _ = decoded(records[0])
    assert frames.shape == (221, 480, 640, 3) and times[-1] == pytest.approx(220 / 30, abs=1e-3)
    assert len(notes) == 1 and notes[0].startswith("99 of 100 episodes")


def test_real_version_3_0_without_its_videos_and_with_a_stand_in(tmp_path):
    real = fixture("lerobot/v3.0_recordtest_novideo")
    with pytest.raises(FcaError, match=r"holds no video of observation\.images\.front, observation\.images\.top"):
        found("lerobot", real)
    shutil.copytree(real / "meta", tmp_path / "meta")
    length = json.loads((real / "meta" / "info.json").read_text())["total_frames"]
    stand_in = np.zeros((length, 32, 32, 3), np.uint8)
    for number, (start, stop) in enumerate([(0, 373), (373, 747), (747, 1119), (1119, 1492)]):
        stand_in[start:stop] = 50 * (number + 1)
    write_video(tmp_path / "videos" / FRONT / "chunk-000" / "file-000.mp4", stand_in, fps=30)
    records, notes = found("lerobot", tmp_path)
    text = "Pick the orange cube and place it in the box"
    assert [facts(record) for record in records] == [
        (f"episode_{n:06}", text, "train", length, "") for n, length in enumerate([373, 374, 372, 373])
    ]
    for number, record in enumerate(records):
        means = decoded(record)[0].mean((1, 2, 3))
        assert np.abs(means - 50 * (number + 1)).max() < 2
    assert notes[0] == f"declared in meta/info.json, but without videos: {TOP}"
    assert "codec av1, the video is h264" in notes[1]
