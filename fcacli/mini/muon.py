"""Muon (Jordan et al., 2024) in the parameters' own precision: torch.optim.Muon always computes in bfloat16, which takes a CPU
without bfloat16 arithmetic six times as long as the rest of the step.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

COEFFICIENTS, ITERATIONS = (3.4445, -4.7750, 2.0315), 5
"""Of the quintic Newton-Schulz iteration."""


class Muon(torch.optim.Optimizer):
    """Momentum, its singular values brought near 1, at AdamW's usual size of a step (Liu et al., 2025).

    With several processes each orthogonalises its share of the matrices; gradients must be the same in all of them.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.rank, self.world = rank, world

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step on all matrices."""
        for group in self.param_groups:
            updates = []
            for i, parameter in enumerate(group["params"]):
                buffer = self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
                buffer.lerp_(parameter.grad, 1 - group["momentum"])
                mine = i % self.world == self.rank
                nesterov = parameter.grad.lerp(buffer, group["momentum"])
                updates.append(orthogonal(nesterov) if mine else torch.zeros_like(parameter))
            if self.world > 1:
                flat = torch.cat([update.flatten() for update in updates])
                torch.distributed.all_reduce(flat)
                parts = flat.split([update.numel() for update in updates])
                updates = [part.view_as(update) for part, update in zip(parts, updates, strict=True)]
            for parameter, update in zip(group["params"], updates, strict=True):
                size = 0.2 * max(parameter.shape) ** 0.5  # the root mean square of AdamW's steps
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * size)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """A matrix (m, n) of the same singular vectors with singular values near 1 (0.7 to 1.2)."""
    a, b, c = COEFFICIENTS
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x
