"""The first phase of `fca train`, also `fca prepare --base`: every clip through the base's frozen encoders, once.

One encoder is in memory at a time and works on batches of one shape, while other threads decode the next clips. Results lie
in data/<name>/cache; what is there already is not computed again, so an interrupted run of this goes on where it was.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fcacli.config import ClipConfig
from fcacli.data.cache import EncodedStore, Keys, caption_key, encode_key
from fcacli.data.dataset import EncodedClips, Images, given_frames, kind_of, sample_frames, unpacked, usable_clips
from fcacli.data.eightbit import pack, pack_text
from fcacli.data.manifest import Clip, Clips, Split, read_split
from fcacli.data.picture import pack_frames
from fcacli.errors import FcaError
from fcacli.events import Message, Report, silent
from fcacli.workflows.encode.batches import Error, ahead, batches_of, in_batches, packed_entries, tracked
from fcacli.workflows.encode.plan import Counts, Plan, plan
from fcacli.workflows.encode.room import make_room, remove_old_entries
from fcacli.workflows.lock import locked
from fcacli.workspace import remove_leftovers

if TYPE_CHECKING:
    from fcacli.model.bases.cogvideox import CogVideoX
    from fcacli.model.conditioning import Given

HELD_OUT = 32
"""Clips of the val split that are used in training, for the held-out loss and the validation clips."""

SMALLER = "a smaller --size or --frames, or --gpus 0, where main memory is larger; one clip alone does not fit"

Chosen = dict[Split, Clips]


@dataclass(frozen=True)
class Encoded:
    """The clips of a dataset as one base sees them."""

    store: EncodedStore
    encoder: str
    """Identifies what encoded them, see `encoder_id`."""
    clip_config: ClipConfig
    clips: Chosen
    """Those that are encoded."""
    images: Images
    """Of train clips; those of val clips are exact, like their captions."""
    encode_image: Callable[[np.ndarray], Tensor]
    """Given frames (n, H, W, 3) to features."""
    left_out: list[str]
    """Ids of those whose video could not be read."""

    def dataset(self, split: Split) -> EncodedClips:
        """The encoded samples of a split."""
        clip_keys, caption_keys = keys_of(self.clips[split], self.clip_config, self.encoder)
        train = split == "train"
        images: Images = self.images if train else "exact"
        return EncodedClips(self.store, self.clips[split], clip_keys, caption_keys, packed=train, images=images)

    def unpack(self, batch: Any) -> dict[str, Any]:
        """A batch or a sample with text and image features as the model takes them."""
        return unpacked(batch, self.encode_image)

    def null(self) -> tuple[Tensor, Tensor]:
        """Text (L, d_text) and mask (L,) of the empty caption."""
        entry = self.store.get(kind_of("captions", False), caption_key("", self.encoder))
        if entry is None:
            raise FcaError(f"the empty caption is no longer in {self.store.folder}", "fca train encodes it again")
        return entry["text"], entry["mask"]

    def given(self, split: Split, index: int) -> tuple["Given", "Given"]:
        """The conditions of one clip and those with the empty caption, batches of one: of a val clip what `fca predict`
        computes afresh."""
        from fcacli.model.conditioning import Given

        sample = self.unpack(self.dataset(split)[index])
        text, mask = self.null()
        full = Given(
            init_latents=sample["init_latents"][None],
            text=sample["text"][None],
            text_mask=sample["text_mask"][None],
            image=sample["image"][None],
        )
        return full, replace(full, text=text[None], text_mask=mask[None])


def encoder_id(base: "CogVideoX") -> str:
    """What decides the encodings besides their input: the base's files and its arithmetic."""
    return f"{base.fingerprint}-{str(base.dtype).removeprefix('torch.')}"


def keys_of(clips: Clips, clip_config: ClipConfig, encoder: str) -> tuple[Keys, Keys]:
    """Keys of clips and of their captions, (n,) each."""
    keys = np.empty((2, len(clips)), np.uint64)
    for index, clip in enumerate(clips):
        keys[:, index] = encode_key(clip.content, clip_config, encoder), caption_key(clip.text, encoder)
    return keys[0], keys[1]


def choose_clips(dataset: Path, clip_config: ClipConfig, report: Report = silent) -> Chosen:
    """The clips that training uses: the train split, and the first of the val split, each long enough.

    Raises:
        FcaError: nothing is prepared, or no train clip is long enough.
    """
    train = usable_clips(dataset, "train", clip_config.frames, report)
    held_out = read_split(dataset, "val", lambda clip: clip.frames >= clip_config.frames)
    return {"train": train, "val": held_out[:HELD_OUT]}


