"""Milliseconds of attention, forward and backward, by kernel, at the shapes of CogVideoX-2B and 5B: as JSON.

python tests/gpu/attention.py [--device cuda]
"""

import argparse
import json
import time
from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

SHAPES = {"2b 16x256x256": (2, 30, 1250, 64), "2b 49x480x720": (1, 30, 17776, 64), "5b 16x256x256": (2, 48, 1250, 64)}
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


def of_kernels(kernels: list[SDPBackend], shape: tuple[int, ...], device: str) -> dict[str, float] | str:
    """Without gradients and with; the reason where no kernel takes such tensors."""
    query = torch.randn(shape, device=device, dtype=torch.bfloat16, requires_grad=True)

    def attended() -> torch.Tensor:
        return scaled_dot_product_attention(query, query, query)

    try:
        with sdpa_kernel(kernels):
            both = milliseconds(lambda: attended().sum().backward(), device)
            with torch.no_grad():
                return {"forward": milliseconds(attended, device), "both": both}
    except RuntimeError as error:
        return str(error).splitlines()[0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    device = parser.parse_args().device
    shapes = SHAPES if device == "cuda" else SMALL
    found = {
        name: {kernel: of_kernels(choice, shape, device) for kernel, choice in KERNELS.items()}
        for name, shape in shapes.items()
    }
    print(json.dumps(found))
