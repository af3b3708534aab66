"""What training an adapter holds in memory beside activations, for each way to keep weights and optimizer state."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch.nn import Parameter

from fcacli.config import TrainConfig
from fcacli.training.offload import SMALL
from fcacli.training.optim import decays
from fcacli.training.stepping import cut

EIGHT_BIT = 4096
"""Weights from which on a tensor's moments are kept in 8 bits."""
PAGES = 100_000
"""Weights from which on they are kept in pages."""
BLOCK = 256
"""Weights that share two scales."""
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


def sizes_and_matrices(trainable: Sequence[tuple[str, Parameter]]) -> tuple[list[int], list[bool]]:
    """Of each trained tensor how many weights it has, and whether it is a matrix for Muon."""
    return [parameter.numel() for _, parameter in trainable], [decays(*item) for item in trainable]


def trained_memory(
    sizes: Sequence[int],
    config: TrainConfig,
    device: Literal["cuda", "cpu"] = "cuda",
    matrices: Sequence[bool] | None = None,
) -> TrainedMemory:
    """Of trained tensors with so many weights each, in the optimizer's order (what `decays` first).

    `matrices` says which of them Muon steps; None: all. Exact but for `step`, which is that on CUDA, and for the tables of
    8-bit state (2 KiB; after a resume as much for each tensor). torch rounds pinned memory up to a power of two, tensor by
    tensor, which is counted.
    """
    of_muon = [config.optimizer == "muon" and matrix for matrix in matrices or [True] * len(sizes)]
    each = 4 if config.weights == "fp32" else 2
    on_device, on_host, of_step = 0, 0, 0
    for part in cut(sizes):
        fetched = 0
        for size, matrix in ((sizes[place], of_muon[place]) for place in part):
            for kept in _kept(size, config, matrix):
                if config.optimizer == "paged-adamw8bit" and size >= PAGES and kept == size:
                    on_host += kept
                elif config.offload_optimizer and kept > SMALL:
                    on_host += _pinned(kept) if device == "cuda" else kept
                    fetched += kept
                else:
                    on_device += kept
        weights = sum(sizes[place] for place in part)
        fetched += each * weights * config.offload_gradients
        float32 = 0 if config.weights == "fp32" else (4 + 4 - 2) * weights  # its own gradients are freed for it
        own = max([4 * weights * (config.optimizer == "adamw"), *(MUON * sizes[place] for place in part if of_muon[place])])
        of_step = max(of_step, fetched + float32 + own)
    total, waiting = each * sum(sizes), 0
    if config.offload_gradients:
        waiting = sum(_pinned(each * size) if device == "cuda" else each * size for size in sizes)
    return TrainedMemory(
        weights=total,
        gradients=each * max(sizes, default=0) if config.offload_gradients else total,
        state=on_device,
        host=on_host,
        host_gradients=waiting,
        step=of_step,
    )


def _kept(size: int, config: TrainConfig, of_muon: bool) -> list[int]:
    """Bytes of the tensors that are kept of one with `size` weights."""
    remainder = [2 * size] if config.weights == "bf16" else []
    if of_muon:
        return [4 * size, *remainder]
    if config.optimizer in ("adamw", "muon") or size < EIGHT_BIT:
        return [4 * size, 4 * size, *remainder]
    scales = 4 * -(-size // BLOCK)
    return [size, size, scales, scales, *remainder]


def _pinned(size: int) -> int:
    return 1 << (size - 1).bit_length()
