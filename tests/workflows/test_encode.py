"""Claims about the encoding: what is there is not made again, val is exact and train in 8 bits, the plan is what happens."""

import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from listening import crash, equal, weights
from raw_videos import write_prepared

from fcacli.config import ClipConfig
from fcacli.data.dataset import collate, given_frames, sample_frames
from fcacli.data.manifest import read_split, write_split
from fcacli.errors import FcaError, OutOfMemory
from fcacli.events import Message, Progress, silent
from fcacli.model.bases import load_base, resolve_base
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.planning.shaped import shaped_base
from fcacli.training import loader
from fcacli.workflows import evaluate
from fcacli.workflows.encode import batches, room
from fcacli.workflows.encode import plan as planning
from fcacli.workflows.encode.batches import ahead, in_batches
from fcacli.workflows.encode.encode import choose_clips, encode, encoding
from fcacli.workflows.encode.plan import Counts, plan
from fcacli.workflows.train import train

CLIP = ClipConfig(frames=16, init_frames=2, width=32, height=32, fps=8)
CLIPS = {
    "train": [(f"t{n}", f"pushing cup {n % 4}", 16 + n) for n in range(7)],
    "val": [("w8", "pushing cup 0", 18), ("w9", "lifting box", 18)],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    write_prepared(root, CLIPS)
    return root


@pytest.fixture
def dataset(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "made"))


@pytest.fixture(scope="module")
def base(tiny_base_folder):
    return load_base(resolve_base(str(tiny_base_folder)))


class Listener:
    def __init__(self):
        self.events = []

    def __call__(self, event):
        self.events.append(event)

    @property
    def said(self):
        return [event.text for event in self.events if isinstance(event, Message)]

    @property
    def warned(self):
        return [event.text for event in self.events if isinstance(event, Message) and event.level == "warning"]

    @property
    def phases(self):
        return {event.phase for event in self.events if isinstance(event, Progress)}


def run(base, dataset, clip=CLIP):
    listener = Listener()
    return encode(base, dataset, choose_clips(dataset, clip), clip, listener), listener


def test_the_held_out_clips_are_drawn_from_all_of_val(tmp_path):
    """Not the first, which may all be of one class; the same ones for every run; not those that an evaluation takes first."""
    write_prepared(tmp_path, {"train": [("t", "a", 18)], "val": [("v", "a", 18)]})
    clip = read_split(tmp_path, "val")[0]
    write_split(tmp_path, "val", [replace(clip, file_name=f"videos/{n}.mp4") for n in range(200)])
    held_out = [one.id for one in choose_clips(tmp_path, CLIP)["val"]]
    assert len(set(held_out)) == 32 and held_out == [one.id for one in choose_clips(tmp_path, CLIP)["val"]]
    assert sum(int(id) < 100 for id in held_out) in range(8, 25) and sum(int(id) < 100 for id in held_out[:4]) in range(1, 4)
    scored = evaluate.choose_clips(read_split(tmp_path, "val"), evaluate.CLIPS)
    assert not {one.id for one in scored} & set(held_out)
    first = choose_clips(tmp_path, CLIP, first=True)["val"]
    assert [one.id for one in first] == [str(n) for n in range(32)]


def files(dataset):
    return {path: path.read_bytes() for path in sorted((dataset / "cache").rglob("*.safetensors"))}


def test_val_is_what_the_encoders_give_and_train_is_close_to_it(base, dataset):
    encoded, listener = run(base, dataset)
    for split, rows in encoded.clips.items():
        for index, clip in enumerate(rows):
            frames = sample_frames(dataset, split, clip, CLIP)
            text, mask = base.encode_text([clip.text, ""])
            exact = {
                "latents": base.encode_video(frames),
                "init_latents": base.encode_init(frames[:2]),
                "image": base.encode_image(frames[:2]),
                "text": text[0],
            }
            sample = encoded.unpack(encoded.dataset(split)[index])
            assert sample["id"] == clip.id and torch.equal(sample["text_mask"], mask[0])
            for name, value in exact.items():
                same = torch.equal(sample[name], value)
                error = (sample[name] - value).norm() / value.norm()
                if split == "val":
                    assert same
                else:
                    assert same == ("latents" in name) and error < 0.01
    full, null = encoded.given("val", 1)
    assert torch.equal(full.text[0], text[0]) and torch.equal(null.text[0], text[1]) and torch.equal(full.image, null.image)
    assert any("captions in 8 bits: relative RMS error 0." in line for line in listener.said)
    assert any("image features in 8 bits: relative RMS error 0." in line for line in listener.said)


def test_what_is_there_is_not_made_again_and_nothing_is_loaded_or_said(base, dataset):
    run(base, dataset)
    before = files(dataset)
    encoded, listener = run(base, dataset)
    assert not listener.events and files(dataset) == before and not base._parts
    assert len(encoded.clips["train"]) == 7 and len({path.parent for path in before}) == 5


