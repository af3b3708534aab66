"""BridgeData: raw trees, RLDS, NumPy behind a switch, and Seer's layout."""

import json
import os

import numpy as np
import pytest
from fixtures_path import fixture
from raw_videos import moving_square
from twins import decoded, episode, facts, found, write_pictures, write_tfrecord, write_trajectory

from fcacli.data.readers.bridge import task_words
from fcacli.errors import FcaError

DATED = "toykitchen2/put_pot_in_sink/00/2022-01-01_00-00-00/raw"


def test_raw_tree_at_any_depth_in_natural_order(tmp_path):
    write_trajectory(tmp_path / "bridge_v2" / "rss" / DATED / "traj_group0" / "traj10", 18, "lift the pot\nconfidence: 0.9")
    write_trajectory(tmp_path / "bridge_v2" / "rss" / DATED / "traj_group0" / "traj2", 17)
    (tmp_path / "bridge_v2" / "rss" / DATED / "lmdb" / "traj_group0" / "traj0" / "images0").mkdir(parents=True)
    records, notes = found("bridge", tmp_path)
    prefix = f"bridge_v2/rss/{DATED}/traj_group0"
    assert [facts(record) for record in records] == [
        (f"{prefix}/traj2", "put pot in sink", "train", 17, ""),  # without lang.txt the task's folder
        (f"{prefix}/traj10", "lift the pot", "train", 18, ""),
    ]
    assert notes == []
    assert decoded(records[1])[1][:3] == [0.0, 0.2, 0.4]  # 5 frames a second
    assert not list(tmp_path.rglob("pwned"))


def test_pictures_follow_by_number_not_by_name(tmp_path):
    folder = write_trajectory(tmp_path / "task" / "raw" / "traj_group0" / "traj0", 1)
    write_pictures(folder / "images0", np.stack([np.full((48, 64, 3), 20 * n, np.uint8) for n in range(12)]), "im_{}.jpg")
    (record,), _ = found("bridge", tmp_path)
    assert [round(float(frame.mean())) for frame in decoded(record)[0]] == [20 * n for n in range(12)]


@pytest.mark.parametrize(
    ("lang", "text"),
    [
        ("confidence: 1\n  put it \n down", "put it"),
        ("Confidence: 0.3\n", "flip pot"),  # the task's folder
        ("", "flip pot"),
        ("confidence: 1\nMove with confidence to the left\n", "Move with confidence to the left"),
        ("\n\nlift  the   pot\nanother one\n", "lift the pot"),
    ],
)
def test_instruction_is_the_first_line_that_is_no_confidence_else_the_task(tmp_path, lang, text):
    write_trajectory(tmp_path / "flip_pot" / "raw" / "traj_group0" / "traj0", 2, lang)
    assert [record.text for record in found("bridge", tmp_path)[0]] == [text]


def test_task_words_are_seers():
    assert task_words("flip_pot_upright_in_sink_distractors") == "flip pot upright in sink"
    assert task_words("put_knife_on_cutting-board") == "put knife on cutting board"


def test_another_camera_and_a_missing_one(tmp_path):
    write_trajectory(tmp_path / "a" / "raw" / "traj_group0" / "traj0", 2, cameras=2)
    write_trajectory(tmp_path / "a" / "raw" / "traj_group0" / "traj1", 2)
    records, notes = found("bridge", tmp_path, camera="images1")
    assert [record.source.path.name for record in records] == ["images1"]
    assert notes == ["1 of 2 trajectories have no images1"]
    with pytest.raises(FcaError, match=r"no trajectory below .* has images4 \(there: images0, images1\)"):
        found("bridge", tmp_path, camera="4")
    with pytest.raises(FcaError, match="no camera 'left'"):
        found("bridge", tmp_path, camera="left")


def shards(root, train, val=()):
    write_tfrecord(root / "bridge_dataset" / "1.0.0" / "bridge_dataset-train.tfrecord-00000-of-00002", train[:1])
    write_tfrecord(root / "bridge_dataset" / "1.0.0" / "bridge_dataset-train.tfrecord-00001-of-00002", train[1:])
    return write_tfrecord(root / "bridge_dataset" / "1.0.0" / "bridge_dataset-val.tfrecord-00000-of-00001", val)


def test_rlds_without_tensorflow(tmp_path):
    shards(tmp_path, [episode("lift pot", 10), episode("", 7, seed=1)], [episode("drop\u00a0cup \u00e9", 5, seed=2)])
    records, notes = found("bridge", tmp_path)
    assert [facts(record) for record in records] == [
        ("train-00000-0", "lift pot", "train", 10, ""),
        ("train-00001-0", "", "train", 7, ""),  # instructions can be empty
        ("val-00000-0", "drop cup \u00e9", "val", 5, ""),
    ]
    assert notes == []
    frames, times, _ = decoded(records[0])
    assert np.abs(frames.astype(int) - moving_square(10)).mean() < 2 and times[1] == 0.2


