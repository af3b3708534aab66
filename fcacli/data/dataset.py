"""Prepared clips as training and evaluation see them: sampled pixels, and encoded samples with their batches and order.

Shapes: T pixel frames, F latent frames, F0 those of the initial frames alone, P patches, L text tokens, B batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from fcacli.config import ClipConfig
from fcacli.data.cache import EncodedStore, Keys
from fcacli.data.decode import Track, Unreadable, frames_of, resize, sample_indices
from fcacli.data.eightbit import unpack
from fcacli.data.manifest import Clip, Clips, Split, read_split
from fcacli.data.picture import unpack_frames
from fcacli.errors import FcaError
from fcacli.events import Message, Report, silent
from fcacli.workspace import read_json

Images = Literal["exact", "packed", "frames"]
"""How a split has its image features: as they are, in 8 bits, or computed when they are needed, from stored pictures."""


Sample = dict[str, Any]
"""One encoded clip

    id         str
    latents (F, C, h, w), init_latents (F0, C, h, w)     of all T frames; of the initial frames encoded alone
    image      (P, d_image)                              patch features of the initial frames
    text       (L, d_text)     text_mask (L,) bool       true for words

where text may still be packed (`text.values` ...), image too, or replaced by the `frames` it is made from; see `unpacked`.
"""


def usable_clips(dataset: Path, split: Split, frames: int, report: Report = silent) -> Clips:
    """The clips of a split that have at least `frames` frames; how many have not is reported.

    Raises:
        FcaError: the dataset is not prepared, or no clip of this split is long enough.
    """
    count = most = 0

    def long(clip: Clip) -> bool:
        nonlocal count, most
        count, most = count + 1, max(most, clip.frames)
        return clip.frames >= frames

    clips = read_split(dataset, split, long)
    if not count:
        raise FcaError(f"{dataset} holds no {split} clips", _other_split(dataset, split))
    if not clips:
        raise FcaError(
            f"no {split} clip of {dataset} has the {frames} frames needed, the longest has {most}", f"--frames {most} or fewer"
        )
    if short := count - len(clips):
        report(Message(f"{short} of {count} {split} clips have fewer than {frames} frames and are left out", "warning"))
    return clips


def _other_split(dataset: Path, split: Split) -> str:
    """What to do where a split has no clips."""
    about = read_json(dataset / "dataset.json")
    choice = about.get("choice") if isinstance(about, dict) else None
    there = [name for name in ("val", "test", "train") if (dataset / name / "metadata.jsonl").is_file()]
    if isinstance(choice, dict) and choice.get("split") is None and split != "train" and there:
        return f"what it was prepared from has none: --split {there[0]}"
    if isinstance(choice, dict) and choice.get("split") is None:
        return f"{dataset / 'audit.html'} says what was left out: train clips that are also in val or test, for one"
    return "run fca prepare again without --split, with --replace"


def drawn(count: int) -> np.ndarray:
    """Places (n,) of `count` clips in an order that has nothing to do with that of their file, always the same one.

    An evaluation takes its clips from the front, training those held out from the end.
    """
    return np.random.default_rng(0).permutation(count)


def sample_frames(dataset: Path, split: Split, clip: Clip, config: ClipConfig) -> np.ndarray:
    """The pixels of a clip for training and as the truth of an evaluation: uint8 (T, H, W, 3).

    T frames at equal spacing in time over the whole clip, the nearest ones, brought to W x H; those of index below
    `config.init_frames` are the given ones.

    Raises:
        FcaError: the clip has fewer frames, or its file does not hold what the manifest says.
    """
    return _frames(dataset / split / clip.file_name, clip, config, config.frames)


def given_frames(dataset: Path, split: Split, clip: Clip, config: ClipConfig) -> np.ndarray:
    """The first `config.init_frames` of `sample_frames`, without decoding what lies behind them.

    Raises:
        FcaError: as `sample_frames`, as far as it is seen.
    """
    return _frames(dataset / split / clip.file_name, clip, config, config.init_frames)


def _frames(path: Path, clip: Clip, config: ClipConfig, count: int) -> np.ndarray:
    """The first `count` of the T frames; the last one is looked for at the end of the file, to see that it is whole."""
    try:
        chosen = sample_indices(clip.frame_times, config.frames)[:count]
    except FcaError as error:
        raise FcaError(f"clip {clip.id}: {error.message}", error.hint) from None
    wanted, kept, track = set(chosen), {}, Track()
    for index, frame in enumerate(frames_of(path, track)):
        if index in wanted:
            kept[index] = frame
        if count < config.frames and index == chosen[-1]:
            break
    whole = count < config.frames and len(kept) == len(wanted)
    if not whole and (track.problem or len(track.stamps) != clip.frames):
        reason = track.problem or f"{len(track.stamps)} frames decode, {clip.frames} were stored"
        raise FcaError(Unreadable(path, reason).message, "delete that file and run fca prepare again")
    return resize(np.stack([kept[index] for index in chosen]), config.width, config.height, config.fit)


@dataclass(frozen=True)
class EncodedClips(Dataset[Sample]):
    """The samples of a split from an `EncodedStore`, in the order of `clips`."""

    store: EncodedStore
    clips: Sequence[Clip]
    clip_keys: Keys
    """(n,)"""
    caption_keys: Keys
    """(n,)"""
    packed: bool
    """Whether captions are; else they are exact."""
    images: Images

    def __len__(self) -> int:
        return len(self.clips)

    def id_of(self, index: int) -> str:
        return self.clips[index].id

    def __getitem__(self, index: int) -> Sample:
        """
        Raises:
            FcaError: the clip or its caption is not (or no longer) encoded.
        """
        clip = self.clips[index]
        sample = {"id": clip.id, **self._entry(clip, "videos", self.clip_keys[index])}
        caption = self._entry(clip, kind_of("captions", self.packed), self.caption_keys[index])
        sample |= {"text_mask": caption.pop("mask"), **caption}
        if self.images == "frames":
            pictures = self._entry(clip, "frames", self.clip_keys[index])["jpeg"]
            return {**sample, "frames": torch.from_numpy(unpack_frames(pictures.numpy()))}
        return sample | self._entry(clip, kind_of("images", self.images == "packed"), self.clip_keys[index])

    def _entry(self, clip: Clip, kind: str, key: int) -> dict[str, Any]:
        entry = self.store.get(kind, int(key))
        if entry is None:
            raise FcaError(
                f"clip {clip.id} is not encoded (any more): its entry in {self.store.folder / kind} is missing or damaged",
                "fca train encodes it again and goes on",
            )
        return dict(entry)


def kind_of(what: str, packed: bool) -> str:
    """Kind of shard of captions and of images."""
    return what if packed else f"{what}-exact"


def unpacked(batch: Mapping[str, Any], encode_image: Callable[[Any], torch.Tensor]) -> dict[str, Any]:
    """A batch (or one sample) with text and image features as the model takes them, on the device of its tensors.

    Args:
        encode_image: given frames uint8 (n, H, W, 3) to their patch features (n * patches, d_image).
    """
    whole = {name: value for name, value in batch.items() if "." not in name and name != "frames"}
    for name in ("text", "image"):
        packed = {part.removeprefix(f"{name}."): batch[part] for part in batch if part.startswith(f"{name}.")}
        if packed:
            whole[name] = unpack(packed, batch["latents"].dtype)
    if "frames" in batch:
        frames = batch["frames"]  # (B, T0, H, W, 3)
        features = encode_image(frames.flatten(0, -4).cpu().numpy())  # (B * P, d_image)
        whole["image"] = features.unflatten(0, (*frames.shape[:-4], -1)).to(frames.device)
    return whole


def collate(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Stack samples of equal shapes: each tensor with B in front, and `ids`."""
    stacked = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0] if name != "id"}
    return {"ids": [sample["id"] for sample in samples], **stacked}


def order(seed: int, epoch: int, n: int) -> list[int]:
    """The permutation of n samples in one epoch: a pure function of its arguments, so that a resumed run goes on in it."""
    return [int(index) for index in np.random.default_rng([seed, epoch]).permutation(n)]
