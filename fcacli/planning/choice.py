"""Which options fit into a memory: levers are pulled in the order of what they cost, then those let go that are not needed.

A lever is one change of the options, one line of `levers`. What the user asked for stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from fcacli.config import FCAConfig, TrainConfig
from fcacli.errors import Misuse
from fcacli.planning.memory import Memory

CONTEXT = 750_000_000
"""Bytes that a process takes of a device besides its tensors: CUDA's context and kernels. 0.69 to 0.76 GB on an H200; cards
with fewer multiprocessors have smaller ones."""
FRAGMENTATION = 0.05
"""Share of the tensors' peak that the caching allocator holds besides, in blocks that nothing fits into: 2 to 7 % of a training
step on an H200, with segments that grow."""

CLOSE = 0.97
"""An estimate that comes so near to what fits is checked by a plan."""
CLOSE_NARROWER = 0.85
"""The same where the adapter is narrower than the traced one: the estimate holds that one's activations, and was 15 % above the
plan of CogVideoX-5B's at a quarter of the width."""

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
    config: TrainConfig,
    asked: Set[str],
    head_dim: int,
    layers: int,
    plan: Callable[[TrainConfig], Memory],
    fits: Callable[[int], bool],
    estimate: Callable[[TrainConfig], int],
    may_share: bool = False,
) -> list[Tried]:
    """Those planned; the last one fits, or none does and it has all levers pulled.

    Plans take time, so few are made: what an estimate finds is planned, which makes the estimate better, until a plan agrees.

    Args:
        asked: names of options that stay as they are.
        head_dim: of the base; an adapter's width is a multiple of it.
        layers: of the base.
        fits: whether so many bytes of tensors do.
        estimate: bytes that would be needed; asked for when one is planned.
        may_share: whether there are several processes that can share the base out.
    """
    search, there = _Search(config, plan, fits, estimate), list(levers(config, asked, head_dim, layers, may_share))
    search.works(there[: 2 if _recomputes(there[1:2]) else 1])
    while (pulled := search.likely_least(there)) is not None and not search.works(pulled):
        pass
    if pulled is None and not search.works(there):
        return search.tried
    pulled = search.checked(there, pulled or there)
    search.works(pulled)  # once more, so that it is the last
    return search.tried


def _recomputes(pulled: Sequence[Changes]) -> bool:
    """Without checkpointing estimates are lower bounds: it is let go only where nothing else is pulled."""
    return any("checkpointing" in lever for lever in pulled)


class _Search:
    """What is known of sets of levers."""

    def __init__(
        self,
        config: TrainConfig,
        plan: Callable[[TrainConfig], Memory],
        fits: Callable[[int], bool],
        estimate: Callable[[TrainConfig], int],
    ):
        self._config, self._plan, self._fits, self._estimate = config, plan, fits, estimate
        self._planned: dict[TrainConfig, Tried] = {}

    @property
    def tried(self) -> list[Tried]:
        """In the order in which they were last looked at."""
        return list(self._planned.values())

    def worth_a_plan(self, pulled: Sequence[Changes]) -> bool:
        """Whether it may fit, though an estimate may say that it just does not."""
        return self.likely(pulled, CLOSE_NARROWER if "adapter_width" in merged(pulled) else CLOSE)

    def works(self, pulled: Sequence[Changes]) -> bool:
        """By a plan; it is the last of those tried then."""
        try:
            changed = apply(self._config, changes := merged(pulled))
        except Misuse:  # some options need others
            return False
        known = self._planned.pop(changed, None)
        self._planned[changed] = found = known or Tried(changes, changed, self._plan(changed))
        return self._fits(found.memory.needed)

    def likely(self, pulled: Sequence[Changes], share: float = 1.0) -> bool:
        """By an estimate of which so much counts; by the plan where there is one."""
        try:
            changed = apply(self._config, merged(pulled))
        except Misuse:
            return False
        if (known := self._planned.get(changed)) is not None:
            return self._fits(known.memory.needed)
        return self._fits(round(self._estimate(changed) * share))

    def likely_least(self, there: list[Changes]) -> list[Changes] | None:
        """The first levers that suffice, without those of them that are not needed."""
        pulled = next((there[:count] for count in range(1, len(there) + 1) if self.likely(there[:count])), None)
        return pulled and self._without_needless(pulled, self.likely)

    def checked(self, there: list[Changes], pulled: list[Changes]) -> list[Changes]:
        """What works with fewer levers than `pulled`, though estimates say that it just does not."""
        shorter = (there[:count] for count in range(2, there.index(pulled[-1]) + 1))
        if (found := next((first for first in shorter if self.worth_a_plan(first) and self.works(first)), None)) is not None:
            fewer = self._without_needless(found, self.likely)
            pulled = fewer if self.works(fewer) else found
        return self._without_needless(pulled, lambda fewer: self.likely(fewer, CLOSE) and self.works(fewer))

    def _without_needless(self, pulled: list[Changes], suffices: Callable[[list[Changes]], bool]) -> list[Changes]:
        """The costliest are let go first."""
        for lever in reversed(pulled[1:-1]):  # without the last one it does not fit
            fewer = [one for one in pulled if one is not lever]
            if not _recomputes([lever]) and merged(fewer) != merged(pulled) and suffices(fewer):
                pulled = fewer
        return pulled


