"""What the trained weights are kept in between steps. The optimizer works on float32 masters, there for one part at a time.

    fp32               the parameters are the masters
    bf16               bfloat16, and the 16 bits that float32 has beyond it in a tensor of their own: the masters are split
                       after a step and joined before the next, bit for bit, so that no update is lost
    bf16-stochastic    bfloat16 alone, rounded up or down by lot, with chances by distance: an update is kept on average

Rounded to the nearest bfloat16, an update below 1/512 of its weight would be lost at every step. Kahan summation would take the
same two bytes as the exact remainder and keep 8 bits of it.

Gradients have the weights' type; they are used up by `open`.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Parameter

from fcacli.training.objective import keyed

Kept = dict[str, Any]
"""What is kept of one parameter between steps, by name; like an optimizer's state of it."""


class Float32Weights:
    """The parameters, by place, are their own masters, and nothing is kept beside them."""

    def __init__(self, parameters: Sequence[Parameter]):
        for parameter in parameters:
            parameter.data = parameter.data.float()
        self.parameters = self.masters = list(parameters)
        self.kept: list[Kept] = [{} for _ in parameters]

    def open(self, places: Sequence[int]) -> None:
        pass

    def close(self, places: Sequence[int], step: int) -> None:
        for place in places:
            self.masters[place].grad = None


class _Bfloat16Weights:
    """Parameters, by place, in bfloat16; masters that are empty but between `open` and `close`."""

    def __init__(self, parameters: Sequence[Parameter]):
        self.parameters = list(parameters)
        self.masters = [Parameter(torch.empty(0, device=parameter.device)) for parameter in parameters]
        self.kept: list[Kept] = [{} for _ in parameters]

    def open(self, places: Sequence[int]) -> None:
        """Have the masters of these hold weight and gradient in float32."""
        for place in places:
            parameter, master = self.parameters[place], self.masters[place]
            master.data = self._joined(place)
            master.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None

    def close(self, places: Sequence[int], step: int) -> None:
        """Write the masters of these back, after optimizer step `step`, and forget their gradients."""
        for place in places:
            master = self.masters[place]
            self._write(place, master.data, step)
            master.grad = None
            master.data = torch.empty(0, device=master.device)

    def _joined(self, place: int) -> Tensor:
        return self.parameters[place].data.float()

    def _write(self, place: int, master: Tensor, step: int) -> None:
        raise NotImplementedError


class SplitWeights(_Bfloat16Weights):
    """The nearest bfloat16, and what the bits of float32 have beyond it."""

    def __init__(self, parameters: Sequence[Parameter]):
        super().__init__(parameters)
        for parameter, kept in zip(self.parameters, self.kept, strict=True):
            parameter.data, kept["remainder"] = split(parameter.data.float())

    def _joined(self, place: int) -> Tensor:
        return join(self.parameters[place].data, self.kept[place]["remainder"])

    def _write(self, place: int, master: Tensor, step: int) -> None:
        rounded, remainder = split(master)
        self.parameters[place].data.copy_(rounded)
        self.kept[place]["remainder"].copy_(remainder)


class StochasticWeights(_Bfloat16Weights):
    """bfloat16 by lot; the lot is a function of seed, step and place."""

    def __init__(self, parameters: Sequence[Parameter], seed: int):
        super().__init__(parameters)
        self.seed = seed
        for parameter in self.parameters:
            parameter.data = parameter.data.bfloat16()

    def _write(self, place: int, master: Tensor, step: int) -> None:
        lot = keyed("rounding", self.seed, step, place).initial_seed()
        generator = torch.Generator(master.device).manual_seed(lot)
        self.parameters[place].data.copy_(round_by_lot(master, generator))


TrainedWeights = Float32Weights | SplitWeights | StochasticWeights


def hold(parameters: Sequence[Parameter], kind: Literal["fp32", "bf16", "bf16-stochastic"], seed: int) -> TrainedWeights:
    """Bring parameters into the type that `kind` keeps them in."""
    if kind == "bf16":
        return SplitWeights(parameters)
    return StochasticWeights(parameters, seed) if kind == "bf16-stochastic" else Float32Weights(parameters)


# ---------------------------------------------------------------- bits: bfloat16 is the upper half of float32


def split(master: Tensor) -> tuple[Tensor, Tensor]:
    """A float32 tensor as its nearest bfloat16 (ties away from zero) and the difference of their bits, int16."""
    bits = master.view(torch.int32)
    upper = (bits + 0x8000) >> 16
    return upper.to(torch.int16).view(torch.bfloat16), (bits - (upper << 16)).to(torch.int16)


def join(rounded: Tensor, remainder: Tensor) -> Tensor:
    """The float32 tensor that `split` took apart."""
    return ((rounded.view(torch.int16).to(torch.int32) << 16) + remainder).view(torch.float32)


def round_by_lot(master: Tensor, generator: torch.Generator) -> Tensor:
    """A float32 tensor as bfloat16: one of the two neighbours, each with the other's share of the distance as its chance."""
    bits = master.view(torch.int32)
    lot = torch.randint(0, 0x10000, bits.shape, generator=generator, device=bits.device, dtype=torch.int32)
    return ((bits + lot) >> 16).to(torch.int16).view(torch.bfloat16)
