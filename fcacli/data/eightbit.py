"""Features in 8 bits: what text and image encoder give, at a quarter to a seventh of their size in bfloat16.

    values  int8 (..., n, d)        scale  bfloat16 (..., n, d / GROUP)        x = values * scale of its group
    left    float16 (..., L, RANK)  where there is one: x = left @ (values * scale)

Long texts are padded (L = 226 for CogVideoX), and what the encoder makes of the padding changes slowly from token to token:
their L rows lie close to a space of RANK dimensions, which is found by a singular value decomposition of the rows at equal
length (Eckart & Young 1936). The error of every text is measured when it is packed (`error`).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

GROUP = 32
"""Neighbouring values with one scale; all of a row where d is no multiple of it."""
RANK = 64
"""Dimensions of a text's rows that are kept."""

Packed = dict[str, Tensor]


def pack(x: Tensor) -> Packed:
    """Rows (..., n, d), each value within half a step of its own, a step being 1/127 of its group's largest value."""
    groups = x.float().unflatten(-1, (-1, _group(x.shape[-1])))  # (..., n, g, GROUP)
    scale = (groups.abs().amax(-1) / 127).bfloat16()  # rounded down, it cuts the largest value by a quarter of a step at most
    values = (groups / scale.float().clamp(min=torch.finfo(torch.float32).tiny).unsqueeze(-1)).round()
    return {"values": values.clamp(-127, 127).to(torch.int8).flatten(-2), "scale": scale}


def pack_text(x: Tensor) -> Packed:
    """Text features (..., L, d): as factors where that takes less than half of what the rows would, else as rows."""
    if not has_factors(*x.shape[-2:]):
        return pack(x)
    length = x.float().norm(dim=-1, keepdim=True).clamp(min=1e-6)  # (..., L, 1)
    rows = x.double() / length
    basis = torch.linalg.eigh(rows @ rows.mT).eigenvectors[..., -RANK:]  # (..., L, RANK), the largest last
    return {"left": (basis * length).half(), **pack(basis.mT @ rows)}


def unpack(packed: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
    """What was packed, (..., n, d) or (..., L, d)."""
    values = packed["values"].to(torch.float32).unflatten(-1, (packed["scale"].shape[-1], -1))
    rows = (values * packed["scale"].float().unsqueeze(-1)).flatten(-2)
    if "left" in packed:
        rows = packed["left"].float() @ rows
    return rows.to(dtype)


def error(packed: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """RMS error of each (n, d), relative to the RMS of the exact `x`: (...)."""
    exact = x.float().flatten(-2)
    return (unpack(packed, torch.float32).flatten(-2) - exact).norm(dim=-1) / exact.norm(dim=-1).clamp(min=1e-12)


def has_factors(length: int, d: int) -> bool:
    """Whether texts (length, d) are stored as factors."""
    return 2 * RANK * (length + d) < length * d


def packed_shapes(length: int, d: int, factors: bool) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Types and shapes of what `pack` or, with factors, `pack_text` gives for (length, d)."""
    rows = RANK if factors else length
    shapes: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
        "values": (torch.int8, (rows, d)),
        "scale": (torch.bfloat16, (rows, d // _group(d))),
    }
    return {"left": (torch.float16, (length, RANK)), **shapes} if factors else shapes


def _group(d: int) -> int:
    return GROUP if d % GROUP == 0 else d
