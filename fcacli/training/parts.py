"""Parts: trained weights that are stepped at once, side by side in one flat tensor.

FCA has thousands of tensors on a real base, most of them small; an optimizer that goes from one to the next launches a dozen
kernels for each, and bitsandbytes waits for the device after each. In a part they are one tensor. Each begins at a multiple of
BLOCK values, so the blocks of 8-bit state are those of the tensor by itself, and every bit is.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

PART = 2**23
"""Weights of a part; a larger tensor is one by itself."""
BLOCK = 256
"""Weights that share two scales where moments are kept in 8 bits."""
EIGHT_BIT = 4096
"""Weights from which on a tensor's moments may be kept in 8 bits."""
SCALES, TABLES = "absmax", "qmap"
"""How the names begin of what bitsandbytes keeps of each block, and of what it keeps once."""

Kept = dict[str, Any]
"""What is kept of a part, or of one weight, by name."""


@dataclass(frozen=True)
class Part:
    """One tensor as it is, or several in a flat one."""

    places: tuple[int, ...]
    """Of its weights, among all."""
    shapes: tuple[tuple[int, ...], ...]
    key: Any = None
    """What they have in common; see `cut`."""

    @property
    def alone(self) -> bool:
        return len(self.places) == 1

    @property
    def small(self) -> bool:
        """Whether its moments stay in 32 bits."""
        return all(math.prod(shape) < EIGHT_BIT for shape in self.shapes)

    @property
    def weights(self) -> int:
        return sum(map(math.prod, self.shapes))

    @property
    def size(self) -> int:
        """Of the tensor, with the gaps."""
        return self.weights if self.alone else sum(map(_padded, self.shapes))

    def each(self, flat: Tensor) -> dict[int, Tensor]:
        """The weights in a tensor of the part, by place."""
        if self.alone:
            return {self.places[0]: flat.view(self.shapes[0])}
        pieces = flat.split([_padded(shape) for shape in self.shapes])
        together = zip(self.places, self.shapes, pieces, strict=True)
        return {place: piece[: math.prod(shape)].view(shape) for place, shape, piece in together}

    def gathered(self, tensors: Mapping[int, Tensor], dtype: torch.dtype) -> Tensor:
        """Some of its tensors, by place, as one; zero where there is none. A tensor that is alone is itself, where it has the
        type."""
        first = next(iter(tensors.values()))
        if self.alone:
            return first.to(dtype)
        flat = torch.zeros(self.size, dtype=dtype, device=first.device)
        views = self.each(flat)
        torch._foreach_copy_([views[place] for place in tensors], list(tensors.values()))
        return flat

    def scatter(self, flat: Tensor, tensors: Mapping[int, Tensor]) -> None:
        """Into some of its tensors what a tensor of the part has for them."""
        views = self.each(flat)
        torch._foreach_copy_(list(tensors.values()), [views[place] for place in tensors])

    # ---------------------------------------------------------------- what an optimizer keeps, weight by weight

    def apart(self, kept: Mapping[str, Any]) -> dict[int, Kept]:
        """What is kept of the part as what would be kept of each weight, by place."""
        each: dict[int, Kept] = {place: {} for place in self.places} if kept else {}
        for name, value in kept.items():
            if _is_of_all(name, value):
                pieces: Mapping[int, Any] = dict.fromkeys(self.places, value)
            elif name.startswith(SCALES):
                pieces = dict(zip(self.places, value.split(self._blocks()), strict=True))
            else:
                pieces = self.each(value)
            for place, piece in pieces.items():
                each[place][name] = piece
        return each

    def together(self, each: Mapping[int, Mapping[str, Any]]) -> Kept:
        """What `apart` took apart, or what was kept of each weight; zero where there is nothing of one.

        Raises:
            ValueError, KeyError: it is the state of other weights.
        """
        kept: Kept = {}
        for name, value in next((values for values in each.values() if values), {}).items():
            tensors = {place: values[name] for place, values in each.items() if values}
            if _is_of_all(name, value):
                kept[name] = value
            elif name.startswith(SCALES):
                blocks = dict(zip(self.places, self._blocks(), strict=True))
                kept[name] = torch.cat([tensors.get(place, value.new_zeros(blocks[place])) for place in self.places])
            else:
                self._check(tensors)
                kept[name] = self.gathered(tensors, value.dtype)
        return kept

    def _blocks(self) -> list[int]:
        return [-(-math.prod(shape) // BLOCK) for shape in self.shapes]

    def _check(self, tensors: Mapping[int, Tensor]) -> None:
        shapes = dict(zip(self.places, self.shapes, strict=True))
        for place, tensor in tensors.items():
            if tuple(tensor.shape) != tuple(shapes[place]):
                raise ValueError(f"state of shape {tuple(tensor.shape)} for weights of shape {tuple(shapes[place])}")


def cut(shapes: Sequence[tuple[int, ...]], keys: Sequence[Hashable], by_itself: Sequence[bool]) -> list[Part]:
    """All weights in parts, each of weights that have the key in common; small ones, whose moments stay in 32 bits, apart.

    Args:
        keys: of each weight.
        by_itself: whether it has to be a part by itself.
    """
    filling: dict[Hashable, tuple[int, list[int]]] = {}
    done: list[list[int]] = []
    for place, (shape, key, single) in enumerate(zip(shapes, keys, by_itself, strict=True)):
        if single:
            done.append([place])
            continue
        sort = key, math.prod(shape) < EIGHT_BIT
        size, part = filling.get(sort, (0, []))
        if part and size + _padded(shape) > PART:
            done.append(part)
            size, part = 0, []
        filling[sort] = size + _padded(shape), [*part, place]
    done += [part for _, part in filling.values()]
    done.sort()
    return [Part(tuple(part), tuple(tuple(shapes[place]) for place in part), keys[part[0]]) for part in done]


def _padded(shape: Sequence[int]) -> int:
    return -(-math.prod(shape) // BLOCK) * BLOCK


def _is_of_all(name: str, value: Any) -> bool:
    """A count of steps, or a table."""
    return not isinstance(value, Tensor) or not value.ndim or name.startswith(TABLES)