@contextmanager
def encoding(dataset: Path, report: Report) -> Iterator[None]:
    """Hold the dataset against `fca prepare` and other processes that encode it, after waiting for these; then nothing
    that lies half-written in its cache is anyone's."""
    with locked(dataset, f"{dataset} is being prepared or encoded", waiting=report):
        remove_leftovers(dataset / "cache", "videos", "captions*", "images*", "frames")  # not where an evaluation writes
        yield


def encode(base: "CogVideoX", dataset: Path, clips: Chosen, clip_config: ClipConfig, report: Report = silent) -> Encoded:
    """Encode what is not encoded yet: captions, then videos with their initial frames alone, then image features.

    A clip whose video is missing or damaged is named and left out.

    Raises:
        FcaError: no train clip is left, there is no room for the cache, or it cannot be written.
    """
    job = _job(base, dataset, clips, clip_config, report)
    store, planned, keys, wanted = job.store, job.plan, job.keys, job.wanted()
    remove_old_entries(store.folder, report)
    make_room(store, planned, wanted, f"{dataset.name} for {base.spec.name} at {_size(clip_config)}", report)
    for encode_split, parts in (
        (job.captions, ("text_encoder", "tokenizer")),
        (job.videos, ("vae",)),
        (job.images, ("image_encoder",)),
    ):
        for split in clips:
            encode_split(split)
        base.unload(*parts)
    lost = np.array(sorted(job.lost), np.uint64)
    kept = {split: clips[split][np.flatnonzero(~np.isin(keys[split][0], lost))] for split in clips}
    if not len(kept["train"]):
        raise FcaError(f"none of the {len(clips['train'])} train clips of {dataset} can be read", "fca prepare ssv2 ./raw")
    left_out = [clips[split][int(index)].id for split in clips for index in np.flatnonzero(np.isin(keys[split][0], lost))]
    return Encoded(store, encoder_id(base), clip_config, kept, planned.images, base.encode_image, left_out)


def all_encoded(base: "CogVideoX", dataset: Path, clip_config: ClipConfig) -> bool:
    """Whether `encode` would find all done.

    Raises:
        FcaError: as `choose_clips`.
    """
    job = _job(base, dataset, choose_clips(dataset, clip_config), clip_config, silent)
    return not any(len(job.store.missing(kind, keys)) for kind, keys in job.wanted().items())


def _job(base: "CogVideoX", dataset: Path, clips: Chosen, clip_config: ClipConfig, report: Report) -> "_Job":
    store, encoder = EncodedStore(dataset / "cache"), encoder_id(base)
    keys = {split: keys_of(clips[split], clip_config, encoder) for split in clips}
    planned = plan(base, clip_config, counts_of(keys))
    return _Job(base, dataset, clips, clip_config, store, keys, planned, caption_key("", encoder), report)


