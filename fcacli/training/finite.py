"""Numbers that are not finite stop a run before they reach its weights or a checkpoint."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fcacli.errors import FcaError
from fcacli.training.checkpoint import all_checkpoints


class NotFinite(FcaError):
    """A number that training needs is infinite or none at all."""


HINT = "a lower --lr or --precision fp32, in a new run: fca train --new"


def require_finite(losses: Sequence[float], norm: float, ids: Sequence[str], step: int, run: Path) -> None:
    """Raise before the optimizer takes a step that would spoil the weights.

    Raises:
        FcaError: naming the step, its clips and the last good checkpoint.
    """
    if math.isfinite(norm) and all(map(math.isfinite, losses)):
        return
    bad = [clip for clip, loss in zip(ids, losses, strict=True) if not math.isfinite(loss)]
    what = f"the loss is not finite for {', '.join(bad)}" if bad else f"the gradient is not finite, clips {', '.join(ids)}"
    raise NotFinite(f"step {step}: {what}; {_last_good(run)}", HINT)


def require_finite_weights(adapter: Any, step: int, run: Path) -> None:
    """Raise before weights that the optimizer has spoiled are saved.

    Raises:
        FcaError: naming the tensors and the last good checkpoint.
    """
    if bad := [name for name, tensor in adapter.state().items() if not tensor.isfinite().all()]:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise NotFinite(f"step {step}: weights are not finite: {', '.join(bad[:3])}{more}; {_last_good(run)}", HINT)


def require_finite_validation(values: Mapping[str, float], step: int, run: Path) -> None:
    """
    Raises:
        FcaError: a held-out loss is not finite.
    """
    if bad := [name for name, value in values.items() if not math.isfinite(value)]:
        raise NotFinite(f"step {step}: not finite: {', '.join(bad)}; {_last_good(run)}", HINT)


def _last_good(run: Path) -> str:
    last = next(reversed(all_checkpoints(run)), None)
    return f"last good checkpoint: {last}" if last else "there is no checkpoint yet"
