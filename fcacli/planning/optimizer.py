"""AdamW in 8 bits for fake tensors, on which bitsandbytes does not run: state of the right bytes, and nothing computed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fcacli.training.parts import BLOCK

COPIES_ON_CPU = 5
"""Float32 tensors of the size of the weights that bitsandbytes takes on a CPU: moments, gradient, two of the step."""


class FakeAdamW8bit(torch.optim.Optimizer):
    """On a CUDA device works in the memory of its state and of the gradients alone, as the real one.

    Args:
        copies: float32 tensors of the size of the weights that a step takes besides.
    """

    def __init__(self, groups: Any, lr: float, betas: tuple[float, float], min_8bit_size: int, copies: int = 0):
        super().__init__(groups, {"lr": lr, "betas": betas})
        self._least, self._copies = min_8bit_size, copies
        self._tables = {f"qmap{moment}": torch.empty(256) for moment in (1, 2)}

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Make the state of those weights that have a gradient and no state yet."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.numel() >= self._least:
                    torch.empty(self._copies, parameter.numel())  # for a moment
                if parameter.grad is not None and not self.state[parameter]:
                    self.state[parameter].update(self._state_of(parameter))

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        count = parameter.numel()
        if count < self._least:
            return {f"state{moment}": torch.empty(count) for moment in (1, 2)}
        moments = {f"state{moment}": torch.empty(count, dtype=torch.uint8) for moment in (1, 2)}
        scales = {f"absmax{moment}": torch.empty(-(-count // BLOCK)) for moment in (1, 2)}
        return moments | scales | self._tables
