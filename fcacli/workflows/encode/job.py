"""What `encode` has to do: which entries are missing, and how each kind of them is made."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fcacli.config import ClipConfig
from fcacli.data.cache import EncodedStore, Keys, caption_key, encode_key
from fcacli.data.dataset import given_frames, kind_of, sample_frames
from fcacli.data.eightbit import pack, pack_text
from fcacli.data.manifest import Clip, Clips, Split
from fcacli.data.picture import pack_frames
from fcacli.errors import FcaError
from fcacli.events import Message, Progress, Report
from fcacli.training.team import Team
from fcacli.workflows.encode.batches import Made, Make, ahead, batches_of, in_batches, pack_entries, say_error, shared
from fcacli.workflows.encode.plan import Counts, Plan

if TYPE_CHECKING:
    from fcacli.model.bases.cogvideox import CogVideoX

SMALLER = "a smaller --size or --frames, or --gpus 0, where main memory is larger; one clip alone does not fit"

Chosen = dict[Split, Clips]
Load = Callable[[Path, Split, Clip, ClipConfig], np.ndarray]
Compute = Callable[[np.ndarray], dict[str, Tensor]]


def encoder_id(base: "CogVideoX") -> str:
    """What decides the encodings besides their input: the base's files and its arithmetic."""
    return f"{base.fingerprint}-{str(base.dtype).removeprefix('torch.')}"


def keys_of(clips: Clips, clip_config: ClipConfig, encoder: str) -> tuple[Keys, Keys]:
    """Keys of clips and of their captions, (n,) each."""
    keys = np.empty((2, len(clips)), np.uint64)
    for index, clip in enumerate(clips):
        keys[:, index] = encode_key(clip.content, clip_config, encoder), caption_key(clip.text, encoder)
    return keys[0], keys[1]


def counts_of(keys: dict[Split, tuple[Keys, Keys]]) -> Counts:
    """Distinct entries of the keys of `keys_of`."""
    (clips, captions), (val_clips, val_captions) = (
        [len(np.unique(part)) for part in keys[split]] for split in ("train", "val")
    )
    return Counts(clips, captions, val_clips, val_captions + 1)


