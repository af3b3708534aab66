"""What training an adapter holds in memory beside activations, for each way to keep weights and optimizer state."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fcacli.config import TrainConfig
from fcacli.training.offload import SMALL
from fcacli.training.optim import is_stepped_by_muon
from fcacli.training.parts import BLOCK, Part

PAGES = 100_000
"""Weights of a part from which on they are kept in pages."""
MUON = 12
"""Bytes a weight that Muon's step of a square matrix takes for a moment: the momentum in float32, four matrices in bfloat16."""


@dataclass(frozen=True, kw_only=True)
class TrainedMemory:
    """Bytes; of the device but for `host`."""

    weights: int
    gradients: int
    """From the backward pass on; each part's are freed when it is stepped. Where they wait in host memory, one at a time."""
    state: int
    """Of the optimizer, with what is kept of the weights beside them, through forward and backward pass. Away in validation."""
    host: int
    """Host memory that the same takes where it lives there."""
    host_gradients: int
    """Host memory in which gradients wait."""
    step: int
    """On top of the others while a part is stepped: its weights and gradients in float32, its state and its gradients if they
    live in host memory, and what the optimizer itself needs for a moment."""


def trained_memory(parts: Sequence[Part], config: TrainConfig) -> TrainedMemory:
    """Of the parts in which weights are trained.

    Exact but for `step`, which is that on CUDA, and for the tables of 8-bit state (2 KiB a part).
    """
    each = 4 if config.weights == "fp32" else 2
    on_device, on_host, of_step = 0, 0, 0
    for part in parts:
        fetched, of_muon = 0, is_stepped_by_muon(part.key, config)
        for kept, moment in _kept(part, config, of_muon):
            if config.optimizer == "paged-adamw8bit" and part.size >= PAGES and moment:
                on_host += kept
            elif config.offload_optimizer and kept > SMALL:
                on_host += kept
                fetched += kept
            else:
                on_device += kept
        fetched += each * part.weights * config.offload_gradients
        copied = 0 if config.weights == "fp32" and part.alone else (4 + 4 - each) * part.size  # its own gradients are freed
        own = MUON * part.size if of_muon else 4 * part.size * (config.optimizer == "adamw")
        of_step = max(of_step, fetched + copied + own)
    sizes = [math.prod(shape) for part in parts for shape in part.shapes]
    total = each * sum(sizes)
    return TrainedMemory(
        weights=total,
        gradients=each * max(sizes, default=0) if config.offload_gradients else total,
        state=on_device,
        host=on_host,
        host_gradients=total * config.offload_gradients,
        step=of_step,
    )


def _kept(part: Part, config: TrainConfig, of_muon: bool) -> list[tuple[int, bool]]:
    """Bytes of the tensors that are kept of a part, and whether each is a moment."""
    size = part.size
    remainder = [(2 * size, False)] if config.weights == "bf16" else []
    if of_muon:
        return [(4 * size, True), *remainder]
    if config.optimizer in ("adamw", "muon") or part.small:
        return [(4 * size, True), (4 * size, True), *remainder]
    scales = 4 * -(-size // BLOCK)
    return [(size, True), (size, True), (scales, False), (scales, False), *remainder]
