"""Encoded clips and captions: entries of tensors, named by a hash of all that decides them, in shards of safetensors.

    <folder>/<kind>/<hash of its keys>.safetensors        see shard.py

    videos           latents (F, C, h, w), init_latents (F0, C, h, w), as the VAE gave them
    images           image (P, d_image)                       as in a prediction, or packed (eightbit.py)
    captions         text (L, d_text), mask (L,)              likewise; one for all clips with that caption

A shard that is cut short or damaged counts as missing. What an entry is called depends on contents, never on file names.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from fcacli.config import ClipConfig
from fcacli.data.shard import Damaged, Row, Shard, create, row_bytes
from fcacli.errors import FcaError

VERSION = 2
"""Of the preprocessing; raise it whenever equal inputs give other tensors."""
SHARD_BYTES = 1 << 28
"""About as many bytes has a full shard."""

Keys = np.ndarray
"""(n,) uint64; among a million entries two agree with a probability of 3e-8."""


def encode_key(content: str, clip: ClipConfig, base_fingerprint: str, version: int = VERSION) -> int:
    """Key of a clip: the stored pixels, how they are sampled and resized, and what encodes them."""
    shape = [clip.frames, clip.init_frames, clip.width, clip.height, clip.fit]
    return _hash(["clip", version, content, shape, base_fingerprint])


def caption_key(text: str, base_fingerprint: str, version: int = VERSION) -> int:
    """Key of a caption."""
    return _hash(["caption", version, text, base_fingerprint])


class EncodedStore:
    """A folder of shards. One process at a time writes; others may read what is done."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._shards: dict[str, list[Shard]] = {}
        self._rows: dict[str, tuple[Keys, np.ndarray, np.ndarray]] = {}  # keys in order, and where each lies

    def missing(self, kind: str, keys: Keys) -> np.ndarray:
        """Places in `keys` of those that are not there, each key once, in order."""
        _, first = np.unique(keys, return_index=True)
        first.sort()
        there = [shard.keys[shard.done] for shard in self._opened(kind)]
        return first[~np.isin(keys[first], np.concatenate([np.empty(0, np.uint64), *there]))]

    def unreserved(self, kind: str, keys: Keys) -> Keys:
        """Those of distinct `keys` for which there is no room yet."""
        return keys[~np.isin(keys, np.concatenate([np.empty(0, np.uint64), *[shard.keys for shard in self._opened(kind)]]))]

    def reserve(self, kind: str, keys: Keys, row: Row) -> None:
        """Make room on the disk for entries of distinct keys that have none; what is damaged makes way.

        Raises:
            FcaError: there is no room, or the folder cannot be written.
        """
        shards = self._opened(kind)
        for path in (self.folder / kind).glob("[!.]*.safetensors"):
            if path not in [shard.path for shard in shards]:
                path.unlink(missing_ok=True)
        count = max(1, SHARD_BYTES // row_bytes(row))
        for part in (keys[at : at + count] for at in range(0, len(keys), count)):
            path = self.folder / kind / f"{hashlib.sha256(part.tobytes()).hexdigest()[:16]}.safetensors"
            create(path, part, row)
            shards.append(Shard(path))
        self._rows.pop(kind, None)

    def put(self, kind: str, entries: Mapping[int, Mapping[str, torch.Tensor]]) -> None:
        """Write entries by key into the room reserved for them.

        Raises:
            FcaError: the disk is full or read-only.
        """
        shards = self._opened(kind)
        rows: dict[int, dict[int, Mapping[str, torch.Tensor]]] = {}
        for key, entry in entries.items():
            shard, row = self._place(kind, key)
            rows.setdefault(shard, {})[row] = entry
        for number, written in rows.items():
            try:
                shards[number].write(written)
            except OSError as error:
                hint = "free some space there and run the same command: it goes on"
                raise FcaError(f"cannot write {shards[number].path}: {error.strerror or error}", hint) from error

    def has(self, kind: str, key: int) -> bool:
        return len(self.missing(kind, np.array([key], np.uint64))) == 0

    def get(self, kind: str, key: int) -> dict[str, torch.Tensor] | None:
        """The entry's tensors, on the CPU; None if it is missing or damaged."""
        try:
            number, row = self._place(kind, key)
            shard = self._opened(kind)[number]
            return shard.row(row) if shard.done[row] else None
        except (KeyError, Damaged):
            return None

    def _opened(self, kind: str) -> list[Shard]:
        if kind not in self._shards:
            self._shards[kind] = []
            for path in sorted((self.folder / kind).glob("[!.]*.safetensors")):
                try:
                    self._shards[kind].append(Shard(path))
                except Damaged:
                    continue
        return self._shards[kind]

    def _place(self, kind: str, key: int) -> tuple[int, int]:
        """Shard and row of a key, where it is done if it is done anywhere.

        Raises:
            KeyError: it has none.
        """
        if kind not in self._rows:
            shards = self._opened(kind)
            keys = np.concatenate([np.empty(0, np.uint64), *[shard.keys for shard in shards]])
            done = np.concatenate([np.empty(0, bool), *[shard.done for shard in shards]])
            number = np.repeat(np.arange(len(shards)), [len(shard.keys) for shard in shards])
            row = np.concatenate([np.empty(0, np.int64), *[np.arange(len(shard.keys)) for shard in shards]])
            order = np.lexsort((~done, keys))
            self._rows[kind] = keys[order], number[order], row[order]
        keys, number, row = self._rows[kind]
        at = int(np.searchsorted(keys, np.uint64(key)))
        if at == len(keys) or keys[at] != np.uint64(key):
            raise KeyError(key)
        return int(number[at]), int(row[at])


def _hash(value: list) -> int:
    return int.from_bytes(hashlib.sha256(json.dumps(value, ensure_ascii=True).encode()).digest()[:8], "little")