@dataclass(kw_only=True)
class Job:
    """One call of `encode`; its methods are called by all processes of the team."""

    base: "CogVideoX"
    dataset: Path
    clips: Chosen
    clip_config: ClipConfig
    store: EncodedStore
    """Read and written by the main process."""
    keys: dict[Split, tuple[Keys, Keys]]
    plan: Plan
    null: int
    """Key of the empty caption."""
    team: Team
    report: Report

    def __post_init__(self) -> None:
        self.lost: set[int] = set()
        """Keys of clips whose video cannot be read; known to the main process."""
        self._size = batches_of(self.base.device.type, self.clip_config)

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
        packed, clips, keys = split == "train", self.clips[split], self.keys[split][1]
        if not packed:
            keys = np.concatenate([keys, np.array([self.null], np.uint64)])
        size = self._size["captions"] if packed else 1

        def make(batches: Sequence[list[int]]) -> Generator[Made, None, None]:
            for batch in batches:
                asked = [clips[at].text if at < len(clips) else "" for at in batch]
                asked += [""] * (size - len(asked) if packed else 1)
                features, masks = in_batches(
                    self.base.encode_text, asked, "encode captions", "--gpus 0, where main memory is larger"
                )
                made = Made()
                features = features[: len(batch)]
                entries = pack_entries("text", features, pack_text, made) if packed else [{"text": features[0]}]
                for at, entry, mask in zip(batch, entries, masks, strict=False):
                    made.add(int(keys[at]), {**entry, "mask": mask})
                yield made

        self._share(kind_of("captions", packed), f"encode captions{_of(split)}", keys, size, make, "captions")

    def videos(self, split: Split) -> None:
        """Latents of all frames, and of the given ones alone."""
        given = self.clip_config.init_frames

        def compute(frames: np.ndarray) -> dict[str, Tensor]:
            return {"latents": self.base.encode_video(frames), "init_latents": self.base.encode_init(frames[:, :given])}

        self._clips("videos", split, "videos", sample_frames, compute)

    def images(self, split: Split) -> None:
        """Features of the given frames, or pictures of these."""
        packed = split == "train"
        if packed and self.plan.images == "frames":
            self._clips("frames", split, "images", _pictures, _as_picture)
            return

        def compute(frames: np.ndarray) -> dict[str, Tensor]:
            features = self.base.encode_image(frames.reshape(-1, *frames.shape[2:]))  # (B * P, d_image)
            return {"image": features.unflatten(0, (len(frames), -1))}

        self._clips(kind_of("images", packed), split, "images", given_frames, compute, packed="image" if packed else "")

    def _clips(self, kind: str, split: Split, what: str, load: Load, compute: Compute, packed: str = "") -> None:
        """Encode the clips of a split that are missing; the tensor named `packed` in 8 bits.

        Train clips in batches, val clips one by one, as prediction does it.
        """
        phase, size = f"encode {what}{_of(split)}", self._size[what] if split == "train" else 1
        keys, clips = self.keys[split][0], self.clips[split]

        def decoded(at: int) -> np.ndarray:
            return load(self.dataset, split, clips[at], self.clip_config)

        def make(batches: Sequence[list[int]]) -> Generator[Made, None, None]:
            with closing(ahead(decoded, [at for batch in batches for at in batch])) as loaded:
                for batch in batches:
                    made, read = Made(), {}
                    for at, found in islice(loaded, len(batch)):
                        if isinstance(found, FcaError):
                            made.faults[int(keys[at])] = found.message
                        else:
                            read[int(keys[at])] = found
                    if read:
                        self._encode(read, size, compute, phase, packed, made)
                    yield made

        self._share(kind, phase, keys, size, make, "image features")

    def _encode(self, read: dict[int, np.ndarray], size: int, compute: Compute, phase: str, packed: str, made: Made) -> None:
        """A batch of frames by key, filled up to `size` with the last."""
        frames = list(read.values())
        tensors = in_batches(compute, np.stack(frames + frames[-1:] * (size - len(frames))), phase, SMALLER)
        if packed:
            entries = pack_entries(packed, tensors[packed][: len(read)], pack, made)
        else:
            entries = [{name: value[at] for name, value in tensors.items()} for at in range(len(read))]
        for key, entry in zip(read, entries, strict=True):
            made.add(key, entry)

    def _share(self, kind: str, phase: str, keys: Keys, size: int, make: Make, what: str) -> None:
        """Each process makes its batches of what is missing; the main one writes and says how far they are.

        Args:
            keys: of what may be missing.
            size: of a batch.
            what: is packed, if anything is.
        """
        missing = self.team.by_main(self._missing, kind, keys)
        if not missing:
            return
        total, errors = len(np.unique(keys)), list[np.ndarray]()
        done = total - len(missing)
        self.report(Progress(phase, done, total))
        for made in shared([missing[at : at + size] for at in range(0, len(missing), size)], make, self.team):
            for key, reason in made.faults.items():
                self.report(Message(f"{reason}; left out", "warning"))
                self.lost.add(key)
            self.store.put(kind, made.entries)
            errors += made.errors
            done += len(made.entries) + len(made.faults)
            self.report(Progress(phase, done, total))
        say_error(what, errors, self.report)

    def _missing(self, kind: str, keys: Keys) -> list[int]:
        """Places in `keys`, each key once."""
        missing = self.store.missing(kind, keys)
        return [int(at) for at in missing if int(keys[at]) not in self.lost]


def _pictures(dataset: Path, split: Split, clip: Clip, clip_config: ClipConfig) -> np.ndarray:
    """A clip's given frames as they are kept, uint8 (T0, bytes)."""
    return pack_frames(given_frames(dataset, split, clip, clip_config))


def _as_picture(pictures: np.ndarray) -> dict[str, Tensor]:
    return {"jpeg": torch.from_numpy(pictures)}


def _of(split: Split) -> str:
    return "" if split == "train" else f" of {split}"