def merged(pulled: Sequence[Changes]) -> Changes:
    return {name: value for lever in pulled for name, value in lever.items()}


def levers(config: TrainConfig, asked: Set[str], head_dim: int, layers: int, may_share: bool = False) -> Iterator[Changes]:
    """What may be changed, the first always, the cheapest first: what only takes time, then fewer bits, then waiting for
    copies; a narrower adapter only where nothing else suffices, for it is another adapter. A base that may be shared out is
    not swapped as well."""
    waiting = config.block_swap or config.offload_activations
    yield {"checkpointing": False} if "checkpointing" not in asked and not waiting else {}
    if "checkpointing" not in asked:
        yield {"checkpointing": True}
    if not asked & {"batch_size", "accumulate"}:
        for size in (size for size in range(config.batch_size - 1, 0, -1) if config.batch_size % size == 0):
            yield {"batch_size": size, "accumulate": config.accumulate * config.batch_size // size}
    share = may_share and not config.shard_base and "shard_base" not in asked and not config.block_swap and not config.compile
    swap = not share and not config.shard_base
    steps: list[tuple[str, Any, bool]] = [
        ("optimizer", "adamw8bit", config.optimizer == "adamw"),
        ("vae_tiling", True, not config.vae_tiling),
        ("weights", "bf16", config.weights == "fp32" and config.precision == "bf16"),
        ("offload_optimizer", True, not config.offload_optimizer and config.optimizer != "paged-adamw8bit"),
        ("shard_base", True, share),
        ("base_weights", "int8", config.base_weights == "full"),
        ("base_weights", "nf4", config.base_weights != "nf4"),
        *(("block_swap", layers * third // 3, swap and config.block_swap < layers * third // 3) for third in (1, 2, 3)),
        ("offload_activations", True, not config.offload_activations),
        ("offload_gradients", True, not config.offload_gradients),
    ]
    for name, value, saves in steps:
        recomputes = config.checkpointing or "checkpointing" not in asked
        if saves and name not in asked and (recomputes or name not in ("block_swap", "offload_activations")):
            yield {name: value}
    if isinstance(config.adapter, FCAConfig) and "adapter_width" not in asked:
        narrower = {config.adapter.width // part // head_dim * head_dim for part in (2, 4)}
        yield from ({"adapter_width": width} for width in sorted(narrower, reverse=True) if width > 0)


def apply(config: TrainConfig, changes: Changes) -> TrainConfig:
    """The configuration with these options."""
    own = {name: value for name, value in changes.items() if name != "adapter_width"}
    if "adapter_width" in changes:
        own["adapter"] = replace(config.adapter, width=changes["adapter_width"])  # type: ignore[call-arg]
    return replace(config, **own)