@dataclass
class _Job:
    """One call of `encode`."""

    base: "CogVideoX"
    dataset: Path
    clips: Chosen
    clip_config: ClipConfig
    store: EncodedStore
    keys: dict[Split, tuple[Keys, Keys]]
    plan: Plan
    null: int
    """Key of the empty caption."""
    report: Report

    def __post_init__(self) -> None:
        self.lost: set[int] = set()
        """Keys of clips whose video cannot be read."""
        self._size = batches_of(self.base.device.type)

    def wanted(self) -> dict[str, Keys]:
        """Keys of all entries, by kind."""
        train, val = self.keys["train"], self.keys["val"]
        return {
            "captions": train[1],
            "captions-exact": np.concatenate([np.array([self.null], np.uint64), val[1]]),
            "videos": np.concatenate([train[0], val[0]]),
            "images" if self.plan.images == "packed" else "frames": train[0],
            "images-exact": val[0],
        }

    def captions(self, split: Split) -> None:
        """Of train clips in batches; of val clips each together with the empty one, as prediction encodes them: the same
        call gives the same bits."""
        packed = split == "train"
        kind, keys = kind_of("captions", packed), self.keys[split][1]
        if not packed:
            keys = np.concatenate([keys, np.array([self.null], np.uint64)])
        missing = self.store.missing(kind, keys)
        size, error = self._size["captions"] if packed else 1, Error("captions")
        texts = (self.clips[split][int(at)].text if at < len(self.clips[split]) else "" for at in missing)
        rest = zip([int(keys[at]) for at in missing], texts, strict=True)
        for batch in tracked(rest, size, len(missing), len(np.unique(keys)), f"encode captions{_of(split)}", self.report):
            asked = [text for _, text in batch]
            asked += [""] * (size - len(asked) if packed else 1)
            features, masks = in_batches(
                self.base.encode_text, asked, "encode captions", "--gpus 0, where main memory is larger"
            )
            masks = masks.cpu()
            entries = packed_entries("text", features[: len(batch)], pack_text, error) if packed else [{"text": features[0]}]
            named = {key: {**entry, "mask": mask} for (key, _), entry, mask in zip(batch, entries, masks, strict=False)}
            self.store.put(kind, named)
        error.say(self.report)

    def videos(self, split: Split) -> None:
        """Latents of all frames, and of the given ones alone."""
        given = self.clip_config.init_frames

        def compute(frames: np.ndarray) -> dict[str, Tensor]:
            return {"latents": self.base.encode_video(frames), "init_latents": self.base.encode_init(frames[:, :given])}

        self._clips("videos", split, "videos", sample_frames, compute, None)

    def images(self, split: Split) -> None:
        """Features of the given frames, or pictures of these."""
        packed = split == "train"
        if packed and self.plan.images == "frames":
            self._clips("frames", split, "images", _pictures, _as_picture, None)
            return

        def compute(frames: np.ndarray) -> dict[str, Tensor]:
            features = self.base.encode_image(frames.reshape(-1, *frames.shape[2:]))  # (B * P, d_image)
            return {"image": features.unflatten(0, (len(frames), -1))}

        error = Error("image features") if packed else None
        self._clips(kind_of("images", packed), split, "images", given_frames, compute, error)

    def _clips(
        self,
        kind: str,
        split: Split,
        what: str,
        load: Callable[[Path, Split, Clip, ClipConfig], np.ndarray],
        compute: Callable[[np.ndarray], dict[str, Tensor]],
        error: Error | None,
    ) -> None:
        """Encode the clips of a split that are missing; packed where `error` is measured.

        Train clips in batches, val clips one by one, as prediction does it.
        """
        phase, size = f"encode {what}{_of(split)}", self._size[what] if split == "train" else 1
        keys, clips = self.keys[split][0], self.clips[split]
        missing = self.store.missing(kind, keys)
        missing = missing[~np.isin(keys[missing], np.array(sorted(self.lost), np.uint64))]

        def decoded(at: int) -> np.ndarray:
            return load(self.dataset, split, clips[at], self.clip_config)

        def readable() -> Iterator[tuple[int, np.ndarray]]:
            for at, frames in ahead(decoded, [int(at) for at in missing]):
                if isinstance(frames, FcaError):
                    self.report(Message(f"{frames.message}; left out", "warning"))
                    self.lost.add(int(keys[at]))
                else:
                    yield int(keys[at]), frames

        for batch in tracked(readable(), size, len(missing), len(np.unique(keys)), phase, self.report):
            frames = np.stack([frames for _, frames in batch])
            padded = np.concatenate([frames, *[frames[-1:]] * (size - len(frames))])
            made = in_batches(compute, padded, phase, SMALLER)
            if error is None:
                entries = [{name: value[at] for name, value in made.items()} for at in range(len(batch))]
            else:
                entries = packed_entries("image", made["image"][: len(batch)], pack, error)
            self.store.put(kind, {key: entry for (key, _), entry in zip(batch, entries, strict=True)})
        if error is not None:
            error.say(self.report)


def counts_of(keys: dict[Split, tuple[Keys, Keys]]) -> Counts:
    """Distinct entries of the keys of `keys_of`."""
    (clips, captions), (val_clips, val_captions) = (
        [len(np.unique(part)) for part in keys[split]] for split in ("train", "val")
    )
    return Counts(clips, captions, val_clips, val_captions + 1)


def _pictures(dataset: Path, split: Split, clip: Clip, clip_config: ClipConfig) -> np.ndarray:
    """A clip's given frames as they are kept, uint8 (T0, bytes)."""
    return pack_frames(given_frames(dataset, split, clip, clip_config))


def _as_picture(pictures: np.ndarray) -> dict[str, Tensor]:
    return {"jpeg": torch.from_numpy(pictures)}


def _of(split: Split) -> str:
    return "" if split == "train" else f" of {split}"


def _size(clip: ClipConfig) -> str:
    return f"{clip.frames}x{clip.width}x{clip.height}"
