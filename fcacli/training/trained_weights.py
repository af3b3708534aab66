"""What the trained weights are kept in between steps. The optimizer works on float32 masters, there for one part at a time.

    fp32               the parameters are the masters
    bf16               bfloat16, and the 16 bits that float32 has beyond it in a tensor of their own: the masters are split
                       after a step and joined before the next, bit for bit, so that no update is lost
    bf16-stochastic    bfloat16 alone, rounded up or down by lot, with chances by distance: an update is kept on average

Rounded to the nearest bfloat16, an update below 1/512 of its weight would be lost at every step. Kahan summation would take the
same two bytes as the exact remainder and keep 8 bits of it.

Gradients have the weights' type.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import Parameter

from fcacli.training.objective import keyed
from fcacli.training.parts import Kept, Part


class TrainedWeights:
    """Some parameters, by place, in parts that are read and written."""

    dtype: torch.dtype
    """Of the parameters."""

    def __init__(self, parameters: Sequence[Parameter], parts: Sequence[Part]):
        self.parameters, self.parts = list(parameters), list(parts)
        self.kept: list[Kept] = [{} for _ in parts]
        """Of each part between steps, beside the parameters; like an optimizer's state of it."""
        for parameter in parameters:
            parameter.data = parameter.data.to(self.dtype)

    def read(self, number: int) -> Tensor:
        """The master of a part: its weights in float32."""
        return self._gathered(number, torch.float32)

    def write(self, number: int, master: Tensor, places: Sequence[int], step: int) -> None:
        """The weights at these places as they are in the master of a part after an optimizer step."""
        raise NotImplementedError

    def _gathered(self, number: int, dtype: torch.dtype) -> Tensor:
        part = self.parts[number]
        return part.gathered({place: self.parameters[place].data for place in part.places}, dtype)

    def _scatter(self, number: int, flat: Tensor, places: Sequence[int]) -> None:
        self.parts[number].scatter(flat, {place: self.parameters[place].data for place in places})


class Float32Weights(TrainedWeights):
    """The parameters are masters, and nothing is kept beside them."""

    dtype = torch.float32

    def write(self, number: int, master: Tensor, places: Sequence[int], step: int) -> None:
        if not self.parts[number].alone:  # else it is the parameter itself
            self._scatter(number, master, places)


class SplitWeights(TrainedWeights):
    """The nearest bfloat16, and what the bits of float32 have beyond it."""

    dtype = torch.bfloat16

    def __init__(self, parameters: Sequence[Parameter], parts: Sequence[Part]):
        remainders: dict[int, Tensor] = {}
        for place, parameter in enumerate(parameters):
            parameter.data, remainders[place] = split(parameter.data.float())
        super().__init__(parameters, parts)
        for part, kept in zip(self.parts, self.kept, strict=True):
            kept["remainder"] = part.gathered({place: remainders.pop(place) for place in part.places}, torch.int16)

    def read(self, number: int) -> Tensor:
        return join(self._gathered(number, self.dtype), self.kept[number]["remainder"])

    def write(self, number: int, master: Tensor, places: Sequence[int], step: int) -> None:
        part, (rounded, remainder) = self.parts[number], split(master)
        self._scatter(number, rounded, places)
        kept = part.each(self.kept[number]["remainder"])
        part.scatter(remainder, {place: kept[place] for place in places})


class StochasticWeights(TrainedWeights):
    """bfloat16 by lot; the lot is a function of seed, step and part."""

    dtype = torch.bfloat16

    def __init__(self, parameters: Sequence[Parameter], parts: Sequence[Part], seed: int):
        super().__init__(parameters, parts)
        self.seed = seed

    def write(self, number: int, master: Tensor, places: Sequence[int], step: int) -> None:
        lot = keyed("rounding", self.seed, step, number).initial_seed()
        generator = torch.Generator(master.device).manual_seed(lot)
        self._scatter(number, round_by_lot(master, generator), places)


def hold(
    parameters: Sequence[Parameter], parts: Sequence[Part], kind: Literal["fp32", "bf16", "bf16-stochastic"], seed: int
) -> TrainedWeights:
    """Bring parameters into the type that `kind` keeps them in."""
    if kind == "bf16":
        return SplitWeights(parameters, parts)
    return StochasticWeights(parameters, parts, seed) if kind == "bf16-stochastic" else Float32Weights(parameters, parts)


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