def test_rlds_absent_camera_is_black(tmp_path):
    shards(tmp_path, [episode("lift pot", black=True)])
    (record,), _ = found("bridge", tmp_path, camera="image_1")
    assert decoded(record)[0].max() == 0
    with pytest.raises(FcaError, match=r"has image_2 \(there: image_0, image_1\)"):
        found("bridge", tmp_path, camera="2")


@pytest.mark.parametrize("share", [0.45, 0.999])
def test_rlds_cut_short_keeps_what_is_before(tmp_path, share):
    path = shards(tmp_path, [episode("a")], [episode("b"), episode("c")])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    records, notes = found("bridge", tmp_path)
    assert [record.text for record in records] == ["a", *"b"[: int(share > 0.5)]]
    assert len(notes) == 1 and f"is truncated after {len(records) - 1} records" in notes[0]


def test_rlds_damage_is_said(tmp_path):
    path = shards(tmp_path, [episode("a")], [episode("b")])
    data = bytearray(path.read_bytes())
    data[1] ^= 1
    path.write_bytes(data)
    assert "a length does not fit its check sum" in found("bridge", tmp_path)[1][0]
    write_tfrecord(path, [b"\xff" * 40])
    assert "record 1 holds no tf.train.Example" in found("bridge", tmp_path)[1][0]


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def write_numpy(root, trajectories, folder="put_cup_on_plate/00/train"):
    path = root / folder / "out.npy"
    path.parent.mkdir(parents=True)
    array = np.empty(len(trajectories), dtype=object)
    array[:] = trajectories
    np.save(path, array, allow_pickle=True)


def test_pickles_are_never_loaded_unasked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_numpy(tmp_path / "raw", [Bomb()])
    with pytest.raises(FcaError, match="pickles and can run any program") as error:
        found("bridge", tmp_path / "raw")
    assert "--trust-pickle" in error.value.hint and not (tmp_path / "pwned").exists()


def test_numpy_where_pickles_are_trusted(tmp_path):
    video = moving_square(9)
    steps = [{"images0": picture, "state": np.zeros(7)} for picture in video]
    write_numpy(tmp_path, [{"observations": steps, "actions": [0] * 9}, {"observations": []}])
    write_numpy(tmp_path, [{"observations": steps, "language": ["lift cup"] * 9}], "put_cup_on_plate/00/val")
    records, notes = found("bridge", tmp_path, trust_pickle=True)
    assert [facts(record) for record in records] == [
        ("put_cup_on_plate/00/train/0", "put cup on plate", "train", 9, ""),
        ("put_cup_on_plate/00/val/0", "lift cup", "val", 9, ""),
    ]
    assert np.array_equal(decoded(records[0])[0], video)
    assert "trajectory 1: no observations with images0" in notes[0]


def seer(root, ids):
    for id in ids:
        write_pictures(root / "rawframes" / id, moving_square(3), "img_{:05d}.jpg", first=1)
    return root


def test_seers_layout_and_list(tmp_path):
    ids = [f"put-cup_on_plate_distractors/{n}" for n in range(10)]
    seer(tmp_path, ids[1:])
    with pytest.raises(FcaError, match=r"path_id_bridgedata\.txt is not there"):
        found("bridge", tmp_path, protocol="seer")
    (tmp_path / "path_id_bridgedata.txt").write_text(json.dumps(ids))
    records, notes = found("bridge", tmp_path, protocol="seer")
    assert [(record.id, record.text) for record in records] == [(id, "put cup on plate") for id in ids[1:]]
    assert [record.split for record in records] == ["train"] * 7 + ["val"] * 2  # 80 % of the list, not of what is there
    assert notes == ["1 of 10 clips of path_id_bridgedata.txt are not there"]


def test_seers_list_leads_nowhere_else(tmp_path):
    seer(tmp_path, ["a/1"])
    (tmp_path / "path_id_bridgedata.txt").write_text('["../../etc/1"]')
    with pytest.raises(FcaError, match="should be a list of names"):
        found("bridge", tmp_path)


def test_nothing_of_bridge_is_one_clear_error(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(FcaError, match="no trajectories below"):
        found("bridge", tmp_path)


def test_real_rlds():
    records, notes = found("bridge", fixture("bridge"))
    assert [sum(record.split == split for record in records) for split in ("train", "val")] == [25, 25] and notes == []
    assert facts(records[0]) == ("train-00000-0", "put cup from counter or drying rack into sink", "train", 10, "")
    assert decoded(records[0])[0].shape == (10, 64, 64, 3)
    assert {len(record.source.places) for record in records} == {10}


def test_real_rlds_absent_camera_is_black():
    records, _ = found("bridge", fixture("bridge"), camera="3")
    assert [decoded(record)[0].max() for record in records] == [0] * 50
