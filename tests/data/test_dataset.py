import numpy as np
import pytest
import torch
from raw_videos import moving_square, write_video

from fcacli.config import ClipConfig
from fcacli.data.cache import EncodedStore, caption_key, encode_key
from fcacli.data.dataset import EncodedClips, collate, order, sample_frames, usable_clips
from fcacli.data.decode import decode, resize
from fcacli.data.manifest import Clip, write_split
from fcacli.data.source import Video
from fcacli.data.transcode import transcode
from fcacli.errors import FcaError

CONFIG = ClipConfig(frames=16, init_frames=2, width=32, height=32, fps=8)


def prepared(root, lengths):
    """A dataset of one val clip for each length."""
    clips = []
    for index, frames in enumerate(lengths):
        raw = write_video(root / f"{index}.webm", moving_square(frames, seed=index))
        target = root / "val" / "videos" / f"{index}.mp4"
        clips.append(transcode(Video(raw), target, text=f"caption {index % 2}", label=raw.name))
    write_split(root, "val", clips)
    (root / "dataset.json").write_text("{}")
    return clips


def test_samples_are_the_stored_pixels_nearest_to_equal_spacing(tmp_path):
    (clip,) = prepared(tmp_path, [31])
    stored = decode(tmp_path / "val" / clip.file_name).frames
    sample = sample_frames(tmp_path, "val", clip, CONFIG)
    assert sample.shape == (16, 32, 32, 3) and sample.dtype == np.uint8
    assert np.array_equal(sample, resize(stored[::2], 32, 32, "crop"))


def test_a_short_clip_is_named(tmp_path):
    (clip,) = prepared(tmp_path, [12])
    with pytest.raises(FcaError, match="clip 0: 16 frames are needed, 12 are there"):
        sample_frames(tmp_path, "val", clip, CONFIG)


def test_a_file_that_is_not_what_was_stored_is_named(tmp_path):
    (clip,) = prepared(tmp_path, [20])
    path = tmp_path / "val" / clip.file_name
    write_video(path, moving_square(18))
    with pytest.raises(FcaError, match=r"0\.mp4: 18 frames decode, 20 were stored"):
        sample_frames(tmp_path, "val", clip, CONFIG)
    path.unlink()
    with pytest.raises(FcaError, match=r"0\.mp4: No such file"):
        sample_frames(tmp_path, "val", clip, CONFIG)


def test_too_short_clips_are_left_out_and_counted(tmp_path):
    clips, said = prepared(tmp_path, [12, 16, 20]), []
    assert usable_clips(tmp_path, "val", 16, said.append) == clips[1:]
    assert said[0].text == "1 of 3 val clips have fewer than 16 frames and are left out"
    with pytest.raises(FcaError, match=r"no val clip of .* has the 30 frames needed, the longest has 20") as error:
        usable_clips(tmp_path, "val", 30)
    assert error.value.hint == "--frames 20 or fewer"
    with pytest.raises(FcaError, match="holds no train clips"):
        usable_clips(tmp_path, "train", 16)


def encoded(folder, clips):
    store = EncodedStore(folder)
    for number, clip in enumerate(clips):
        tensors = {"latents": torch.full((4, 3, 2, 2), number), "init_latents": torch.zeros(1, 3, 2, 2)}
        store.put(encode_key(clip.content, CONFIG, "base"), {**tensors, "image": torch.zeros(5, 6)})
        store.put(caption_key(clip.text, "base"), {"text": torch.ones(7, 8), "mask": torch.tensor([1] * 3 + [0] * 4)})
    return store


def rows(count):
    return [Clip(f"videos/{n}.mp4", f"caption {n % 2}", "s", 1, 1, 1, [0.0], f"{n:064x}") for n in range(count)]


def test_batches_are_stacked_samples(tmp_path):
    clips = rows(3)
    data = EncodedClips(encoded(tmp_path, clips), clips, CONFIG, "base")
    batch = collate([data[index] for index in (2, 0)])
    assert len(data) == 3 and batch["ids"] == ["2", "0"]
    assert batch["latents"][:, 0, 0, 0, 0].tolist() == [2, 0]
    shapes = {name: tuple(value.shape) for name, value in batch.items() if name != "ids"}
    assert shapes == {
        "latents": (2, 4, 3, 2, 2),
        "init_latents": (2, 1, 3, 2, 2),
        "image": (2, 5, 6),
        "text": (2, 7, 8),
        "text_mask": (2, 7),
    }
    assert batch["text_mask"].dtype == torch.bool


def test_equal_captions_share_one_file(tmp_path):
    encoded(tmp_path, rows(6))
    assert len(list(tmp_path.rglob("*.safetensors"))) == 6 + 2


def test_a_clip_that_is_not_encoded_is_named(tmp_path):
    clips = rows(2)
    data = EncodedClips(encoded(tmp_path, clips[:1]), clips, CONFIG, "base")
    with pytest.raises(FcaError, match="clip 1 is not encoded"):
        data[1]


def test_order_is_a_pure_function_and_differs_by_epoch_and_seed():
    assert order(3, 1, 50) == order(3, 1, 50)
    assert sorted(order(3, 1, 50)) == list(range(50))
    assert len({tuple(order(seed, epoch, 50)) for seed in (0, 3) for epoch in (0, 1, 3)}) == 6
    assert order(0, 0, 5) == [2, 4, 3, 0, 1]  # the same on every machine and in every version
