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
from torch import Tensor

from fcacli.config import ClipConfig
from fcacli.data.cache import EncodedStore, caption_key
from fcacli.data.dataset import EncodedClips, Images, drawn, kind_of, unpacked, usable_clips
from fcacli.data.manifest import Split, read_split
from fcacli.errors import FcaError
from fcacli.events import Report, silent
from fcacli.training.team import ALONE, Team
from fcacli.workflows.encode.job import Chosen, Job, counts_of, encoder_id, keys_of
from fcacli.workflows.encode.plan import plan
from fcacli.workflows.encode.room import make_room, remove_old_entries
from fcacli.workflows.lock import locked
from fcacli.workspace import remove_leftovers

if TYPE_CHECKING:
    from fcacli.model.bases.cogvideox import CogVideoX
    from fcacli.model.conditioning import Given

HELD_OUT = 32
"""Clips of the val split that are used in training, for the held-out loss; the first of them are the validation clips."""


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


def choose_clips(dataset: Path, clip_config: ClipConfig, report: Report = silent, first: bool = False) -> Chosen:
    """The clips that training uses: the train split, and some of the val split, each long enough.

    Args:
        first: take the first of val, as runs of earlier versions do; else they are drawn, the same ones for every run.

    Raises:
        FcaError: nothing is prepared, or no train clip is long enough.
    """
    train = usable_clips(dataset, "train", clip_config.frames, report)
    held_out = read_split(dataset, "val", lambda clip: clip.frames >= clip_config.frames)
    return {"train": train, "val": held_out[:HELD_OUT] if first else held_out[drawn(len(held_out))[::-1][:HELD_OUT]]}


@contextmanager
def encoding(dataset: Path, report: Report) -> Iterator[None]:
    """Hold the dataset against `fca prepare` and other processes that encode it, after waiting for these; then nothing
    that lies half-written in its cache is anyone's."""
    with locked(dataset, f"{dataset} is being prepared or encoded", waiting=report):
        remove_leftovers(dataset / "cache", "videos", "captions*", "images*", "frames")  # not where an evaluation writes
        yield


def encode(
    base: "CogVideoX",
    dataset: Path,
    clips: Chosen,
    clip_config: ClipConfig,
    report: Report = silent,
    team: Team = ALONE,
) -> Encoded:
    """Encode what is not encoded yet: captions, then videos with their initial frames alone, then image features.

    Each process of the team takes its share of the batches, the main one writes: file for file what one process leaves. A clip
    whose video is missing or damaged is named and left out.

    Raises:
        FcaError: no train clip is left, there is no room for the cache, or it cannot be written.
    """
    job = _job(base, dataset, clips, clip_config, team, report)
    team.by_main(_prepare, job)
    for encode_split, parts in (
        (job.captions, ("text_encoder", "tokenizer")),
        (job.videos, ("vae",)),
        (job.images, ("image_encoder",)),
    ):
        for split in clips:
            encode_split(split)
        base.unload(*parts)
    lost = np.array(team.by_main(sorted, job.lost), np.uint64)
    kept = {split: clips[split][np.flatnonzero(~np.isin(job.keys[split][0], lost))] for split in clips}
    if not len(kept["train"]):
        raise FcaError(f"none of the {len(clips['train'])} train clips of {dataset} can be read", "fca prepare ssv2 ./raw")
    left_out = [clips[split][int(at)].id for split in clips for at in np.flatnonzero(np.isin(job.keys[split][0], lost))]
    store = job.store if team.main else EncodedStore(job.store.folder)  # opened after the main process has written
    return Encoded(store, encoder_id(base), clip_config, kept, job.plan.images, base.encode_image, left_out)


def all_encoded(base: "CogVideoX", dataset: Path, clip_config: ClipConfig) -> bool:
    """Whether `encode` would find all done.

    Raises:
        FcaError: as `choose_clips`.
    """
    job = _job(base, dataset, choose_clips(dataset, clip_config), clip_config, ALONE, silent)
    return not any(len(job.store.missing(kind, keys)) for kind, keys in job.wanted().items())


def _job(base: "CogVideoX", dataset: Path, clips: Chosen, clip_config: ClipConfig, team: Team, report: Report) -> Job:
    encoder = encoder_id(base)
    keys = {split: keys_of(clips[split], clip_config, encoder) for split in clips}
    return Job(
        base=base,
        dataset=dataset,
        clips=clips,
        clip_config=clip_config,
        store=EncodedStore(dataset / "cache"),
        keys=keys,
        plan=plan(base, clip_config, counts_of(keys)),
        null=caption_key("", encoder),
        team=team,
        report=report,
    )


def _prepare(job: Job) -> None:
    """Room for all that is missing."""
    remove_old_entries(job.store.folder, job.report)
    clip = job.clip_config
    what = f"{job.dataset.name} for {job.base.spec.name} at {clip.frames}x{clip.width}x{clip.height}"
    make_room(job.store, job.plan, job.wanted(), what, job.report)
