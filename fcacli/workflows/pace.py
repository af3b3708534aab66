"""How long a training step takes here: from what runs have measured."""

import json
import statistics
from pathlib import Path

from fcacli.config import TrainConfig
from fcacli.errors import FcaError
from fcacli.workspace import Workspace

WARM = 3
"""Steps of a session that are slower than the others."""


def seconds_per_step(workspace: Workspace, config: TrainConfig, kind: str, processes: int = 1) -> float | None:
    """Median seconds of a step in the newest run here that computes the same on the same kind and number of devices."""
    from fcacli.training.checkpoint import read_config

    def work(of: TrainConfig) -> tuple[object, ...]:
        step = (of.batch_size, of.accumulate, of.precision, of.checkpointing, of.optimizer, of.weights)
        offloaded = (of.offload_optimizer, of.offload_gradients, of.offload_activations, of.block_swap, of.shard_base)
        return of.base, of.clip, of.adapter, *step, *offloaded, of.base_weights, of.deterministic, of.compile

    for run in reversed(workspace.all_runs()):
        try:
            same = work(read_config(run)) == work(config)
        except FcaError:
            continue
        if same and (seconds := _measured(run / "speed.jsonl", kind, processes)):
            return statistics.median(seconds)
    return None


def _measured(path: Path, kind: str, processes: int) -> list[float]:
    if not path.is_file():
        return []
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    like = [line for line in lines if ("device_gb" in line, line.get("processes", 1)) == (kind == "cuda", processes)]
    return [line["seconds"] for line in like[WARM:]]
