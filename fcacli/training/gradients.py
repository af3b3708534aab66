"""Where gradients wait between the backward pass and the optimizer's step: in the parameters, or in main memory.

In main memory each is copied as soon as the backward pass has it, and fetched when its part of the weights is stepped, so the
device never holds all of them. The same bits come out: they are summed, clipped and used in the same order.
"""

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from fcacli.model.host_memory import page_locked


class Gradients(Protocol):
    """Of some parameters, by place."""

    def clip(self, most: float) -> Tensor:
        """Scale all by what brings their norm to at most `most`; returns the norm before, a scalar."""

    def fetch(self, places: Sequence[int]) -> list[int]:
        """Those of these places that have a gradient; it is in the parameter now."""

    def put_away(self) -> None:
        """Bring gradients that are in the parameters to where they wait."""


class InParameters:
    """Where torch leaves them."""

    def __init__(self, parameters: Sequence[Parameter]):
        self._parameters = parameters

    def clip(self, most: float) -> Tensor:
        return torch.nn.utils.clip_grad_norm_(self._parameters, most)

    def fetch(self, places: Sequence[int]) -> list[int]:
        return [place for place in places if self._parameters[place].grad is not None]

    def put_away(self) -> None:
        pass


class InMainMemory:
    """In main memory, page-locked where the device is another.

    Copies are queued on the device's stream, in order with the arithmetic; nothing waits for them but the next copy.
    """

    def __init__(self, parameters: Sequence[Parameter]):
        self._parameters = parameters
        self._buffer = page_locked(sum(p.nbytes for p in parameters), parameters[0].device)  # locked as long as it lives
        pieces = self._buffer.split([p.nbytes for p in parameters])
        self._homes = [piece.view(p.dtype).view(p.shape) for piece, p in zip(pieces, parameters, strict=True)]
        self._norms: dict[int, Tensor] = {}
        self._clipped: tuple[float, Tensor] | None = None
        for place, parameter in enumerate(parameters):
            parameter.register_post_accumulate_grad_hook(partial(self._take, place))

    def clip(self, most: float) -> Tensor:
        total = torch.linalg.vector_norm(torch.stack([self._norms[place] for place in sorted(self._norms)]))
        self._clipped = most, total
        return total

    def fetch(self, places: Sequence[int]) -> list[int]:
        waiting = [place for place in places if place in self._norms]
        for place in waiting:
            self._parameters[place].grad = self._fetched(place)
            del self._norms[place]
        if waiting and self._clipped is not None:
            clip_grads_with_norm_([self._parameters[place] for place in waiting], *self._clipped)
        return [place for place in places if self._parameters[place].grad is not None]

    def put_away(self) -> None:
        for place, parameter in enumerate(self._parameters):
            if parameter.grad is not None:
                self._take(place, parameter)

    @torch.no_grad()
    def _take(self, place: int, parameter: Tensor) -> None:
        """Out of a parameter; what waits of an earlier micro-batch is added."""
        gradient = parameter.grad
        assert gradient is not None
        if place in self._norms:
            gradient += self._fetched(place)
        self._norms[place] = get_total_norm([gradient])
        self._homes[place].copy_(gradient, non_blocking=True)
        parameter.grad = None

    def _fetched(self, place: int) -> Tensor:
        home, device = self._homes[place], self._parameters[place].device
        return torch.empty_like(home, device=device).copy_(home, non_blocking=True)
