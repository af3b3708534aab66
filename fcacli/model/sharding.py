"""The frozen blocks shared out among processes: each holds a part of every weight, and all of a module's while it is used.

PyTorch's FSDP2 (`fully_shard`; Zhao et al. 2023, arXiv 2304.11277), on what is frozen alone: nothing of it is trained, so
weights are gathered and nothing is ever reduced. What trains is averaged by DistributedDataParallel, see training/team.py.

A module is gathered by all processes at once, so all make the same calls: in training, in a validation, and where an adapter
begins with copies of frozen weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fcacli.errors import Misuse

VIEWS = r"FSDP2-wrapped module .* returned a view tensor"
"""A warning of what an operation in place would do to it: diffusers adds residuals out of place."""


MIXED_SINCE = (2, 11)
"""Version of torch whose FSDP2 is known to take a module with weights of several types (2.7's does not)."""


def release() -> tuple[int, int]:
    """Of torch: 2, 13."""
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def shard(transformer: nn.Module, parts: Sequence[nn.Module], device: torch.device) -> None:
    """Let every process keep its share of the parts' weights, on `device`; all processes call this.

    Args:
        transformer: frozen; all of it that is not in `parts` stays whole.
        parts: modules that are called as such, none inside another.
    """
    from torch.distributed import get_world_size
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    warnings.filterwarnings("ignore", VIEWS, UserWarning)
    refused = Misuse(
        f"torch {torch.__version__} cannot share such weights in fewer bits out among processes",
        "--base-weights full, or without --shard-base, or pip install --upgrade torch",
    )
    if any(len({parameter.dtype for parameter in part.parameters()}) > 1 for part in parts) and release() < MIXED_SINCE:
        raise refused
    mesh = init_device_mesh(device.type, (get_world_size(),))
    for part in parts:
        try:
            fully_shard(part.to(device), mesh=mesh, reshard_after_forward=True)
        except RuntimeError as error:
            if "floating point" not in str(error):
                raise
            raise refused from error
    shared = {parameter for part in parts for parameter in part.parameters()}
    transformer.to(device)
    fully_shard(transformer, mesh=mesh, ignored_params=set(transformer.parameters()) - shared)  # it orders their gathering


def gathered(tensor: Any) -> Tensor:
    """All of a tensor that processes share, which all of them call for; others are given back."""
    if not hasattr(tensor, "full_tensor"):
        return tensor
    if tensor.element_size() > 1:
        return tensor.full_tensor()
    from torch.distributed.tensor import DTensor

    local = tensor.to_local().view(torch.uint8)  # not every backend sends float8
    size: dict[str, Any] = {"shape": tensor.shape, "stride": tensor.stride()}
    return DTensor.from_local(local, tensor.device_mesh, tensor.placements, **size).full_tensor().view(tensor.dtype)


def share(rows: int, size: int, count: int) -> int:
    """Bytes that each of `count` processes holds of a tensor of `size` bytes, cut along its `rows`."""
    return -(-rows // count) * (size // max(rows, 1))
