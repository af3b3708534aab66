"""Which options fit into a memory: those tried in the order of what they cost, the first that fits is taken.

An option that saves memory is one line of `changes`: its values from the one that costs least. What the user asked for stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from fcacli.config import FCAConfig, TrainConfig
from fcacli.planning.memory import Memory

CONTEXT = 600_000_000
"""Bytes that CUDA's context and the libraries' workspaces take of a device besides tensors: assumed, no card was measured."""
FRAGMENTATION = 0.05
"""Share of the tensors' peak that the caching allocator holds besides, in blocks that nothing fits into: assumed."""

Changes = dict[str, Any]
"""Names and values as TrainOptions has them."""


@dataclass(frozen=True)
class Tried:
    """One set of options."""

    changes: Changes
    config: TrainConfig
    memory: Memory


def card_for(tensors: int, context: int = CONTEXT) -> int:
    """Bytes that a device must have for a peak of so many bytes of tensors."""
    return round(tensors * (1 + FRAGMENTATION)) + context


def choose(
    config: TrainConfig, asked: Set[str], head_dim: int, plan: Callable[[TrainConfig], Memory], fits: Callable[[Memory], bool]
) -> list[Tried]:
    """Those tried, up to the first that fits; where none does, all.

    Args:
        asked: names of options that stay as they are.
        head_dim: of the base; an adapter's width is a multiple of it.
    """
    tried = []
    for changes in candidates(config, asked, head_dim):
        changed = apply(config, changes)
        tried.append(Tried(changes, changed, plan(changed)))
        if fits(tried[-1].memory):
            break
    return tried


def candidates(config: TrainConfig, asked: Set[str], head_dim: int) -> Iterator[Changes]:
    """Sets of options, the cheapest first: a narrower adapter only where nothing else suffices, for it is another adapter;
    then the optimizer in 8 bits; smaller batches, more of them for a step, and recomputing activations only take time."""
    adapters: list[Changes] = [{}]
    if isinstance(config.adapter, FCAConfig) and "adapter_width" not in asked:
        narrower = {config.adapter.width // part // head_dim * head_dim for part in (2, 4)}
        adapters += [{"adapter_width": width} for width in sorted(narrower, reverse=True) if width > 0]
    optimizers: list[Changes] = [{}]
    if config.optimizer == "adamw" and "optimizer" not in asked:
        optimizers.append({"optimizer": "adamw8bit"})
    batches: list[Changes] = [{}]
    if not asked & {"batch_size", "accumulate"}:
        sizes = [size for size in range(config.batch_size - 1, 0, -1) if config.batch_size % size == 0]
        batches += [{"batch_size": size, "accumulate": config.accumulate * config.batch_size // size} for size in sizes]
    recomputing: list[Changes] = [{}]
    if "checkpointing" not in asked:
        recomputing = [{"checkpointing": False}, {"checkpointing": True}]
    for parts in product(adapters, optimizers, batches, recomputing):
        yield {name: value for part in parts for name, value in part.items()}


def apply(config: TrainConfig, changes: Changes) -> TrainConfig:
    """The configuration with these options."""
    own = {name: value for name, value in changes.items() if name != "adapter_width"}
    if "adapter_width" in changes:
        own["adapter"] = replace(config.adapter, width=changes["adapter_width"])  # type: ignore[call-arg]
    return replace(config, **own)
