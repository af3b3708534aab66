"""torch.compile, part by part: norms, attention and feed-forward of every frozen block, and the adapter's own modules.

The parts of a frozen block are compiled each for itself, and the same ones whether an adapter is there or not: so a fresh
adapter still is its base, bit by bit, which it would not be if a compiler could fuse the two. All layers share their
compiled code. Shapes are never made dynamic: what a clip becomes must not depend on which shapes came before it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import cache
from typing import Any

import torch
from torch import nn

from fcacli.errors import FcaError
from fcacli.model.bases import cogvideox_block as seam

BACKEND = "inductor"
"""Of torch.compile."""
MOST_VARIANTS = 512
"""Compiled forms (part, shape, type, with or without gradients) that torch keeps; beyond them it would silently go on
uncompiled."""


def require_compiler(device: torch.device) -> None:
    """
    Raises:
        FcaError: what torch.compile needs for that device is not here.
    """
    if device.type == "cpu":
        _keep_code_to_ourselves()
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch.utils._triton import has_triton

    hint = "leave --compile out, or --no-compile for a run that was started with it"
    if device.type == "cuda" and not has_triton():
        raise FcaError("--compile needs Triton for a CUDA device, which is not installed or does not know this one", hint)
    try:
        found = shutil.which(get_cpp_compiler())
    except Exception:  # of torch's own, different ones in different versions
        found = None
    if found is None:
        raise FcaError("--compile needs a C++ compiler, and none (g++, clang++) is here", hint)


@cache
def _keep_code_to_ourselves() -> tempfile.TemporaryDirectory[str] | None:
    """A folder for the compiled code of this process alone, gone at its end, unless TORCHINDUCTOR_CACHE_DIR names one.

    torch's C++ compiler writes into its cache where the next process will look: what a killed one has left there half-written
    would end every later one ("file too short").
    """
    if "TORCHINDUCTOR_CACHE_DIR" in os.environ:
        return None
    folder = tempfile.TemporaryDirectory(prefix="fca-compiled-", ignore_cleanup_errors=True)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder.name
    return folder


def compile_blocks(transformer: Any) -> None:
    """Compile the parts of each frozen block."""
    _keep_all_variants()
    for block in getattr(transformer, seam.BLOCKS):
        for part in seam.compilable_parts(block):
            for key, hook in part._forward_pre_hooks.items():  # those of block_swap.py
                part._forward_pre_hooks[key] = torch.compiler.disable(hook)
            part.compile(backend=BACKEND, dynamic=False)


def compile_modules(modules: nn.ModuleList) -> None:
    """Compile modules of an adapter."""
    _keep_all_variants()
    for module in modules:
        module.compile(backend=BACKEND, dynamic=False)


def _keep_all_variants() -> None:
    """All parts go through the same function of torch's, and its limits are on functions."""
    import torch._dynamo

    torch._dynamo.config.recompile_limit = MOST_VARIANTS
    torch._dynamo.config.accumulated_recompile_limit = MOST_VARIANTS
