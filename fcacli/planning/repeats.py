"""A part that is called again and again on tensors of few shapes, as the VAE's encoder and decoder are on pieces of a video:
a call like an earlier one is not traced, what it took is counted again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from fcacli.planning.live import Meter


@dataclass(frozen=True)
class Call:
    """What a call took and gave."""

    peak: int
    """Bytes above those that were there when it began."""
    results: tuple[tuple[Any, Any, torch.dtype], ...]
    """Shape, stride and type of each tensor."""
    structure: Any
    """How they are nested."""


def trace_once(module: nn.Module, meter: Meter) -> None:
    """From now on `module` is traced once for each set of shapes. For fake tensors, without gradients; its callers keep the
    inputs of a call until it ends."""
    known: dict[Any, Call | None] = {}
    inner = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        leaves, structure = tree_flatten((args, kwargs))
        key = (str(structure), *[_like(leaf) for leaf in leaves])
        if (call := known.get(key)) is None:
            known[key], given = _traced(
                lambda: inner(*args, **kwargs), [_memory(x) for x in leaves if isinstance(x, Tensor)], meter
            )
            return given
        meter.passing(call.peak)
        made = [torch.empty_strided(shape, stride, dtype=dtype) for shape, stride, dtype in call.results]
        return tree_unflatten(made, call.structure)

    module.forward = forward


def _like(leaf: Any) -> Any:
    return (leaf.shape, leaf.stride(), leaf.dtype) if isinstance(leaf, Tensor) else leaf


def _traced(work: Callable[[], Any], there: Sequence[int], meter: Meter) -> tuple[Call | None, Any]:
    """The call, unless it gives back what was `there`, or parts of something larger; and what it gave."""
    before = meter.now
    with meter.apart() as apart:
        given = work()
    leaves, structure = tree_flatten(given)
    if not all(isinstance(leaf, Tensor) for leaf in leaves):
        return None, given
    results = tuple((tuple(leaf.shape), leaf.stride(), leaf.dtype) for leaf in leaves)
    memories = {_memory(leaf): leaf.untyped_storage().nbytes() for leaf in leaves}
    own = len(memories) == len(leaves) and not memories.keys() & set(there)
    whole = sum(memories.values()) == sum(leaf.nbytes for leaf in leaves)
    return Call(apart.peak - before, results, structure) if own and whole else None, given


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
