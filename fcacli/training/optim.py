"""The optimizer and its schedule."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import Parameter

from fcacli.config import TrainConfig
from fcacli.training.gradients import InMainMemory, InParameters
from fcacli.training.muon import MATRICES, MuonAdamW
from fcacli.training.offload import BesideWeights, InHostMemory, InPages
from fcacli.training.parts import EIGHT_BIT, Part, cut
from fcacli.training.stepping import AdapterOptimizer
from fcacli.training.trained_weights import hold

FLOOR = 0.1
"""Learning rate at the last step, as a share of the peak."""
SCALE = "lr_scale"
"""Of a group of the optimizer."""


def learning_rate(step: int, config: TrainConfig) -> float:
    """Learning rate of optimizer step `step` (the first is 0): linear warm-up, then cosine to a tenth of the peak."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - 1 - config.warmup)
    return config.lr * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def decays(name: str, parameter: Parameter) -> bool:
    """Whether weight decay applies: to matrices, not to norms, biases, learned queries and positions."""
    own_name = name.rsplit(".", 1)[-1]
    return parameter.ndim >= 2 and not any(word in own_name for word in ("queries", "query_tokens", "position", "embedding"))


def is_of_text(name: str) -> bool:
    """Whether a trained parameter belongs to the frame-wise text modules."""
    return name.startswith("text_modules.")


def make_optimizer(
    trainable: Sequence[tuple[str, Parameter]], config: TrainConfig, adamw: Callable[..., Any] | None = None
) -> AdapterOptimizer:
    """The optimizer over the named parameters: AdamW, its moments in 8 or in 32 bits, or Muon. The parameters are brought into
    the type of `config.weights`.

    The 8-bit form (Dettmers et al. 2022, arXiv 2110.02861) keeps blocks of 256 values with a scale each; tensors of fewer
    than 4096 values stay in 32 bits.

    Args:
        adamw: in the place of the one that `config.optimizer` names.
    """
    ordered = in_order(trainable, config)
    parameters = [parameter for _, parameter in ordered]
    weights = hold(parameters, parts_of(ordered, config), config.weights, config.seed)
    kind = adamw or _adamw(config.optimizer)

    def of_part(part: Part, master: Parameter) -> Any:
        plain, scale = part.key
        group = {"params": [master], "weight_decay": 0.0 if plain else config.weight_decay, SCALE: scale}
        given: dict[str, Any] = {}
        if config.optimizer == "muon":
            group[MATRICES] = is_stepped_by_muon(part.key, config)
        elif config.optimizer != "adamw":
            given["min_8bit_size"] = part.size + 1 if part.small else EIGHT_BIT
        return kind([group], lr=config.lr, betas=(0.9, 0.999), **given)

    device = parameters[0].device
    gradients = (InMainMemory if config.offload_gradients else InParameters)(parameters)
    if config.optimizer == "paged-adamw8bit":
        return AdapterOptimizer(of_part, weights, InPages(device), gradients)
    return AdapterOptimizer(of_part, weights, (InHostMemory if config.offload_optimizer else BesideWeights)(device), gradients)


def in_order(trainable: Sequence[tuple[str, Parameter]], config: TrainConfig) -> list[tuple[str, Parameter]]:
    """Named parameters in the optimizer's order."""

    def rank(item: tuple[str, Parameter]) -> tuple[bool, float]:
        plain, scale = _key(item, config)
        return plain, -scale

    return sorted(trainable, key=rank)


def parts_of(ordered: Sequence[tuple[str, Parameter]], config: TrainConfig) -> list[Part]:
    """The parts in which parameters are stepped: alike in weight decay and in the scale of their learning rate. Muon steps a
    matrix by itself."""
    keys = [_key(item, config) for item in ordered]
    return cut([p.shape for _, p in ordered], keys, [is_stepped_by_muon(key, config) for key in keys])


def is_stepped_by_muon(key: tuple[bool, float], config: TrainConfig) -> bool:
    """Whether weights of a part with this key are."""
    return config.optimizer == "muon" and not key[0]


def _key(item: tuple[str, Parameter], config: TrainConfig) -> tuple[bool, float]:
    """Whether a parameter does without weight decay, and the scale of its learning rate."""
    return not decays(*item), config.text_lr_scale if is_of_text(item[0]) else 1.0


def _adamw(kind: str) -> Any:
    if kind in ("adamw", "muon"):
        return torch.optim.AdamW if kind == "adamw" else MuonAdamW
    import warnings

    import bitsandbytes

    warnings.filterwarnings("ignore", "Paged optimizers are not supported on CPU")  # fca train says it
    return bitsandbytes.optim.PagedAdamW8bit if kind == "paged-adamw8bit" else bitsandbytes.optim.AdamW8bit


def set_learning_rate(optimizer: AdapterOptimizer, lr: float) -> None:
    """Set the learning rate of all groups; each has its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get(SCALE, 1.0)
