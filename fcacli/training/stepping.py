"""The optimizer of an adapter, stepped part by part, so that only a part is ever in float32 or away from its home."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from fcacli.training.gradients import Gradients
from fcacli.training.offload import Residence
from fcacli.training.trained_weights import TrainedWeights

PART = 2**23
"""Weights that are stepped at once; a larger parameter is a part of its own."""


class AdapterOptimizer:
    """An ordinary optimizer over the masters of some weights.

    `state_dict` is torch's of that optimizer, and "weights" beside it where something has to be kept of the weights themselves.

    Args:
        inner: over the masters, its groups in their order.
        residence: where its state stays between steps.
        gradients: where they wait for a step.
    """

    def __init__(self, inner: torch.optim.Optimizer, weights: TrainedWeights, residence: Residence, gradients: Gradients):
        self.inner, self.weights, self.residence, self.gradients = inner, weights, residence, gradients
        for kept in weights.kept:
            kept.update(self._settled(kept))
        self._parts = list(cut([parameter.numel() for parameter in weights.parameters]))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.inner.param_groups

    @torch.no_grad()
    def step(self, number: int) -> None:
        """Use the gradients, and use them up: each part's are freed when it is done.

        Args:
            number: of this optimizer step, the first is 0.
        """
        groups = self.inner.param_groups
        whole = [group["params"] for group in groups]
        try:
            for part in self._parts:
                if not (places := self.gradients.fetch(part)):
                    continue
                stepped = [self.inner.state[self.weights.masters[place]] for place in places]
                with self.residence.here(stepped + [self.weights.kept[place] for place in places]):
                    self.weights.open(places)
                    chosen = {id(self.weights.masters[place]) for place in places}
                    for group, masters in zip(groups, whole, strict=True):
                        group["params"] = [master for master in masters if id(master) in chosen]
                    self.inner.step()
                    self.weights.close(places, number)
        finally:
            for group, masters in zip(groups, whole, strict=True):
                group["params"] = masters

    def away(self) -> AbstractContextManager[None]:
        """All state in host memory for a while; then everything is back, as it was."""
        return self.residence.away([*self.inner.state.values(), *self.weights.kept])

    def state_dict(self) -> dict[str, Any]:
        if (device := self.weights.parameters[0].device).type == "cuda":
            torch.cuda.synchronize(device)  # what goes to host memory is under way
        saved = _plain(self.inner.state_dict())
        kept = {place: values for place, values in enumerate(self.weights.kept) if values}
        return saved | ({"weights": kept} if kept else {})

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Every tensor as it was written, whatever its type, where it has to be between steps.

        Raises:
            ValueError, KeyError: it is the state of other weights.
        """
        self.inner.load_state_dict({"state": {}, "param_groups": saved["param_groups"]})
        for place, master in enumerate(self.weights.masters):
            if place in saved["state"]:
                self.inner.state[master] = self._settled(saved["state"][place])
            if kept := self.weights.kept[place]:
                kept.update(self._settled({name: saved["weights"][place][name] for name in kept}))

    def _settled(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """bitsandbytes nests some of what it keeps of a parameter; step counts stay on the CPU."""
        settled: dict[str, Any] = {}
        for name, value in values.items():
            if isinstance(value, Mapping):
                settled |= self._settled(value)
            else:
                settled[name] = self.residence.settled(name, value) if isinstance(value, Tensor) and value.ndim else value
        return settled


def cut(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Places of the weights that make a part, for tensors of so many weights."""
    part: list[int] = []
    for place, size in enumerate(sizes):
        if part and sum(sizes[before] for before in part) + size > PART:
            yield part
            part = []
        part.append(place)
    if part:
        yield part


def _plain(value: Any) -> Any:
    """Nested mappings with bare tensors: marks that an optimizer leaves on them (of pages) are of this process only."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return value.detach() if isinstance(value, Tensor) else value
