"""Encoded clips and captions as safetensors, named by a hash of all that decides them, never by the clip's file name.

    <folder>/<first two letters>/<key>.safetensors

An entry is a dictionary of tensors and may be completed by and by: the VAE, the text encoder and the image encoder take
turns in memory. A file that is cut short or damaged counts as missing.

    clip entry       latents (F, C, h, w), init_latents (F0, C, h, w), image (P, d_image)
    caption entry    text (L, d_text), mask (L,)                           one for all clips with that caption
"""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fcacli.config import ClipConfig
from fcacli.errors import FcaError
from fcacli.workspace import atomic_file

VERSION = 1
"""Of the preprocessing; raise it whenever equal inputs give other tensors."""
HEADER_LIMIT = 1 << 20
"""Bytes of a header that this module would have written; a longer one is damage."""


def encode_key(content: str, clip: ClipConfig, base_fingerprint: str, version: int = VERSION) -> str:
    """Key of a clip entry: the stored pixels, how they are sampled and resized, and what encodes them."""
    shape = [clip.frames, clip.init_frames, clip.width, clip.height, clip.fit]
    return _hash(["clip", version, content, shape, base_fingerprint])


def caption_key(text: str, base_fingerprint: str, version: int = VERSION) -> str:
    """Key of a caption entry."""
    return _hash(["caption", version, text, base_fingerprint])


class EncodedStore:
    """A folder of entries; safe for several writers, a write is whole or not there."""

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def has(self, key: str, *names: str) -> bool:
        """Whether the entry is there, undamaged by its header and length, with all of `names`."""
        header = self._header(key)
        return header is not None and all(name in header for name in names)

    def get(self, key: str) -> dict[str, torch.Tensor] | None:
        """The entry's tensors, on the CPU; None if it is missing or damaged."""
        if self._header(key) is None:
            return None
        try:
            return load_file(self.path(key))
        except (SafetensorError, OSError):
            return None

    def put(self, key: str, tensors: dict[str, torch.Tensor]) -> None:
        """Write `tensors`, in their own dtype, beside those that the entry has already.

        Raises:
            FcaError: the disk is full or read-only.
        """
        entry = {**(self.get(key) or {}), **tensors}
        with atomic_file(self.path(key)) as temporary:
            try:
                save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in entry.items()}, temporary)
            except SafetensorError as error:  # wraps what the file system said
                hint = "free some space there and run the same command: it goes on"
                raise FcaError(f"cannot write {self.path(key)}: {error}", hint) from error

    def _header(self, key: str) -> dict[str, dict] | None:
        """Tensor descriptions by name, if the file is as long as they say."""
        path = self.path(key)
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                if not 0 < length <= HEADER_LIMIT:
                    return None
                header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            end = max(description["data_offsets"][1] for description in header.values())
            return header if path.stat().st_size == 8 + length + end else None
        except (OSError, ValueError, AttributeError, KeyError, TypeError, IndexError):
            return None


def _hash(value: list) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=True).encode()).hexdigest()
