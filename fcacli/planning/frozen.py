"""What the frozen transformer takes besides what is traced: blocks that are elsewhere, and loading it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fcacli.config import Keeping
from fcacli.model.frozen_memory import frozen_bytes
from fcacli.planning.shaped import ShapedBase


@dataclass(frozen=True)
class Elsewhere:
    """Bytes."""

    gone: int
    """Of the transformer that are not on the device."""
    passing: int
    """On the device at most, of those that visit it."""
    host: int
    """In main memory."""


def elsewhere(base: ShapedBase, keeping: Keeping) -> Elsewhere:
    """Against the same base on one device, of which no block waits; computed, for blocks that differ do not continue in
    straight lines.

    Raises:
        Misuse: there are fewer blocks.
    """
    base.keep(keeping)
    if not keeping.block_swap and keeping.shards == 1:
        return Elsewhere(0, 0, 0)
    kept, whole = (frozen_bytes(base.shapes, one, base.dtype) for one in (keeping, replace(keeping, block_swap=0, shards=1)))
    return Elsewhere(whole.device - kept.device, kept.passing - whole.passing, kept.host)


def as_loaded(base: ShapedBase) -> int:
    """Bytes of the transformer as it is read into main memory, before it is kept in any other way."""
    return frozen_bytes(base.shapes, Keeping(), base.dtype).device
