"""The frozen base's weights in fewer bits: float8 or int8 with a scale for each output, or 4-bit NormalFloat.

Every linear layer of the transformer's blocks is held so, its adaptive norms' too; embeddings, the norms' own weights, biases
and the output layer stay as they are. A product makes the dense weight for itself, in the forward pass and anew in the
backward pass. bitsandbytes' own layers would not do for training: they keep weights (4 bits) or inputs (8 bits) on their
autograd node, where gradient checkpointing cannot drop them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fcacli.config import BaseWeights
from fcacli.model.sharding import gathered

BLOCK = 64
"""Values that share a scale in NF4."""
ROW_SCALED = {"fp8": (torch.float8_e4m3fn, 448.0), "int8": (torch.int8, 127.0)}
"""Storage with a scale for each output: its dtype, and the largest value in it."""


class FrozenLinear(nn.Linear):
    """A frozen linear layer whose weight is stored in fewer bits; computes in the dtype the weight had.

    It is an `nn.Linear` so that PEFT and diffusers take it for one; its weight has another dtype, and may have another shape.
    """

    scale: Tensor

    def __init__(self, linear: nn.Linear, stored: Tensor, scale: Tensor):
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.compute_dtype = linear.weight.dtype  # by this name PEFT reads it, for LoRA matrices as fine as the layer computes
        self.weight = nn.Parameter(stored, requires_grad=False)
        self.register_buffer("scale", scale)
        self.bias = linear.bias

    def dense(self) -> Tensor:
        """The weight (out, in) as it is used."""
        return self.unpack(gathered(self.weight), self.scale)

    def unpack(self, stored: Tensor, scale: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return _Product.apply(x, self.bias, self.unpack, self.weight, self.scale)


class RowScaled(FrozenLinear):
    """float8 or int8, each row of the weight divided so that its largest value is the largest one there is."""

    def __init__(self, linear: nn.Linear, storage: str):
        dtype, largest = ROW_SCALED[storage]
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / largest  # (out, 1)
        scaled = weight / scale
        super().__init__(linear, (scaled if dtype.is_floating_point else scaled.round()).to(dtype), scale)

    def unpack(self, stored: Tensor, scale: Tensor) -> Tensor:
        return stored.to(self.compute_dtype).mul_(scale)


class NormalFloat4(FrozenLinear):
    """4 bits a value at the quantiles of a normal distribution, blocks of 64 with a float32 scale (Dettmers et al. 2023,
    arXiv 2305.14314, without double quantisation), by bitsandbytes."""

    def __init__(self, linear: nn.Linear):
        from bitsandbytes.functional import quantize_4bit

        packed, state = quantize_4bit(linear.weight.detach().contiguous(), blocksize=BLOCK, quant_type="nf4")
        super().__init__(linear, packed, state.absmax)

    def unpack(self, stored: Tensor, scale: Tensor) -> Tensor:
        from bitsandbytes.functional import QuantState, dequantize_4bit

        count = self.out_features * self.in_features
        # row by row of blocks: of rows shorter than one, bitsandbytes 0.50 makes something else on CPUs with AVX-512
        rows = torch.Size((1, count) if count % BLOCK else (count // BLOCK, BLOCK))
        state = QuantState(absmax=scale, shape=rows, blocksize=BLOCK, quant_type="nf4", dtype=self.compute_dtype)
        return dequantize_4bit(stored, state).view(self.out_features, self.in_features)


class _Product(torch.autograd.Function):
    """x W^T + b for a frozen W: only what is stored of W is saved for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, unpack: Callable[..., Tensor], *stored: Tensor) -> Tensor:
        ctx.save_for_backward(*stored)
        ctx.unpack, ctx.dtype = unpack, x.dtype
        return functional.linear(x, unpack(*stored), bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        stored = ctx.saved_tensors
        weight = ctx.unpack(*stored).to(gradient.dtype)
        return (gradient @ weight).to(ctx.dtype), None, None, *[None] * len(stored)


def bytes_of_linear(inputs: int, outputs: int, weights: BaseWeights, dtype: torch.dtype) -> list[int]:
    """Of what is stored of a weight (out, in): its values, and their scales if it has any."""
    count = inputs * outputs
    if weights == "full":
        return [count * dtype.itemsize]
    if weights == "nf4":
        return [-(-count // 2), -(-count // BLOCK) * 4]
    return [count, outputs * 4]


def store(blocks: nn.Module, weights: BaseWeights, device: torch.device) -> None:
    """Replace every linear layer of frozen blocks by its form in fewer bits, made on `device`, where only one is ever whole."""
    if weights == "full":
        return
    for name in [name for name, module in blocks.named_modules() if isinstance(module, nn.Linear)]:
        parent, _, child = name.rpartition(".")
        owner = blocks.get_submodule(parent)
        linear = getattr(owner, child).to(device)
        setattr(owner, child, NormalFloat4(linear) if weights == "nf4" else RowScaled(linear, weights))
