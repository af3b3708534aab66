"""What the encodings of a dataset will take on the disk, before one is made, and which of them are kept.

Latents are kept as they are. Captions and image features of train clips are kept in 8 bits (data/eightbit.py); those of the
few val clips that a training uses are kept exactly, so that its validation clips are what `fca predict` gives. Where all
would take more than BUDGET, image features of train clips are not kept but computed while training, from the given frames,
which are kept as pictures (data/picture.py).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from fcacli.config import ClipConfig
from fcacli.data.dataset import Images
from fcacli.data.eightbit import has_factors, packed_shapes
from fcacli.data.picture import picture_bytes
from fcacli.data.shard import Row, row_bytes
from fcacli.model.bases.frames import latent_frames

if TYPE_CHECKING:
    from fcacli.model.bases.cogvideox import CogVideoX

BUDGET = 100e9
"""Bytes."""
SAID = {
    "videos": "latents",
    "captions": "captions in 8 bits",
    "images": "image features in 8 bits",
    "frames": "given frames",
}


@dataclass(frozen=True)
class Counts:
    """Distinct entries."""

    train_clips: int
    train_captions: int
    val_clips: int = 0
    val_captions: int = 1
    """With the empty one."""


@dataclass(frozen=True)
class Plan:
    """Entries by kind: how many there will be, and what one is."""

    counts: dict[str, int]
    rows: dict[str, Row]
    images: Images
    """Of train clips."""
    images_stored: int
    """Bytes that image features of train clips take, or would."""

    def bytes(self, kind: str) -> int:
        return self.counts[kind] * row_bytes(self.rows[kind])

    @property
    def total(self) -> int:
        """Bytes."""
        return sum(self.bytes(kind) for kind in self.counts)

    def said(self) -> str:
        """The sizes for a person."""
        kept = {
            "latents": "videos",
            "captions in 8 bits": "captions",
            "image features in 8 bits": "images",
            "given frames": "frames",
        }
        listed = [f"{name} {gigabytes(self.bytes(kind))}" for name, kind in kept.items() if self.counts.get(kind)]
        exact = sum(self.bytes(kind) for kind in self.counts if kind.endswith("-exact"))
        listed.append(f"exact ones for validation {gigabytes(exact)}")
        if self.images == "frames":
            listed.append(
                f"image features are computed from these while training, kept they would take {gigabytes(self.images_stored)}"
            )
        return f"{gigabytes(self.total)}: {', '.join(listed)}"


def plan(base: "CogVideoX", clip: ClipConfig, counts: Counts) -> Plan:
    """The plan for a base at a clip size; no weights are loaded.

    Raises:
        Misuse: the clip does not fit the base.
    """
    dtype, shape = base.dtype, base.latent_shape(clip)
    encoder = base.config("image_encoder")
    patches = clip.init_frames * (encoder["image_size"] // encoder["patch_size"]) ** 2
    length, d_text = base.text_length, base.config("transformer")["text_embed_dim"]
    mask: Row = {"mask": (torch.bool, (length,))}
    factors = has_factors(length, d_text)
    rows: dict[str, Row] = {
        "videos": {"latents": (dtype, shape), "init_latents": (dtype, (latent_frames(clip.init_frames), *shape[1:]))},
        "captions-exact": {"text": (dtype, (length, d_text)), **mask},
        "images-exact": {"image": (dtype, (patches, encoder["hidden_size"]))},
        "captions": {**_named("text", packed_shapes(length, d_text, factors)), **mask},
        "frames": {"jpeg": (torch.uint8, (clip.init_frames, picture_bytes(clip.width, clip.height)))},
        "images": _named("image", packed_shapes(patches, encoder["hidden_size"], False)),
    }
    amounts = {
        "videos": counts.train_clips + counts.val_clips,
        "captions-exact": counts.val_captions,
        "images-exact": counts.val_clips,
        "captions": counts.train_captions,
        "images": counts.train_clips,
    }
    whole = Plan(amounts, rows, "packed", amounts["images"] * row_bytes(rows["images"]))
    if whole.total <= BUDGET:
        return whole
    return Plan({**amounts, "images": 0, "frames": counts.train_clips}, rows, "frames", whole.images_stored)


def _named(name: str, packed: Row) -> Row:
    return {f"{name}.{part}": about for part, about in packed.items()}


def gigabytes(size: int) -> str:
    """A number of bytes for a person."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
