import json

import pytest

from fcacli.data.manifest import Clip, file_names, read_split, write_split
from fcacli.errors import FcaError, Misuse

CLIP = Clip("videos/7.mp4", 'a "quoted"\u2028 caption: ä 日本', "raw/7.webm", 2, 64, 48, [0.0, 0.083], "ab" * 32)


@pytest.fixture
def dataset(tmp_path):
    (tmp_path / "dataset.json").write_text("{}")
    return tmp_path


def test_rows_come_back(dataset):
    write_split(dataset, "val", [CLIP, CLIP])
    assert read_split(dataset, "val") == [CLIP, CLIP]
    assert CLIP.id == "7"
    assert read_split(dataset, "train") == []


def test_columns_are_those_of_the_hugging_face_convention(dataset):
    write_split(dataset, "val", [CLIP])
    row = json.loads((dataset / "val" / "metadata.jsonl").read_text())
    assert list(row) == ["file_name", "text", "source", "frames", "width", "height", "frame_times", "content"]


def test_unprepared_folder_and_unknown_split_are_errors(tmp_path, dataset):
    with pytest.raises(FcaError, match="holds no prepared data"):
        read_split(tmp_path / "nothing", "val")
    with pytest.raises(Misuse, match="expected one of train, val, test"):
        read_split(dataset, "validation")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": "2"}, "frames should be int, found str"),
        ({"content": None}, "content should be str"),
        ({"frame_times": [0.0]}, "2 frames, 1 times"),
        ({"frame_times": ["a", "b"]}, "frame_times should be numbers"),
        ({"file_name": "../../x.mp4"}, "leaves the dataset"),
        ({"file_name": "/x.mp4"}, "leaves the dataset"),
    ],
)
def test_damaged_rows_name_file_line_and_field(dataset, change, message):
    write_split(dataset, "val", [CLIP])
    path = dataset / "val" / "metadata.jsonl"
    path.write_text(path.read_text() + json.dumps({**json.loads(path.read_text()), **change}) + "\n")
    with pytest.raises(FcaError, match=f"metadata.jsonl line 2.*{message}"):
        read_split(dataset, "val")


def test_a_line_that_is_no_json_is_named(dataset):
    (dataset / "val").mkdir()
    (dataset / "val" / "metadata.jsonl").write_text("{")
    with pytest.raises(FcaError, match="line 1 is not valid JSON"):
        read_split(dataset, "val")


def test_file_names_are_plain_short_and_unique():
    hostile = ["../../etc/passwd", "/abs", "a\\b:c", "..", "", ".hidden", "x\0y\n", "\udc80", "-rf", "ä" * 300]
    names = file_names([*hostile, "7", "7", "Cup", "cup", "cup-2"])
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        assert name and not set(name) & set("/\\:\0\n") and name[0] not in ".-" and len(name.encode()) <= 84
    assert names[10:] == ["7", "7-2", "Cup", "cup-2", "cup-2-2"]
