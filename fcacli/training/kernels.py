"""Which kernels a training step uses: those that give the same bits each time, and of them the quick ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from fcacli.config import TrainConfig
from fcacli.errors import FcaError


def step_kernels(config: TrainConfig, device: torch.device) -> AbstractContextManager[Any]:
    """For the forward and the backward pass of a step; around both, since checkpointing recomputes in the second.

    On the CPU the flash kernel's backward pass in bf16 takes half of an FCA step; with plain matrix products and a softmax
    the step is a third shorter (measured on the miniature, batch 16, AVX-512 with bf16). Compiled code keeps the kernels that
    it was first traced with, whatever the order of training and validation: there it is left as it is.
    """
    if device.type == "cuda":
        return repeatable() if config.deterministic else nullcontext()
    slow = config.precision == "bf16" and not config.compile
    return sdpa_kernel(SDPBackend.MATH) if slow else nullcontext()


@contextmanager
def repeatable() -> Iterator[None]:
    """On a CUDA device: no kernel that adds up in whatever order its threads come, as those of attention do in the backward
    pass: a continued run could not be the uninterrupted one.

    cuBLAS asks for a variable of the environment besides, before its first use: `repeatable_libraries` in model/arithmetic.py.

    Raises:
        FcaError: an operation has no such kernel.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        said = str(error).splitlines()[0].partition(", but ")[0]
        raise FcaError(
            f"a training step cannot have the same bits each time here: {said}",
            "a run with --no-deterministic (fca train --fork latest keeps the weights)",
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
