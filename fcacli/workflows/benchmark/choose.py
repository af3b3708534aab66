"""What `fca benchmark --choose` tried, and what it chose: the learning rate of each kind of adapter, by reserved clips."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fcacli.workspace import Workspace, read_json


def tried(workspace: Workspace) -> list[dict[str, Any]]:
    """Every trial that is finished: arm, lr, steps, clips, and the means of what it was scored by; or that it failed."""
    found = []
    for path in sorted((workspace.root / "rows").glob("trial-*.json")):
        row = read_json(path)
        trial = {name: row.get(name) for name in ("arm", "lr", "steps", "failed")}
        if clips := row.get("clips"):
            trial |= {name: float(np.mean([np.mean(clip[name]) for clip in clips])) for name in ("success", "psnr", "ssim")}
            trial["clips"] = len(clips)
        found.append(trial)
    return found


def best_rates(workspace: Workspace) -> dict[str, float]:
    """The learning rate of each arm that has trials."""
    return best(tried(workspace))


def best(trials: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """By arm, the rate with the highest PSNR, which tells apart what success on so few clips does not; failed ones never."""
    found: dict[str, Mapping[str, Any]] = {}
    for trial in trials:
        if trial["failed"] is None:
            before = found.get(trial["arm"])
            if before is None or trial["psnr"] > before["psnr"]:
                found[trial["arm"]] = trial
    return {arm: float(trial["lr"]) for arm, trial in found.items()}
