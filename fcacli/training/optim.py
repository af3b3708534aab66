"""The optimizer and its schedule."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import Parameter

from fcacli.config import TrainConfig

FLOOR = 0.1
"""Learning rate at the last step, as a share of the peak."""


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


def make_optimizer(trainable: Sequence[tuple[str, Parameter]], config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW over the named parameters, with its moments in 8 or in 32 bits.

    The 8-bit form (Dettmers et al. 2022, arXiv 2110.02861) keeps blocks of 256 values with a scale each; tensors of fewer
    than 4096 values stay in 32 bits.
    """
    decayed = [parameter for name, parameter in trainable if decays(name, parameter)]
    plain = [parameter for name, parameter in trainable if not decays(name, parameter)]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    betas = (0.9, 0.999)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, betas=betas)
    import bitsandbytes

    return bitsandbytes.optim.AdamW8bit(groups, lr=config.lr, betas=betas)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = lr
