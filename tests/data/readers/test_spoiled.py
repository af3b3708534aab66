"""Spoiled copies of every layout, made with a fixed seed: readers say what is wrong in an FcaError or leave it out, fast."""

import json
import shutil
import time
from random import Random

import pytest
from raw_videos import moving_square
from test_epic_kitchens import epic
from test_ssv2_archives import archive, clips
from test_ucf101 import CLIPS, ucf
from twins import episode, found, write_lerobot_2, write_lerobot_3, write_pictures, write_tfrecord, write_trajectory

from fcacli.data.decode import Track
from fcacli.errors import FcaError

CASES = 40
"""Of each layout."""


def bridge_rlds(root):
    write_tfrecord(root / "bridge_dataset-train.tfrecord-00000-of-00001", [episode("lift", 2), episode("drop", 2)])


def bridge_raw(root):
    write_trajectory(root / "task" / "raw" / "traj_group0" / "traj0", 2, "lift\nconfidence 1")


def bridge_seer(root):
    write_pictures(root / "rawframes" / "task" / "0", moving_square(2), "img_{:05d}.jpg", 1)
    (root / "path_id_bridgedata.txt").write_text(json.dumps(["task/0", "task/1"]))


def parts(root):
    archive(root, clips(root.parent / "made", "2", "77"), wrapped=(1,))


LAYOUTS = {
    "bridge_rlds": ("bridge", bridge_rlds, "*tfrecord*"),
    "bridge_raw": ("bridge", bridge_raw, "lang.txt"),
    "bridge_seer": ("bridge", bridge_seer, "*.txt"),
    "epic_table": ("epic-kitchens", lambda root: epic(root, [("n", "P01_01", "cut", 0.1, 0.2, 1, 2)] * 3, frames=2), "*.csv"),
    "epic_tar": ("epic-kitchens", lambda root: epic(root, tar=60), "*.tar"),
    "ucf_lists": ("ucf101", lambda root: ucf(root, CLIPS[:1]), "*01.txt"),
    "ucf_video": ("ucf101", lambda root: ucf(root, CLIPS[:1]), "*.avi"),
    "lerobot_2": ("lerobot", lambda root: write_lerobot_2(root, [(["lift"], 4, 4)] * 3), "*.json*"),
    "lerobot_3": ("lerobot", lambda root: write_lerobot_3(root, [4, 4]), "*.parquet"),
    "lerobot_3_video": ("lerobot", lambda root: write_lerobot_3(root, [4, 4]), "*.mp4"),
    "ssv2_parts": ("ssv2", parts, "20bn*"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    root = tmp_path_factory.mktemp("sound")
    for name, (_, write, _) in LAYOUTS.items():
        (root / name).mkdir()
        write(root / name / "raw")
    return root


def spoil(data, random):
    """Cut, overwrite, turn bits, repeat or insert."""
    data = bytearray(data)
    for _ in range(random.choice([1, 1, 3])):
        place, size = random.randrange(len(data)), random.choice([1, 4, 50])
        kind = random.randrange(6)
        if kind == 0:
            del data[place + 1 :]
        elif kind == 1:
            data[place : place + size] = random.randbytes(size)
        elif kind == 2:
            data[place] ^= 1 << random.randrange(8)
        elif kind == 3:
            data[place:place] = data[max(0, place - 100) : place]
        elif kind == 4:
            data[place : place + size] = random.choice([b"\xff", b"\x00", b"9", b'"', b"../", b"\xed\xa0\x80"]) * size
        else:
            del data[place : place + size]
        if not data:
            break
    return bytes(data)


@pytest.mark.parametrize("name", LAYOUTS)
def test_spoiled_files_are_said_or_left_out(tmp_path, sound, name):
    reader, _, pattern = LAYOUTS[name]
    random = Random(name)
    outcomes = set()
    for case in range(CASES):
        root = tmp_path / str(case)
        shutil.copytree(sound / name / "raw", root)
        path = random.choice(sorted(root.rglob(pattern)))
        path.write_bytes(spoil(path.read_bytes(), random))
        start = time.perf_counter()
        try:
            records, notes = found(reader, root)
            for record in records:
                record.text.encode()
                for _ in record.source.frames(Track()):
                    pass
            outcomes.add("noted" if notes else "read")
        except FcaError as error:
            assert len(error.message) < 2000, (case, path)
            outcomes.add("refused")
        except Exception as error:
            raise AssertionError(f"case {case} of {name}, {path.name}: {error!r}") from error
        assert time.perf_counter() - start < 10, (case, path)
        shutil.rmtree(root)
    assert len(outcomes) > 1  # it matters that the files were spoiled
