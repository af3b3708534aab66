import json
import time

import pytest
from fixtures_path import fixture

from fcacli.data.decode import Track
from fcacli.data.readers import read
from fcacli.errors import FcaError, Misuse


def layout(root, train=(), validation=(), test=(), videos=(), prefix="labels/", folder="20bn-something-something-v2"):
    for name, rows in (("train", train), ("validation", validation), ("test", test)):
        if rows:
            path = root / f"{prefix}{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps([{"id": id, **({"label": text} if text else {})} for id, text in rows]))
    for id in videos:
        path = root / folder / f"{id}.webm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def records(root):
    notes = []
    return [(r.id, r.text, r.split, r.source.path.name) for r in read("ssv2", root, notes.append)], notes


BOTH = {"train": [("2", "pushing cup"), ("4", "lifting box ")], "validation": [("74225", "spinning cube")]}
CLIPS = [
    ("2", "pushing cup", "train", "2.webm"),
    ("4", "lifting box", "train", "4.webm"),
    ("74225", "spinning cube", "val", "74225.webm"),
]


@pytest.mark.parametrize("prefix", ["labels/", "", "labels/something-something-v2-", "a/b/", "something-something-v2-"])
@pytest.mark.parametrize("folder", ["20bn-something-something-v2", ".", "deep/down/20bn-something-something-v2"])
def test_both_namings_anywhere_below(tmp_path, prefix, folder):
    layout(tmp_path, **BOTH, videos=["2", "4", "74225"], prefix=prefix, folder=folder)
    assert records(tmp_path) == (CLIPS, [])


def test_a_folder_may_hold_videos_of_both_kinds(tmp_path):
    layout(tmp_path, **BOTH, videos=["2", "74225"])
    folder = tmp_path / "20bn-something-something-v2"
    for name in ("4.mp4", "2.mp4"):
        (folder / name).touch()
    assert [name for *_, name in records(tmp_path)[0]] == ["2.webm", "4.mp4", "74225.webm"]


def test_what_is_missing_or_left_over_is_one_line(tmp_path):
    layout(tmp_path, **BOTH, test=[("9", None), ("10", None)], videos=["4", "74225", "5", "6", "9"])
    found, notes = records(tmp_path)
    assert found == CLIPS[1:]
    assert notes == ["labels list 5 clips: 2 have no video here, 2 have no prompt, 2 videos have no label"]


def test_a_clip_in_train_and_validation_is_not_trained_on(tmp_path):
    layout(tmp_path, train=[("1", "a"), ("2", "b"), ("2", "b")], validation=[("1", "a")], videos=["1", "2"])
    found, notes = records(tmp_path)
    assert [(id, split) for id, _, split, _ in found] == [("2", "train"), ("1", "val")]
    assert "1 are in train and held out too" in notes[0]


def test_folders_of_frames_where_there_is_no_webm(tmp_path):
    layout(tmp_path, **BOTH, videos=["2"])
    for id in ("2", "4"):
        (tmp_path / "rawframes" / id).mkdir(parents=True)
    (tmp_path / "74225").mkdir()
    assert [name for *_, name in records(tmp_path)[0]] == ["2.webm", "4", "74225"]
    assert [r.source.fps for r in read("ssv2", tmp_path, print) if r.id == "4"] == [12]


def test_ids_may_be_numbers(tmp_path):
    layout(tmp_path, train=[(2, "pushing cup")], videos=["2"])
    assert records(tmp_path)[0] == CLIPS[:1]


def broken_labels(root, text):
    (root / "labels").mkdir()
    (root / "labels" / "train.json").write_text(text)
    layout(root, videos=["1"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "train.json is not valid JSON"),
        ("[{}", "train.json is not valid JSON"),
        ("[{}] x", "train.json is not valid JSON"),
        ("", "train.json is not valid JSON"),
        ('{"1": "a"}', "train.json should hold a list, found an object"),
        ("[1]", "train.json row 1 should be an object"),
        ('[{"label": "a"}]', "row 1: id should be text or a number, found nothing"),
        ('[{"id": null, "label": "a"}]', "row 1: id should be text or a number, found null"),
        ('[{"id": "1", "label": ["a"]}]', "row 1: label should be text, found a list"),
    ],
)
def test_broken_labels_name_file_and_row(tmp_path, text, message):
    broken_labels(tmp_path, text)
    with pytest.raises(FcaError, match=message):
        records(tmp_path)


def test_each_missing_thing_is_one_clear_error(tmp_path):
    empty, file, unlabelled, unfilled, strangers = (tmp_path / str(n) for n in range(5))
    empty.mkdir()
    file.touch()
    layout(unlabelled, videos=["1"])
    layout(unfilled, **BOTH)
    layout(strangers, **BOTH, videos=["99"])
    for root, message in [
        (tmp_path / "nowhere", "does not exist"),
        (empty, "is empty"),
        (file, "is not a folder"),
        (unlabelled, "no labels below"),
        (unfilled, "no clips below"),
        (strangers, "no video below .* has a label"),
    ]:
        with pytest.raises(FcaError, match=message):
            records(root)


def test_unknown_reader_names_the_known_ones(tmp_path):
    with pytest.raises(Misuse, match="known: ssv2, bridge, epic-kitchens, ucf101, lerobot, folder"):
        read("webvid", tmp_path, print)


def test_real_subset():
    start = time.perf_counter()
    found, notes = records(fixture("ssv2"))
    assert time.perf_counter() - start < 3  # 24,777 rows
    assert found == [
        ("57082", "dropping comb into small box", "train", "57082.webm"),
        ("2", "pretending to pick a pillow up", "train", "2.webm"),
        ("13201", "pretending to sprinkle air onto motorcycle seat", "train", "13201.webm"),
        ("166766", "poking green frog doll so that it falls over", "val", "166766.webm"),
    ]
    assert notes == ["labels list 25,377 clips: 25,373 have no video here, 200 have no prompt, 8 videos have no label"]


def test_real_folder_of_frames(tmp_path):
    (tmp_path / "rawframes").symlink_to(fixture("ssv2/rawframes"))
    (tmp_path / "labels").symlink_to(fixture("ssv2/labels"))
    notes = []
    (record,) = read("ssv2", tmp_path, notes.append)
    track = Track()
    frames = list(record.source.frames(track))
    assert (record.id, record.text, record.split) == ("2", "pretending to pick a pillow up", "train")
    assert (len(frames), frames[0].shape, track.problem) == (48, (240, 427, 3), "")
    assert track.times[-1] == pytest.approx(47 / 12)
