import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from raw_videos import moving_square, write_prepared, write_video
from safetensors.torch import load_file

from fcacli.config import ClipConfig
from fcacli.data import dataset as dataset_module
from fcacli.data.cache import EncodedStore, caption_key, encode_key
from fcacli.data.dataset import (
    EncodedClips,
    collate,
    given_frames,
    kind_of,
    order,
    sample_frames,
    unpacked,
    usable_clips,
)
from fcacli.data.decode import decode, resize
from fcacli.data.eightbit import pack, pack_text
from fcacli.data.manifest import Clip
from fcacli.data.picture import pack_frames, picture_bytes, unpack_frames
from fcacli.errors import FcaError

CONFIG = ClipConfig(frames=16, init_frames=2, width=32, height=32, fps=8)


def prepared(root, lengths):
    """A dataset of one val clip for each length."""
    return write_prepared(root, {"val": [(str(at), f"caption {at % 2}", frames) for at, frames in enumerate(lengths)]})["val"]


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


@pytest.mark.parametrize(
    ("about", "hint"),
    [
        ({"choice": {"split": None}}, "what it was prepared from has none: --split val"),
        ({"choice": {"split": "val"}}, "run fca prepare again without --split, with --replace"),
        ({}, "run fca prepare again without --split, with --replace"),  # of an earlier version
    ],
)
def test_why_a_split_has_no_clips(tmp_path, about, hint):
    prepared(tmp_path, [16])
    (tmp_path / "dataset.json").write_text(json.dumps(about))
    with pytest.raises(FcaError, match="holds no test clips") as error:
        usable_clips(tmp_path, "test", 16)
    assert error.value.hint == hint


def rows(count):
    return [Clip(f"videos/{n}.mp4", f"caption {n % 2}", "s", 1, 1, 1, [0.0], f"{n:064x}") for n in range(count)]


TEXT = torch.randn(7, 8, generator=torch.Generator().manual_seed(0))


def encoded(folder, clips, encode, images="exact", packed=False):
    """The first `encode` of the clips with their captions."""
    store = EncodedStore(folder)
    clip_keys = np.array([encode_key(clip.content, CONFIG, "base") for clip in clips], np.uint64)
    caption_keys = np.array([caption_key(clip.text, "base") for clip in clips], np.uint64)
    entries = {"videos": {}, kind_of("images", images == "packed"): {}, kind_of("captions", packed): {}}
    for number in range(encode):
        latents = {"latents": torch.full((4, 3, 2, 2), float(number)), "init_latents": torch.zeros(1, 3, 2, 2)}
        image = {"image": torch.full((5, 6), float(number))}
        text = {f"text.{name}": value for name, value in pack_text(TEXT).items()} if packed else {"text": TEXT}
        if images == "packed":
            image = {f"image.{name}": value for name, value in pack(image["image"]).items()}
        mask = {"mask": torch.tensor([True] * 3 + [False] * 4)}
        for made, key, entry in zip(
            entries.values(), (*[clip_keys[number]] * 2, caption_keys[number]), (latents, image, {**text, **mask}), strict=True
        ):
            made[int(key)] = entry
    for kind, made in entries.items():
        first = next(iter(made.values()))
        row = {name: (value.dtype, tuple(value.shape)) for name, value in first.items()}
        store.reserve(kind, np.array(list(made), np.uint64), row)
        store.put(kind, made)
    return EncodedClips(store, clips, clip_keys, caption_keys, packed=packed, images=images)


@pytest.mark.parametrize(("images", "packed"), [("exact", False), ("packed", True)])
def test_batches_are_stacked_samples(tmp_path, images, packed):
    clips = rows(3)
    data = encoded(tmp_path, clips, 3, images, packed)
    loaded = collate([data[index] for index in (2, 0)])
    assert ("text" in loaded, "image" in loaded) == (not packed, images == "exact")
    batch = unpacked(loaded, encode_image=None)
    assert len(data) == 3 and batch["ids"] == ["2", "0"] == [data.id_of(2), data.id_of(0)]
    assert batch["latents"][:, 0, 0, 0, 0].tolist() == [2, 0]
    assert torch.allclose(batch["image"][:, 0, 0], torch.tensor([2.0, 0.0]), rtol=0.01)
    assert torch.allclose(batch["text"][0], TEXT, atol=0.02) and torch.equal(batch["text"][0], TEXT) != packed
    shapes = {name: tuple(value.shape) for name, value in batch.items() if name != "ids"}
    assert shapes == {
        "latents": (2, 4, 3, 2, 2),
        "init_latents": (2, 1, 3, 2, 2),
        "image": (2, 5, 6),
        "text": (2, 7, 8),
        "text_mask": (2, 7),
    }
    assert batch["text_mask"].dtype == torch.bool


