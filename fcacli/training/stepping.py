"""The optimizer of an adapter, stepped part by part, so that only a part is ever in float32 or away from its home."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from fcacli.training.gradients import Gradients
from fcacli.training.offload import Residence
from fcacli.training.parts import Kept, Part
from fcacli.training.trained_weights import TrainedWeights


class AdapterOptimizer:
    """An ordinary optimizer for each part of some weights, over its master, which is there for the step alone.

    `state_dict` has what is kept of each weight by its place, as torch's own of one optimizer over all of them, whatever the
    parts; "weights" beside it where something has to be kept of the weights themselves.

    Args:
        make: the optimizer of a part, over its master.
        residence: where state stays between steps.
        gradients: where they wait for a step.
    """

    def __init__(
        self,
        make: Callable[[Part, Parameter], torch.optim.Optimizer],
        weights: TrainedWeights,
        residence: Residence,
        gradients: Gradients,
    ):
        self.weights, self.residence, self.gradients = weights, residence, gradients
        self.parts = weights.parts
        device = weights.parameters[0].device
        self.masters = [Parameter(torch.empty(0, device=device)) for _ in self.parts]
        self.inner = [make(part, master) for part, master in zip(self.parts, self.masters, strict=True)]
        for kept in weights.kept:
            kept.update(self._settled(kept))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for inner in self.inner for group in inner.param_groups]

    @property
    def state(self) -> list[Kept]:
        """Of each part; empty before its first step."""
        return [inner.state[master] for inner, master in zip(self.inner, self.masters, strict=True)]

    @torch.no_grad()
    def step(self, number: int) -> None:
        """Use the gradients, and use them up: each part's are freed when it is done. A weight without gradient stays.

        Args:
            number: of this optimizer step, the first is 0.
        """
        for at, (part, master, inner, state) in enumerate(zip(self.parts, self.masters, self.inner, self.state, strict=True)):
            if not (places := self.gradients.fetch(part.places)):
                continue
            with self.residence.here([state, self.weights.kept[at]]):
                master.data = self.weights.read(at)
                master.grad = part.gathered(self._used_up(places), torch.float32)
                inner.step()
                master.grad = None
                self.weights.write(at, master.data, places, number)
                master.data = torch.empty(0, device=master.device)

    def away(self) -> AbstractContextManager[None]:
        """All state in host memory for a while; then everything is back, as it was."""
        return self.residence.away([*self.state, *self.weights.kept])

    def state_dict(self) -> dict[str, Any]:
        if (device := self.weights.parameters[0].device).type == "cuda":
            torch.cuda.synchronize(device)  # what goes to host memory is under way
        saved: dict[str, Any] = {"state": {}, "weights": {}}
        for part, state, kept in zip(self.parts, self.state, self.weights.kept, strict=True):
            saved["state"] |= part.apart(_plain(state))
            saved["weights"] |= part.apart(kept)
        return saved if saved["weights"] else {"state": saved["state"]}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Every tensor as it was written, whatever its type, where it has to be between steps.

        Raises:
            ValueError, KeyError: it is the state of other weights.
        """
        each, count = saved["state"], len(self.weights.parameters)
        if any(place not in range(count) for place in each):
            raise ValueError(f"state of more than {count} weights")
        for part, state, kept in zip(self.parts, self.state, self.weights.kept, strict=True):
            found = {place: _plain(each[place]) for place in part.places if place in each}
            state.clear()
            state.update(self._settled(part.together(found)))
            if kept:
                again = part.together({place: saved["weights"][place] for place in part.places})
                for name, tensor in kept.items():
                    tensor.copy_(again[name])

    def _used_up(self, places: list[int]) -> dict[int, Tensor]:
        """The gradients of weights, which no longer have them."""
        used = {}
        for place in places:
            parameter = self.weights.parameters[place]
            assert parameter.grad is not None
            used[place], parameter.grad = parameter.grad, None
        return used

    def _settled(self, kept: Mapping[str, Any]) -> Kept:
        """Step counts stay on the CPU."""
        return {
            name: self.residence.settled(name, value) if isinstance(value, Tensor) and value.ndim else value
            for name, value in kept.items()
        }


def _plain(kept: Mapping[str, Any]) -> Kept:
    """Bare tensors: marks that an optimizer leaves on them (of pages) are of this process only. bitsandbytes' own state_dict
    nests some of what it keeps of a parameter."""
    plain: Kept = {}
    for name, value in kept.items():
        if isinstance(value, Mapping):
            plain |= _plain(value)
        else:
            plain[name] = value.detach() if isinstance(value, Tensor) else value
    return plain
