"""Milliseconds of attention by kernel, at the shapes of CogVideoX-2B and 5B: forward, with backward, and that with the same
bits each time, as `fca train` wants them; and what the backward pass then takes for itself. As JSON.

python tests/gpu/attention.py [--device cuda] [--turns FOLDER]
"""

import argparse
import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from turns import Turns

from fcacli.model.arithmetic import repeatable_libraries
from fcacli.training.kernels import repeatable

SHAPES = {
    "2B 16x256x256": (1, 30, 1250, 64),
    "2B 49x480x720": (1, 30, 17776, 64),
    "5B 16x256x256": (1, 48, 1250, 64),
    "5B 49x480x720": (1, 48, 17776, 64),
}
"""Batch, heads, tokens, head width."""
SMALL = {"small": (1, 2, 64, 16)}
KERNELS = {
    "chosen": [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
    "flash": [SDPBackend.FLASH_ATTENTION],
    "cudnn": [SDPBackend.CUDNN_ATTENTION],
    "efficient": [SDPBackend.EFFICIENT_ATTENTION],
}
"""Chosen: torch's choice among all."""


def milliseconds(call: Callable[[], object], device: str, times: int = 5) -> float:
    """Mean of some calls, after one."""
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.monotonic()
    for _ in range(times):
        call()
    if device == "cuda":
        torch.cuda.synchronize()
    return round((time.monotonic() - started) / times * 1000, 3)


def of_kernels(kernels: list[SDPBackend], shape: tuple[int, ...], device: str) -> dict[str, float | str] | str:
    """The reason where no kernel takes such tensors."""
    query, key, value = (torch.randn(shape, device=device, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))

    def attended() -> torch.Tensor:
        return scaled_dot_product_attention(query, key, value)

    def both() -> None:
        attended().sum().backward()
        query.grad = key.grad = value.grad = None

    try:
        with sdpa_kernel(kernels):
            found: dict[str, float | str] = {"both": milliseconds(both, device)}
            with torch.no_grad():
                found["forward"] = milliseconds(attended, device)
    except RuntimeError as error:
        return str(error).splitlines()[0]
    try:
        with sdpa_kernel(kernels), repeatable() if device == "cuda" else nullcontext():
            found["same"] = milliseconds(both, device)
            found["gib"] = taken(attended, query) if device == "cuda" else 0.0
    except RuntimeError as error:
        found |= {"same": str(error).splitlines()[0], "gib": ""}
    return found


def taken(attended: Callable[[], torch.Tensor], query: torch.Tensor) -> float:
    """GiB at the peak of a backward pass beside the gradients."""
    result = attended()
    gradient = torch.ones_like(result)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    result.backward(gradient)
    return round((torch.cuda.max_memory_allocated() - before - 3 * query.nbytes) / 2**30, 3)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--turns", type=Path)
    said = parser.parse_args()
    repeatable_libraries()
    shapes = SHAPES if said.device == "cuda" else SMALL
    with Turns(said.turns).taken(alone=True):
        found = {
            name: {kernel: of_kernels(choice, shape, said.device) for kernel, choice in KERNELS.items()}
            for name, shape in shapes.items()
        }
    print(json.dumps(found))
