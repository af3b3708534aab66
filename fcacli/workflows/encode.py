"""The first phase of `fca train`, also `fca prepare --base`: every clip through the base's frozen encoders, once.

One encoder is in memory at a time. Results lie in data/<name>/cache; what is there already is not computed again, so an
interrupted run of this goes on where it was.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from fcacli.config import ClipConfig
from fcacli.data.cache import EncodedStore, caption_key, encode_key
from fcacli.data.dataset import CAPTION_TENSORS, EncodedClips, sample_frames, usable_clips
from fcacli.data.manifest import Clip, Split, read_split
from fcacli.errors import FcaError, naming_memory
from fcacli.events import Message, Report, silent, track
from fcacli.workflows.lock import locked
from fcacli.workspace import remove_leftovers

if TYPE_CHECKING:
    from torch import Tensor

    from fcacli.model.bases.cogvideox import CogVideoX
    from fcacli.model.conditioning import Given

T = TypeVar("T")

HELD_OUT = 32
"""Clips of the val split that are used in training, for the held-out loss and the validation clips."""

SMALLER = "a smaller --size or --frames, or --gpus 0, where main memory is larger; clips are encoded one at a time"

Chosen = dict[Split, list[Clip]]


@dataclass(frozen=True)
class Encoded:
    """The clips of a dataset as one base sees them."""

    store: EncodedStore
    encoder: str
    """Identifies what encoded them, see `encoder_id`."""
    clip_config: ClipConfig
    clips: Chosen
    """Those that are encoded."""
    left_out: list[str]
    """Ids of those whose video could not be read."""

    def dataset(self, split: Split) -> EncodedClips:
        """The encoded samples of a split."""
        return EncodedClips(self.store, self.clips[split], self.clip_config, self.encoder)

    def null(self) -> tuple["Tensor", "Tensor"]:
        """Text (L, d_text) and mask (L,) of the empty caption."""
        entry = self.store.get(caption_key("", self.encoder))
        if entry is None:
            raise FcaError(f"the empty caption is no longer in {self.store.folder}", "fca train encodes it again")
        return entry["text"], entry["mask"].bool()

    def given(self, split: Split, index: int) -> tuple["Given", "Given"]:
        """The conditions of one clip and those with the empty caption, batches of one: what `fca predict` computes afresh."""
        from fcacli.model.conditioning import Given

        sample = self.dataset(split)[index]
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


def choose_clips(dataset: Path, clip_config: ClipConfig, report: Report = silent) -> Chosen:
    """The clips that training uses: the train split, and the first of the val split, each long enough.

    Raises:
        FcaError: nothing is prepared, or no train clip is long enough.
    """
    train = usable_clips(dataset, "train", clip_config.frames, report)
    held_out = [clip for clip in read_split(dataset, "val") if clip.frames >= clip_config.frames]
    return {"train": train, "val": held_out[:HELD_OUT]}


@contextmanager
def encoding(dataset: Path, report: Report) -> Iterator[None]:
    """Hold the dataset against `fca prepare` and other processes that encode it, after waiting for these; then nothing
    that lies half-written in its cache is anyone's."""
    with locked(dataset, f"{dataset} is being prepared or encoded", waiting=report):
        remove_leftovers(dataset / "cache", "??")
        yield


def encode(base: "CogVideoX", dataset: Path, clips: Chosen, clip_config: ClipConfig, report: Report = silent) -> Encoded:
    """Encode what is not encoded yet: captions, then videos with their initial frames alone, then image features.

    A clip whose video is missing or damaged is named and left out.

    Raises:
        FcaError: no train clip is left, or the cache cannot be written.
    """
    store, encoder = EncodedStore(dataset / "cache"), encoder_id(base)
    everything = [(split, clip) for split in clips for clip in clips[split]]
    _encode_captions(base, store, encoder, [clip.text for _, clip in everything], report)
    lost: set[str] = set()

    def encode_clips(phase: str, part: str, names: Sequence[str], compute: Callable[[np.ndarray], dict[str, "Tensor"]]) -> None:
        keys = {encode_key(clip.content, clip_config, encoder): (split, clip) for split, clip in everything}
        missing = {key: clip for key, clip in keys.items() if not store.has(key, *names) and clip[1].content not in lost}
        for key, (split, clip) in _track(missing.items(), len(keys), phase, report):
            try:
                frames = sample_frames(dataset, split, clip, clip_config)
            except FcaError as error:
                report(Message(f"{error.message}; left out", "warning"))
                lost.add(clip.content)
                continue
            with naming_memory(phase, SMALLER):
                store.put(key, compute(frames))
        base.unload(part)

    given = clip_config.init_frames
    encode_clips(
        "encode videos",
        "vae",
        ("latents", "init_latents"),
        lambda frames: {"latents": base.encode_video(frames), "init_latents": base.encode_init(frames[:given])},
    )
    encode_clips("encode images", "image_encoder", ("image",), lambda frames: {"image": base.encode_image(frames[:given])})
    kept = {split: [clip for clip in clips[split] if clip.content not in lost] for split in clips}
    if not kept["train"]:
        raise FcaError(f"none of the {len(clips['train'])} train clips of {dataset} can be read", "fca prepare ssv2 ./raw")
    return Encoded(store, encoder, clip_config, kept, [clip.id for _, clip in everything if clip.content in lost])


def _encode_captions(base: "CogVideoX", store: EncodedStore, encoder: str, captions: Iterable[str], report: Report) -> None:
    """Each caption together with the empty one, as prediction encodes them: the same call gives the same bits."""
    wanted = {caption_key(text, encoder): text for text in ["", *captions]}
    missing = {key: text for key, text in wanted.items() if not store.has(key, *CAPTION_TENSORS)}
    for key, text in _track(missing.items(), len(wanted), "encode captions", report):
        with naming_memory("encode captions", "--gpus 0, where main memory is larger"):
            features, mask = base.encode_text([text, ""])
        which = 0 if text else 1
        store.put(key, {"text": features[which], "mask": mask[which]})
    base.unload("text_encoder", "tokenizer")


def _track(missing: Iterable[T], total: int, phase: str, report: Report) -> Iterable[T]:
    """Progress over what is missing of `total`; silent where nothing is."""
    missing = list(missing)
    return track(missing, report, phase, total=total, done=total - len(missing)) if missing else []