def test_an_interrupted_encoding_goes_on_and_becomes_the_same_files(base, dataset, monkeypatch):
    run(base, dataset)
    whole = files(dataset)
    for method, stop in (("encode_text", 2), ("encode_video", 5), ("encode_image", 3)):
        shutil.rmtree(dataset / "cache")
        calls = []
        inner = getattr(CogVideoX, method)

        def interrupted(self, *values, inner=inner, calls=calls, stop=stop):
            calls.append(1)
            if len(calls) == stop:
                raise KeyboardInterrupt
            return inner(self, *values)

        monkeypatch.setattr(CogVideoX, method, interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(base, dataset)
        run(base, dataset)
        counted = {method: len(calls)}
        monkeypatch.undo()
        assert files(dataset) == whole
        needed = {"encode_text": 1 + 3, "encode_video": 7 + 2, "encode_image": 2 + 2}[method]
        assert counted[method] == needed + 1  # the call that was interrupted, and none that was done before


def test_new_clips_are_added_to_what_is_there(base, dataset):
    run(base, dataset)
    before = files(dataset)
    rows = write_prepared(dataset, {**CLIPS, "train": [*CLIPS["train"], ("new", "a new caption", 20)]})
    encoded, listener = run(base, dataset)
    after = files(dataset)
    assert len(encoded.dataset("train")) == 8 == len(rows["train"])
    assert {path: data for path, data in after.items() if path in before} == before and len(after) == len(before) + 3
    assert [e.done for e in listener.events if isinstance(e, Progress) and e.phase == "encode videos"] == [7, 8]


def test_the_plan_is_said_before_the_work_and_is_what_lies_there_after_it(base, dataset):
    _, listener = run(base, dataset)
    first = listener.events[0]
    assert isinstance(first, Message) and "encodings of made for" in first.text and "16x32x32 take" in first.text
    assert f"are free on the disk of {dataset / 'cache'}" in first.text
    planned = plan(base, CLIP, Counts(train_clips=7, train_captions=4, val_clips=2, val_captions=3))
    assert planned.said() in first.text
    lying = sum(len(data) for data in files(dataset).values())
    assert planned.total <= lying < planned.total + 5 * 1500


def test_no_room_is_an_error_before_anything_is_encoded(base, dataset, monkeypatch):
    usage = shutil.disk_usage(dataset)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    with pytest.raises(FcaError, match=r"there is no room in .*cache: .* MB are needed, 0.0 MB are free"):
        run(base, dataset)
    assert not files(dataset) and not base._parts


def test_all_of_ssv2_on_cogvideox_2b_stays_below_100_gb():
    """With 16 frames of 256x256 in bfloat16; the prediction by the real configurations, without weights."""
    base = shaped_base(resolve_base("cogvideox-2b"), "cuda")
    clip = replace(CLIP, width=256, height=256)
    for captions, expected in ((100_000, "75.5 GB"), (168_913, "96.7 GB")):
        planned = plan(base, clip, Counts(168_913, captions, 32, 33))
        assert planned.said().startswith(expected) and planned.total < 100e9
        assert planned.images == "frames" and "they would take 94.1 GB" in planned.said()
    small = plan(base, clip, Counts(30_000, 20_000, 32, 33))
    assert small.images == "packed" and small.total < 40e9


def test_beyond_the_budget_image_features_are_computed_while_training(base, dataset, monkeypatch):
    monkeypatch.setattr(planning, "BUDGET", 0)
    encoded, listener = run(base, dataset)
    assert "image features are computed from these while training" in listener.said[0]
    kinds = {path.name for path in (dataset / "cache").iterdir()}
    assert kinds == {"videos", "captions", "captions-exact", "frames", "images-exact"}
    again, listener = run(base, dataset)
    assert not listener.events
    data = again.dataset("train")
    batch = again.unpack(collate([data[3], data[1]]))
    for row, index in enumerate((3, 1)):
        exact = base.encode_image(given_frames(dataset, "train", encoded.clips["train"][index], CLIP))
        assert 0 < (batch["image"][row] - exact).norm() / exact.norm() < 0.05
        assert torch.allclose(encoded.given("train", index)[0].image[0], batch["image"][row], atol=1e-4)
    base.unload("image_encoder")


@pytest.mark.parametrize("budget", [1e9, 0], ids=["stored", "computed"])
def test_training_on_stored_features_resumes_bit_for_bit(workspace, asked, monkeypatch, budget):
    """Interrupted and continued with another number of processes that load clips."""
    monkeypatch.setattr(planning, "BUDGET", budget)
    monkeypatch.setattr(loader, "IN_MEMORY", 0)
    straight = train(workspace, asked, gpus=0, run="straight", workers=0)
    crash(workspace, asked, 3, run="other", workers=1)
    result = train(workspace, gpus=0, workers=0)
    assert result.finished and result.run.name == "other" and equal(weights(result.run), weights(straight.run))
    kinds = {path.name for path in (workspace.dataset() / "cache").iterdir()}
    assert ("frames" in kinds) == (budget == 0)


def test_clips_that_cannot_be_read_are_named_and_left_out_of_all(base, dataset):
    (dataset / "train" / "videos" / "t2.mp4").unlink()
    (dataset / "val" / "videos" / "w8.mp4").write_bytes(b"no video")
    encoded, listener = run(base, dataset)
    assert encoded.left_out == ["t2", "w8"] and len(listener.warned) == 2
    assert [clip.id for clip in encoded.clips["train"]] == ["t0", "t1", "t3", "t4", "t5", "t6"]
    assert [encoded.dataset("train")[2]["id"], encoded.dataset("val")[0]["id"]] == ["t3", "w9"]


def test_entries_of_an_earlier_fca_are_removed_with_a_line(base, dataset):
    old = [dataset / "cache" / f"{n:02x}" / f"{n:02x}{n:062x}.safetensors" for n in (1, 171)]
    for path in old:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"anything")
    other = dataset / "cache" / "base-predictions" / "x.safetensors"
    other.parent.mkdir()
    other.write_bytes(b"")
    encoded, listener = run(base, dataset)
    assert "holds 2 encodings of an earlier fca, in another form: they are removed and made again" in listener.said[0]
    assert not any(path.parent.exists() for path in old) and other.exists() and len(encoded.dataset("train")) == 7


