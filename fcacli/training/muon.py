"""Muon (Jordan et al., 2024) for matrices, AdamW for all else.

A matrix's step is its momentum with all singular values brought near 1, so that no direction of it is left behind; at AdamW's
usual size of a step (Liu et al., 2025, arXiv 2502.16982), which makes one learning rate right for both. What it keeps is one
number a weight instead of two.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS, ITERATIONS = (3.4445, -4.7750, 2.0315), 5
"""Of the quintic Newton-Schulz iteration."""
MOMENTUM = 0.95
OF_ADAMW = 0.2
"""Root mean square of AdamW's usual steps at a learning rate of 1."""
MATRICES = "matrices"
"""Of a group of the optimizer: whether it is stepped by Muon."""


class MuonAdamW(torch.optim.AdamW):
    """Groups with `MATRICES` are stepped by Muon, the others by AdamW."""

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, betas: tuple[float, float]):
        super().__init__([{MATRICES: False} | group for group in groups], lr=lr, betas=betas)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of those parameters that have a gradient."""
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group[MATRICES]]
            super().step()
        finally:
            self.param_groups = groups
        for group in groups:
            for matrix in group["params"] if group[MATRICES] else ():
                if matrix.grad is None:
                    continue
                kept = self.state[matrix]
                if not kept:
                    kept["momentum_buffer"] = torch.zeros_like(matrix)
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(step_along(led_by(matrix.grad, kept["momentum_buffer"])), alpha=-group["lr"])


def led_by(gradient: Tensor, momentum: Tensor) -> Tensor:
    """Nesterov's form of the momentum, which takes the gradient in; all (m, n)."""
    momentum.lerp_(gradient, 1 - MOMENTUM)
    return gradient.lerp(momentum, MOMENTUM)


def step_along(direction: Tensor) -> Tensor:
    """The step at a learning rate of 1; both (m, n)."""
    return orthogonal(direction).mul_(OF_ADAMW * max(direction.shape) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """A matrix (m, n) of the same singular vectors with singular values near 1 (0.7 to 1.2).

    Computed in the matrix's own type on the CPU, in bfloat16 on a GPU. torch.optim.Muon always computes in bfloat16: on a CPU
    without bfloat16 arithmetic that takes six times as long as the rest of the miniature's step.
    """
    a, b, c = COEFFICIENTS
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=1e-7)
    x = x.bfloat16() if matrix.is_cuda else x
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if matrix.shape[0] > matrix.shape[1] else x).to(matrix.dtype)
