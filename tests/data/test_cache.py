"""Claims about the store: entries come back bit for bit, half an entry is none, and damage is missing, never a crash."""

import dataclasses
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fcacli.config import ClipConfig
from fcacli.data import cache
from fcacli.data.cache import EncodedStore, caption_key, encode_key
from fcacli.data.shard import row_bytes
from fcacli.errors import FcaError

CONFIG = ClipConfig(frames=16, init_frames=2, width=64, height=48, fps=8)
ROW = {
    "latents": (torch.bfloat16, (2, 3)),
    "text.values": (torch.int8, (5,)),
    "text.left": (torch.float16, (3,)),
    "mask": (torch.bool, (7,)),
    "scale": (torch.float32, ()),
}


def entry(number: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(number)
    return {name: (100 * torch.randn(shape, generator=generator)).to(dtype) for name, (dtype, shape) in ROW.items()}


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


KEYS = np.array([5, 2**64 - 1, 0, 77, 12], np.uint64)


@pytest.fixture
def store(tmp_path):
    store = EncodedStore(tmp_path / "cache")
    store.reserve("videos", KEYS, ROW)
    return store


def test_entries_come_back_here_and_in_another_process(store):
    store.put("videos", {int(key): entry(at) for at, key in enumerate(KEYS[:4])})
    for there in (store, EncodedStore(store.folder), pickle.loads(pickle.dumps(store))):
        for at, key in enumerate(KEYS[:4]):
            assert equal(there.get("videos", int(key)), entry(at))
        assert there.get("videos", 12) is None and not there.has("videos", 12)
        assert there.get("videos", 3) is None and there.get("captions", 5) is None


def test_missing_names_each_key_once_in_order(store):
    store.put("videos", {5: entry(0)})
    asked = np.array([9, 12, 5, 12, 8, 0], np.uint64)
    assert store.missing("videos", asked).tolist() == [0, 1, 4, 5]
    assert store.missing("images", asked).tolist() == [0, 1, 2, 4, 5]
    assert sorted(store.unreserved("videos", asked[[0, 1, 4]]).tolist()) == [8, 9]


def test_shards_are_safetensors_of_their_whole_size_from_the_start(store):
    (path,) = (store.folder / "videos").iterdir()
    before = path.stat().st_size
    assert before - 5 * row_bytes(ROW) < 2000
    store.reserve("images", KEYS, {"image": (torch.uint8, (100_000,))})
    (large,) = (store.folder / "images").iterdir()
    assert large.stat().st_blocks * 512 >= large.stat().st_size > 500_000
    store.put("videos", {77: entry(1)})
    tensors = load_file(path)
    assert path.stat().st_size == before and tensors["done"].tolist() == [0, 0, 0, 1, 0]
    assert torch.equal(tensors["latents"][3], entry(1)["latents"]) and tensors["key"].tolist() == [5, 2**64 - 1, 0, 77, 12]


def test_the_files_do_not_tell_in_which_order_and_how_often_they_were_written(tmp_path):
    folders = []
    for number, order in enumerate(([0, 1, 2, 3, 4], [3, 1, 3, 4, 0, 2])):
        folders.append(tmp_path / str(number))
        for at in order:
            store = EncodedStore(folders[-1])
            store.reserve("videos", store.unreserved("videos", KEYS), ROW)
            store.put("videos", {int(KEYS[at]): entry(at)})
    first, second = ({path.name: path.read_bytes() for path in folder.rglob("*.safetensors")} for folder in folders)
    assert first == second and len(first) == 1


def test_a_large_kind_has_several_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "SHARD_BYTES", 3 * row_bytes(ROW))
    store = EncodedStore(tmp_path)
    keys = np.arange(10, dtype=np.uint64)
    store.reserve("videos", keys, ROW)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 4
    store.put("videos", {int(key): entry(int(key)) for key in keys})
    assert all(equal(EncodedStore(tmp_path).get("videos", int(key)), entry(int(key))) for key in keys)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:5],
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: b"\xff" * len(data),
        lambda data: b"\0" * len(data),
        lambda data: data[:8] + b"[]" + data[10:],
        lambda data: data.replace(b"BF16", b"BF99"),
        lambda data: data.replace(b"[5, 2, 3]", b"[5, 2, 4]"),
        lambda data: data.replace(b'"key"', b'"kee"'),
    ],
)
def test_a_damaged_shard_counts_as_missing_and_is_replaced(store, damage):
    store.put("videos", {5: entry(0)})
    (path,) = store.folder.rglob("*.safetensors")
    path.write_bytes(damage(path.read_bytes()))
    again = EncodedStore(store.folder)
    assert again.get("videos", 5) is None and len(again.missing("videos", KEYS)) == 5
    again.reserve("videos", again.unreserved("videos", KEYS[1:]), ROW)
    again.put("videos", {77: entry(1)})
    assert equal(EncodedStore(store.folder).get("videos", 77), entry(1))
    assert not path.exists() and len(list(store.folder.rglob("*.safetensors"))) == 1


def test_an_entry_of_another_shape_is_refused(store):
    with pytest.raises(ValueError, match="latents is"):
        store.put("videos", {5: {**entry(0), "latents": torch.zeros(3, 2)}})
    assert store.get("videos", 5) is None


def test_no_room_is_said_before_the_work(tmp_path):
    with pytest.raises(FcaError, match=r"cannot write .*: (No space left|File too large)"):
        EncodedStore(tmp_path).reserve("videos", np.arange(3, dtype=np.uint64), {"latents": (torch.float32, (1 << 60,))})
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


WRITING = """
import sys
from pathlib import Path
import numpy as np, torch
from fcacli.data.cache import EncodedStore
keys, row = np.arange(4000, dtype=np.uint64), {"latents": (torch.float32, (20000,))}
store = EncodedStore(Path(sys.argv[1]))
store.reserve("videos", keys, row)
for key in range(4000):
    store.put("videos", {key: {"latents": torch.full((20000,), float(key + 1))}})
    print(key, flush=True)
"""


def test_kill_9_loses_what_was_in_flight_and_nothing_else(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", WRITING, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    while int(process.stdout.readline()) < 20:
        pass
    process.send_signal(signal.SIGKILL)
    last = max([20, *map(int, process.communicate()[0].split("\n")[:-1])])
    store = EncodedStore(tmp_path)
    done = [key for key in range(4000) if store.has("videos", key)]
    assert done in (list(range(last + 1)), list(range(last + 2)))
    for key in done:
        assert (store.get("videos", key)["latents"] == key + 1).all()


def test_keys_follow_all_that_decides_the_pixels_and_nothing_else():
    key = encode_key("c" * 64, CONFIG, "base")
    assert key == encode_key("c" * 64, dataclasses.replace(CONFIG, fps=24), "base") and 0 <= key < 2**64
    changes = [{"frames": 17}, {"init_frames": 1}, {"width": 48}, {"height": 64}, {"fit": "pad"}]
    others = {encode_key("c" * 64, dataclasses.replace(CONFIG, **change), "base") for change in changes}
    others |= {encode_key("d" * 64, CONFIG, "base"), encode_key("c" * 64, CONFIG, "other"), caption_key("c" * 64, "base")}
    others |= {encode_key("c" * 64, CONFIG, "base", version=99)}
    assert len(others) == len(changes) + 4 and key not in others
    assert caption_key("a", "b") != caption_key("b", "a")
