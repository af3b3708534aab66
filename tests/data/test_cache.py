import dataclasses

import pytest
import torch

from fcacli.config import ClipConfig
from fcacli.data.cache import EncodedStore, caption_key, encode_key

CONFIG = ClipConfig(frames=16, init_frames=2, width=64, height=48, fps=8)


@pytest.fixture
def store(tmp_path):
    return EncodedStore(tmp_path / "cache")


def test_tensors_come_back_in_their_dtype(store):
    tensors = {"latents": torch.randn(4, 2, 3, 3), "mask": torch.tensor([True, False]), "image": torch.randn(5).bfloat16()}
    store.put("ab12", tensors)
    entry = store.get("ab12")
    assert entry.keys() == tensors.keys()
    assert all(entry[name].dtype == tensors[name].dtype and torch.equal(entry[name], tensors[name]) for name in tensors)


def test_an_entry_is_completed_by_and_by(store):
    whole = torch.randn(4, 2)
    store.put("ab", {"latents": whole, "init_latents": whole[:1]})  # views of one storage are fine
    assert store.has("ab", "latents", "init_latents") and not store.has("ab", "image")
    store.put("ab", {"image": torch.zeros(1)})
    assert store.has("ab", "latents", "init_latents", "image")
    assert torch.equal(store.get("ab")["latents"], whole)


def test_missing_is_missing(store):
    assert not store.has("ab") and store.get("ab") is None


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
        lambda data: data.replace(b"F32", b"F99"),
    ],
)
def test_a_damaged_file_counts_as_missing_and_is_replaced(store, damage):
    store.put("ab", {"latents": torch.ones(3)})
    path = store.path("ab")
    path.write_bytes(damage(path.read_bytes()))
    assert store.get("ab") is None
    store.put("ab", {"image": torch.zeros(1)})
    assert store.get("ab").keys() == {"image"}


def test_nothing_but_entries_stays_in_the_folder(store):
    store.put("ab", {"latents": torch.ones(3)})
    store.put("ab", {"image": torch.ones(3)})
    assert [path.name for path in store.folder.rglob("*") if path.is_file()] == ["ab.safetensors"]


def test_keys_follow_all_that_decides_the_pixels_and_nothing_else():
    key = encode_key("c" * 64, CONFIG, "base")
    assert key == encode_key("c" * 64, dataclasses.replace(CONFIG, fps=24), "base")
    changes = [{"frames": 17}, {"init_frames": 1}, {"width": 48}, {"height": 64}, {"fit": "pad"}]
    others = {encode_key("c" * 64, dataclasses.replace(CONFIG, **change), "base") for change in changes}
    others |= {encode_key("d" * 64, CONFIG, "base"), encode_key("c" * 64, CONFIG, "other"), caption_key("c" * 64, "base")}
    others |= {encode_key("c" * 64, CONFIG, "base", version=99)}
    assert len(others) == len(changes) + 4 and key not in others
    assert caption_key("a", "b") != caption_key("b", "a")