def test_image_features_may_be_made_of_stored_pictures(tmp_path):
    clips = prepared(tmp_path, [31, 20])
    data = replace(encoded(tmp_path / "cache", clips, 2), images="frames")
    given = [given_frames(tmp_path, "val", clip, CONFIG) for clip in clips]
    data.store.reserve("frames", data.clip_keys, {"jpeg": (torch.uint8, (2, picture_bytes(32, 32)))})
    pictures = {int(key): {"jpeg": torch.from_numpy(pack_frames(f))} for key, f in zip(data.clip_keys, given, strict=True)}
    data.store.put("frames", pictures)
    batch = collate([data[0], data[1]])
    assert psnr(batch["frames"].numpy(), np.stack(given)) > 38

    def encode_image(frames):  # 3 patches of width 2 for each frame
        assert frames.shape == (4, 32, 32, 3)
        return torch.from_numpy(frames).float().mean((1, 2, 3)).repeat_interleave(6).view(12, 2)

    image = unpacked(batch, encode_image)["image"]
    assert image.shape == (2, 6, 2) and image[1, 5, 0] == pytest.approx(given[1][1].mean(), rel=1e-2)


def psnr(one, other):
    return 10 * np.log10(255**2 / np.square(one.astype(float) - other).mean())


def test_pictures_fit_into_their_bytes_whatever_they_show():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (2, 256, 256, 3), np.uint8)
    smooth = np.broadcast_to(moving_square(2, 256, 256), (2, 256, 256, 3))
    for frames, least in ((smooth, 45), (noise, 10)):
        pictures = pack_frames(frames)
        assert pictures.shape == (2, picture_bytes(256, 256)) and picture_bytes(256, 256) < 51_000
        assert psnr(unpack_frames(pictures), frames) > least
    with pytest.raises(ValueError, match="damaged"):
        unpack_frames(np.zeros((1, 99), np.uint8))


def test_given_frames_are_the_first_of_the_sampled_ones_and_end_there(tmp_path, monkeypatch):
    (clip,) = prepared(tmp_path, [31])
    whole, seen = sample_frames(tmp_path, "val", clip, CONFIG), []
    inner = dataset_module.frames_of
    monkeypatch.setattr(dataset_module, "frames_of", lambda *values: (seen.append(1) or frame for frame in inner(*values)))
    assert np.array_equal(given_frames(tmp_path, "val", clip, CONFIG), whole[:2]) and len(seen) == 3
    path = tmp_path / "val" / clip.file_name
    write_video(path, moving_square(2))
    with pytest.raises(FcaError, match=r"0\.mp4: 2 frames decode, 31 were stored"):
        given_frames(tmp_path, "val", clip, CONFIG)


def test_equal_captions_are_one_entry(tmp_path):
    data = encoded(tmp_path, rows(6), 6)
    assert len(data.store.missing("captions-exact", data.caption_keys)) == 0
    (path,) = (tmp_path / "captions-exact").iterdir()
    assert load_file(path)["text"].shape == (2, 7, 8)


def test_a_clip_that_is_not_encoded_is_named(tmp_path):
    data = encoded(tmp_path, rows(2), 1)
    assert data[0]["id"] == "0"
    with pytest.raises(FcaError, match="clip 1 is not encoded"):
        data[1]


def test_order_is_a_pure_function_and_differs_by_epoch_and_seed():
    assert order(3, 1, 50) == order(3, 1, 50)
    assert sorted(order(3, 1, 50)) == list(range(50))
    assert len({tuple(order(seed, epoch, 50)) for seed in (0, 3) for epoch in (0, 1, 3)}) == 6
    assert order(0, 0, 5) == [2, 4, 3, 0, 1]  # the same on every machine and in every version
