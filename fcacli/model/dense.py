"""Frozen linear layers, quantised ones too, as trainable float32 copies."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from fcacli.errors import FcaError
from fcacli.model.base_weights import FrozenLinear
from fcacli.model.bases.precision import norms_in_their_type
from fcacli.model.sharding import gathered


def dense_weight(linear: nn.Module) -> Tensor:
    """The weight (out, in) of a linear layer in float32, dequantised where the base or bitsandbytes holds it in 4 or 8 bits.

    Raises:
        FcaError: a quantisation that cannot be undone here.
    """
    if isinstance(linear, FrozenLinear):
        return linear.dense().float()
    weight: Any = gathered(linear.weight)
    if getattr(weight, "quant_state", None) is not None:
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(weight.data, weight.quant_state).float()
    scales = getattr(weight, "SCB", None)
    if scales is None:  # the first call of an 8-bit layer moves them
        scales = getattr(getattr(linear, "state", None), "SCB", None)
    if scales is not None:
        from bitsandbytes.functional import int8_vectorwise_dequant

        return int8_vectorwise_dequant(weight.data, scales).float()
    if weight.is_floating_point():
        return weight.detach().float()
    raise FcaError(
        f"cannot copy the weights of a frozen {type(linear).__name__} ({weight.dtype})",
        "quantise the base with bitsandbytes, or start the adapter with random projections",
    )


def copy_linear(linear: nn.Module, rows: int | None = None) -> nn.Linear:
    """A trainable float32 copy of a frozen linear layer, or of its first `rows` outputs.

    It is made on the CPU: what a new layer draws, to be overwritten here, comes from the same generator on every device.
    """
    weight = dense_weight(linear)[:rows]
    bias: Tensor | None = linear.bias  # type: ignore[assignment]
    new = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=torch.float32).to(weight.device)
    with torch.no_grad():
        new.weight.copy_(weight)
        if bias is not None:
            new.bias.copy_(gathered(bias).detach()[:rows])
    return new


def copy_module(module: nn.Module) -> nn.Module:
    """A trainable float32 copy of a frozen norm, or of an adaptive norm with its linear layer, dequantised; without hooks."""
    linears = [child for child in module.modules() if isinstance(child, nn.Linear)]
    others = {id(p): p for p in module.parameters()}
    for linear in linears:
        for parameter in linear.parameters():
            others.pop(id(parameter), None)
    # deepcopy takes what it finds in its memo for the copy of that object
    memo: dict[int, Any] = {id(linear): copy_linear(linear) for linear in linears}
    memo |= {key: nn.Parameter(gathered(parameter).detach().float().clone()) for key, parameter in others.items()}
    copied = copy.deepcopy(module, memo).train()
    for part in copied.modules():
        for hooks in (part._forward_pre_hooks, part._state_dict_pre_hooks, part._load_state_dict_pre_hooks):
            hooks.clear()  # those of block_swap.py and of FSDP
    norms_in_their_type(copied)
    return copied
