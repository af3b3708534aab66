import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from fcacli.data.manifest import Clip, read_split, write_split
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


def test_rows_are_read_when_asked_for_and_in_any_order(dataset):
    clips = [dataclasses.replace(CLIP, file_name=f"videos/{n}.mp4", text=f"ä {n}") for n in range(9)]
    write_split(dataset, "val", clips)
    path = dataset / "val" / "metadata.jsonl"
    path.write_text(path.read_text().replace("\n", "\n\n", 3))  # blank lines are none
    rows = read_split(dataset, "val", lambda clip: clip.id != "4")
    assert list(rows) == clips[:4] + clips[5:] and rows[-1] == clips[8] and rows[4] == clips[5]
    assert list(rows[2:4]) == clips[2:4] and list(rows[np.array([7, 0])]) == [clips[8], clips[0]]
    assert [(a.id, b.id) for a, b in zip(rows, rows, strict=True)][5] == ("6", "6")
    with pytest.raises(IndexError):
        rows[8]
    path.unlink()
    with pytest.raises(FcaError, match=r"cannot read .*metadata.jsonl: .*No such file"):
        rows[0]


PEAK = """
import resource, sys
from pathlib import Path
from fcacli.data.manifest import Clip, read_split, write_split
count, dataset = int(sys.argv[1]), Path(sys.argv[2])
def clip(n):
    return Clip(f"videos/{n}.mp4", f"caption {n}", f"{n}.webm", 40, 427, 240, [i / 12 for i in range(40)], f"{n:064x}")
(dataset / "dataset.json").write_text("{}")
write_split(dataset, "train", map(clip, range(count)))
rows = read_split(dataset, "train")
assert len(rows) == count and sum(1 for _ in rows) == count and rows[count - 1].frames == 40
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_records(tmp_path):
    peaks = []
    for count in (300, 30_000):
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(count), str(tmp_path)], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout))
    assert peaks[1] < 1.1 * peaks[0], peaks
