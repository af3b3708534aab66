"""Prepared clips as training and evaluation see them: sampled pixels, and encoded samples with their batches and order.

Shapes: T pixel frames, F latent frames, F0 those of the initial frames alone, P patches, L text tokens, B batch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch.utils.data import Dataset

from fcacli.config import ClipConfig
from fcacli.data.cache import EncodedStore, caption_key, encode_key
from fcacli.data.decode import Track, Unreadable, frames_of, resize, sample_indices
from fcacli.data.manifest import Clip, Split, read_split
from fcacli.errors import FcaError
from fcacli.events import Message, Report, silent

CLIP_TENSORS = ("latents", "init_latents", "image")
CAPTION_TENSORS = ("text", "mask")


class Sample(TypedDict):
    """One encoded clip."""

    id: str
    latents: torch.Tensor
    """(F, C, h, w), of all T frames."""
    init_latents: torch.Tensor
    """(F0, C, h, w), of the initial frames encoded alone."""
    image: torch.Tensor
    """(P, d_image), patch features of the initial frames."""
    text: torch.Tensor
    """(L, d_text)"""
    text_mask: torch.Tensor
    """(L,) bool, true for words."""


class Batch(TypedDict):
    """Encoded clips, stacked: each tensor of `Sample` with B in front."""

    ids: list[str]
    latents: torch.Tensor
    init_latents: torch.Tensor
    image: torch.Tensor
    text: torch.Tensor
    text_mask: torch.Tensor


def usable_clips(dataset: Path, split: Split, frames: int, report: Report = silent) -> list[Clip]:
    """The clips of a split that have at least `frames` frames; how many have not is reported.

    Raises:
        FcaError: the dataset is not prepared, or no clip of this split is long enough.
    """
    clips = read_split(dataset, split)
    if not clips:
        raise FcaError(f"{dataset} holds no {split} clips", "run fca prepare again without --split")
    long = [clip for clip in clips if clip.frames >= frames]
    if not long:
        most = max(clip.frames for clip in clips)
        raise FcaError(
            f"no {split} clip of {dataset} has the {frames} frames needed, the longest has {most}", f"--frames {most} or fewer"
        )
    if short := len(clips) - len(long):
        report(Message(f"{short} of {len(clips)} {split} clips have fewer than {frames} frames and are left out", "warning"))
    return long


def sample_frames(dataset: Path, split: Split, clip: Clip, config: ClipConfig) -> np.ndarray:
    """The pixels of a clip for training and as the truth of an evaluation: uint8 (T, H, W, 3).

    T frames at equal spacing in time over the whole clip, the nearest ones, brought to W x H; those of index below
    `config.init_frames` are the given ones.

    Raises:
        FcaError: the clip has fewer frames, or its file does not hold what the manifest says.
    """
    path = dataset / split / clip.file_name
    try:
        chosen = sample_indices(clip.frame_times, config.frames)
    except FcaError as error:
        raise FcaError(f"clip {clip.id}: {error.message}", error.hint) from None
    wanted, kept, track = set(chosen), {}, Track()
    for index, frame in enumerate(frames_of(path, track)):
        if index in wanted:
            kept[index] = frame
    if track.problem or len(track.stamps) != clip.frames:
        reason = track.problem or f"{len(track.stamps)} frames decode, {clip.frames} were stored"
        raise FcaError(Unreadable(path, reason).message, "delete that file and run fca prepare again")
    return resize(np.stack([kept[index] for index in chosen]), config.width, config.height, config.fit)


class EncodedClips(Dataset[Sample]):
    """Clips from an `EncodedStore`, in the order of `clips`."""

    def __init__(self, store: EncodedStore, clips: Sequence[Clip], clip_config: ClipConfig, fingerprint: str):
        self.store = store
        self.ids = [clip.id for clip in clips]
        self.clip_keys = [encode_key(clip.content, clip_config, fingerprint) for clip in clips]
        self.caption_keys = [caption_key(clip.text, fingerprint) for clip in clips]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Raises FcaError if the clip or its caption is not (or no longer) encoded."""
        clip = self._entry(index, self.clip_keys[index], CLIP_TENSORS)
        caption = self._entry(index, self.caption_keys[index], CAPTION_TENSORS)
        return Sample(
            id=self.ids[index],
            latents=clip["latents"],
            init_latents=clip["init_latents"],
            image=clip["image"],
            text=caption["text"],
            text_mask=caption["mask"].bool(),
        )

    def _entry(self, index: int, key: str, names: Sequence[str]) -> dict[str, torch.Tensor]:
        entry = self.store.get(key)
        if entry is None or any(name not in entry for name in names):
            raise FcaError(
                f"clip {self.ids[index]} is not encoded (any more): {self.store.path(key)} is missing or damaged",
                "fca train encodes it again and goes on",
            )
        return entry


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of equal shapes."""
    return Batch(
        ids=[sample["id"] for sample in samples],
        latents=torch.stack([sample["latents"] for sample in samples]),
        init_latents=torch.stack([sample["init_latents"] for sample in samples]),
        image=torch.stack([sample["image"] for sample in samples]),
        text=torch.stack([sample["text"] for sample in samples]),
        text_mask=torch.stack([sample["text_mask"] for sample in samples]),
    )


def order(seed: int, epoch: int, n: int) -> list[int]:
    """The permutation of n samples in one epoch: a pure function of its arguments, so that a resumed run goes on in it."""
    return [int(index) for index in np.random.default_rng([seed, epoch]).permutation(n)]
