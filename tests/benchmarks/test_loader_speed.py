"""The loader at Something-Something's shape on CogVideoX-2B (16 frames of 256x256), on two processes, beside a bare read.

Run with -m benchmark -s. The encodings are random, the given frames synthetic and noisy (their pictures are as large as
those of real ones); the page cache is warm.
"""

import os
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from raw_videos import moving_square

from fcacli.config import ClipConfig
from fcacli.data.cache import EncodedStore, caption_key, encode_key
from fcacli.data.dataset import EncodedClips, collate
from fcacli.data.eightbit import packed_shapes
from fcacli.data.manifest import Clip, read_split, write_split
from fcacli.data.picture import pack_frames, picture_bytes
from fcacli.training.loader import batches

CLIPS, BATCH, BATCHES, WORKERS = 600, 4, 400, 2
CONFIG = ClipConfig(frames=16, init_frames=2, width=256, height=256, fps=8)
MASK = {"mask": (torch.bool, (226,))}
ROWS = {
    "videos": {"latents": (torch.bfloat16, (4, 16, 32, 32)), "init_latents": (torch.bfloat16, (1, 16, 32, 32))},
    "captions": {f"text.{name}": about for name, about in packed_shapes(226, 4096, True).items()} | MASK,
    "images": {f"image.{name}": about for name, about in packed_shapes(512, 1024, False).items()},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> EncodedClips:
    """Image features in 8 bits; captions of three clips in five are their own."""
    root = tmp_path_factory.mktemp("shape")
    times = [n / 12 for n in range(40)]
    rows = [
        Clip(f"videos/{n % 20}.mp4", f"caption {3 * n // 5}", "raw", 40, 427, 240, times, f"{n:064x}") for n in range(CLIPS)
    ]
    write_split(root, "train", rows)
    (root / "dataset.json").write_text("{}")
    store = EncodedStore(root / "cache")
    clip_keys = np.array([encode_key(row.content, CONFIG, "base") for row in rows], np.uint64)
    caption_keys = np.array([caption_key(row.text, "base") for row in rows], np.uint64)
    generator, noise = torch.Generator().manual_seed(0), np.random.default_rng(0)
    for kind, keys in (("videos", clip_keys), ("captions", np.unique(caption_keys)), ("images", clip_keys)):
        store.reserve(kind, keys, ROWS[kind])
        for key in keys:
            entry = {
                name: torch.randint(0, 2, shape, generator=generator).to(dtype) for name, (dtype, shape) in ROWS[kind].items()
            }
            store.put(kind, {int(key): entry})
    store.reserve("frames", clip_keys, {"jpeg": (torch.uint8, (2, picture_bytes(256, 256)))})
    for n, key in enumerate(clip_keys):
        frames = moving_square(2, 256, 256, seed=n) + noise.integers(0, 12, (2, 256, 256, 3), np.uint8)
        store.put("frames", {int(key): {"jpeg": torch.from_numpy(pack_frames(frames))}})
    return EncodedClips(
        EncodedStore(root / "cache"), read_split(root, "train"), clip_keys, caption_keys, packed=True, images="packed"
    )


def rate(data, load) -> tuple[float, float]:
    """Samples a second on this machine as busy as it is, and what two idle cores would feed, by processor time."""
    generator = np.random.default_rng(0)
    chosen = (generator.integers(0, len(data), BATCH).tolist() for _ in range(BATCHES))
    spent, start = _processor_time(), time.perf_counter()
    count = BATCH * sum(1 for _ in load(data, chosen))
    return count / (time.perf_counter() - start), 2 * count / (_processor_time() - spent)


def _processor_time() -> float:
    """Seconds of this process and of those it has waited for."""
    taken = os.times()
    return taken.user + taken.system + taken.children_user + taken.children_system


def by_workers(data, chosen):
    return batches(data, chosen, torch.device("cpu"), WORKERS, collate)


def bare(data, chosen):
    """The same entries read and stacked in this process, by nothing of ours but the shards."""
    for indices in chosen:
        entries = []
        for index in indices:
            parts = (("videos", data.clip_keys), ("captions", data.caption_keys), ("images", data.clip_keys))
            entries.append(
                {name: value for kind, keys in parts for name, value in data.store.get(kind, int(keys[index])).items()}
            )
        yield {name: torch.stack([entry[name] for entry in entries]) for name in entries[0]}


@pytest.mark.benchmark
def test_loader_feeds_200_samples_a_second(data):
    stored, frames, read = rate(data, by_workers), rate(replace(data, images="frames"), by_workers), rate(data, bare)
    batch = collate([data[index] for index in range(BATCH)])
    print(f"\n16x256x256 on CogVideoX-2B, {WORKERS} processes, {size(batch) / BATCH / 1e6:.2f} MB a sample; samples a second")
    for name, (measured, idle) in {"image features stored": stored, "given frames instead": frames, "bare reads": read}.items():
        print(f"  {name}: {measured:.0f} measured, {idle:.0f} by processor time on two cores")
    assert min(stored[1], frames[1]) >= 200


def size(batch) -> int:
    return sum(value.nbytes for value in batch.values() if isinstance(value, torch.Tensor))