def test_only_half_written_shards_are_removed_before_encoding(dataset):
    """An evaluation may be writing into the folder beside them at the same time."""
    others, shard = dataset / "cache" / "base-predictions" / ".7.x.tmp", dataset / "cache" / "videos" / ".a.safetensors.1.tmp"
    for path in (others, shard):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    with encoding(dataset, silent):
        assert others.exists() and not shard.exists()


def test_batches_have_one_size_so_that_neighbours_do_not_matter(base, dataset, monkeypatch):
    sizes = {"encode_text": [], "encode_image": [], "encode_video": []}
    monkeypatch.setitem(batches.SIZES, "cpu", {"captions": 3, "videos": 2, "images": 4})
    for name in sizes:
        inner = getattr(CogVideoX, name)
        monkeypatch.setattr(
            CogVideoX, name, lambda self, given, name=name, inner=inner: sizes[name].append(len(given)) or inner(self, given)
        )
    encoded, _ = run(base, dataset)
    assert sizes["encode_text"] == [3, 3, 2, 2, 2] and sizes["encode_image"] == [8, 8, 2, 2]
    assert sizes["encode_video"] == [2, 2, 2, 2, 1, 1]
    frames = sample_frames(dataset, "train", encoded.clips["train"][6], CLIP)
    assert torch.allclose(encoded.dataset("train")[6]["latents"], base.encode_video(frames), atol=1e-5)


def test_where_memory_ends_a_batch_is_halved():
    asked = []

    def compute(items):
        asked.append(len(items))
        if len(items) > 2:
            raise MemoryError
        return {"x": torch.tensor(items)}

    assert in_batches(compute, list(range(7)), "encode", "hint")["x"].tolist() == list(range(7))
    assert asked == [7, 3, 1, 2, 4, 2, 2]

    def never(items):
        raise MemoryError

    with pytest.raises(OutOfMemory, match="in encode"):
        in_batches(never, [1, 2], "encode", "hint")


def test_decoding_goes_on_while_the_encoder_works():
    """Threads load the next items while the consumer is busy, in order, and not without bound."""
    started = []

    def load(item):
        assert threading.current_thread() is not threading.main_thread()
        started.append(item)
        time.sleep(0.02)
        return item

    loaded = ahead(load, range(60))
    assert next(loaded) == (0, 0)
    time.sleep(0.5)
    assert batches.AHEAD <= len(started) <= batches.AHEAD + 2
    assert [item for item, _ in loaded] == list(range(1, 60))


def test_nothing_to_do_for_ten_thousand_clips_takes_less_than_two_seconds(base, tmp_path):
    """Without starting Python and loading the base."""
    from fcacli.data.cache import EncodedStore, caption_key, encode_key
    from fcacli.data.manifest import Clip, write_split
    from fcacli.workflows.encode.encode import encoder_id

    times = [n / 12 for n in range(40)]
    rows = [Clip(f"videos/{n}.mp4", f"caption {n % 7000}", "raw", 40, 427, 240, times, f"{n:064x}") for n in range(10_000)]
    write_split(tmp_path, "train", rows)
    (tmp_path / "dataset.json").write_text("{}")
    store, encoder = EncodedStore(tmp_path / "cache"), encoder_id(base)
    planned = plan(base, CLIP, Counts(10_000, 7_000))
    keys = {
        "videos": [encode_key(row.content, CLIP, encoder) for row in rows],
        "captions": sorted({caption_key(row.text, encoder) for row in rows}),
        "captions-exact": [caption_key("", encoder)],
    }
    keys["images"] = keys["videos"]
    for kind, wanted in keys.items():
        store.reserve(kind, np.array(wanted, np.uint64), planned.rows[kind])
        for shard in store._opened(kind):
            with shard.path.open("r+b") as file:
                file.seek(shard._start + shard._places["done"][3])
                file.write(bytes([1]) * len(shard.keys))
    start = time.process_time()
    encoded, listener = run(base, tmp_path)
    taken = time.process_time() - start
    assert not listener.events and len(encoded.dataset("train")) == 10_000
    print(f"\nnothing to encode of 10,000 clips: {taken:.2f} s")
    assert taken < 2
