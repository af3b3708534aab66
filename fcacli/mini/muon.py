"""Muon for a model that several processes train, each orthogonalising its share of the matrices; see training/muon.py."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from fcacli.training.muon import led_by, step_along


class Muon(torch.optim.Optimizer):
    """Momentum, its singular values brought near 1, at AdamW's usual size of a step (Liu et al., 2025).

    With several processes each orthogonalises its share of the matrices; gradients must be the same in all of them.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        *,
        lr: float,
        weight_decay: float = 0.01,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.rank, self.world = rank, world

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step on all matrices."""
        for group in self.param_groups:
            updates = []
            for i, parameter in enumerate(group["params"]):
                buffer = self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
                direction = led_by(parameter.grad, buffer)
                updates.append(step_along(direction) if i % self.world == self.rank else torch.zeros_like(parameter))
            if self.world > 1:
                flat = torch.cat([update.flatten() for update in updates])
                torch.distributed.all_reduce(flat)
                parts = flat.split([update.numel() for update in updates])
                updates = [part.view_as(update) for part, update in zip(parts, updates, strict=True)]
            for parameter, update in zip(group["params"], updates, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"])
