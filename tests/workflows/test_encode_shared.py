"""Claims about encoding by several processes: file for file what one leaves; what one of them dies of costs only its batch."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from raw_videos import write_prepared

from fcacli.config import ClipConfig
from fcacli.errors import FcaError
from fcacli.events import Message, Progress
from fcacli.model.bases import load_base, resolve_base
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.training.team import ALONE
from fcacli.workflows.encode import batches
from fcacli.workflows.encode.encode import choose_clips, encode

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from several import run_ranks

CLIP = ClipConfig(frames=16, init_frames=2, width=32, height=32, fps=8)
CLIPS = {
    "train": [(f"t{n}", f"pushing cup {n}", 16 + n) for n in range(7)],
    "val": [("w8", "pushing cup 0", 18), ("w9", "lifting box", 18)],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    write_prepared(root, CLIPS)
    (root / "train" / "videos" / "t2.mp4").unlink()
    return root


@pytest.fixture
def dataset(made, tmp_path):
    """`dataset(name)`: a copy in a folder of its own."""
    return lambda name: Path(shutil.copytree(made, tmp_path / name / "made"))


@pytest.fixture
def encoded(tiny_base_folder, monkeypatch):
    """`encoded(folder)(team)`: videos that this process has encoded, clips left out, what it reports."""
    count = []
    inner = CogVideoX.encode_video
    monkeypatch.setattr(CogVideoX, "encode_video", lambda self, frames: count.append(len(frames)) or inner(self, frames))

    def by(folder):
        def work(team):
            said = []
            base = load_base(resolve_base(str(tiny_base_folder)))
            count.clear()
            report = said.append if team.main else lambda event: None
            found = encode(base, folder, choose_clips(folder, CLIP), CLIP, report, team)
            sample = found.dataset("train")[5]
            return list(count), found.left_out, (sample["id"], float(sample["latents"].sum())), said

        return work

    return by


def files(dataset):
    return {path.relative_to(dataset): path.read_bytes() for path in (dataset / "cache").rglob("*.safetensors")}


@pytest.mark.parametrize("batch", [1, 2])
def test_processes_leave_the_files_of_one(dataset, encoded, tmp_path, monkeypatch, batch):
    monkeypatch.setitem(batches.SIZES, "cpu", {"captions": 3, "videos": batch, "images": 2})
    one, three = dataset("one"), dataset("three")
    alone = encoded(one)(ALONE)
    shared = run_ranks(3, tmp_path / "answers", encoded(three))
    assert files(one) == files(three) and len({path.parent for path in files(one)}) == 5
    assert all(part[1:3] == alone[1:3] == (["t2"], ("t6", alone[2][1])) for part in shared)
    videos = [len(part[0]) for part in shared]
    assert sum(videos) == len(alone[0]) and min(videos) >= 1
    told = [[event.text for event in said if isinstance(event, Message)] for said in (alone[3], shared[0][3])]
    assert [line.replace(str(three), str(one)) for line in told[1][1:]] == told[0][1:] and len(told[0]) == 4
    last = {event.phase: (event.done, event.total) for event in shared[0][3] if isinstance(event, Progress)}
    assert all(done == total for done, total in last.values()) and last["encode videos"] == (7, 7)


def test_what_a_process_dies_of_costs_no_more_than_what_is_in_hand(dataset, encoded, tmp_path, monkeypatch):
    one, two = dataset("one"), dataset("two")
    encoded(one)(ALONE)
    inner, died = CogVideoX.encode_video, []

    def dies(self, frames):
        died.append(1)
        if os.environ.get("RANK") == "1" and len(died) == 2:
            os._exit(9)
        return inner(self, frames)

    with monkeypatch.context() as planted:
        planted.setattr(CogVideoX, "encode_video", dies)
        ended = run_ranks(2, tmp_path / "answers", encoded(two))
    assert ended[0] == ("ProcessLost", "another process of this run has ended") and ended[1] == 9
    again = encoded(two)(ALONE)
    assert files(one) == files(two) and len(again[0]) == len(CLIPS["train"]) + len(CLIPS["val"]) - 1 - 2  # one round was kept


def test_no_room_is_said_in_all(dataset, encoded, tmp_path, monkeypatch):
    from fcacli.workflows.encode import encode as encoding

    def full(job):
        raise FcaError("there is no room")

    monkeypatch.setattr(encoding, "_prepare", full)
    assert run_ranks(2, tmp_path / "answers", encoded(dataset("two"))) == [("FcaError", "there is no room")] * 2
