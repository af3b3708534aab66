"""Adapters of every kind go through training, its parity gate, and prediction from the checkpoint."""

from dataclasses import replace
from pathlib import Path

import pytest

from fcacli.events import silent
from fcacli.workflows.train import train
from fcacli.workflows.train_options import TrainOptions
from fcacli.workflows.trained import find_trained
from fcacli.workspace import Workspace, read_json


@pytest.mark.parametrize(
    "options,name,claims",
    [
        ({"adapter": "fca-in-context"}, "fca-in-context", 7),
        ({"adapter": "fca-lora", "lora_rank": 2}, "fca-lora", 7),
        ({"adapter_fields": {"injection": "text"}}, "fca", 7),
        ({"sampler": "fresh-noise", "optimizer": "muon", "timestep_power": 0.5}, "fca", 7),
    ],
)
def test_it_trains_passes_the_gate_and_loads(
    workspace: Workspace, asked: TrainOptions, options: dict, name: str, claims: int
) -> None:
    result = train(workspace, replace(asked, **options), gpus=0)
    assert result.finished and result.held_out_loss is not None
    gate = read_json(next(result.run.glob("validation/*/parity.json")))
    assert len(gate["claims"]) == claims and all(claim["holds"] for claim in gate["claims"])
    trained = find_trained(workspace, None, None, "cpu", silent)
    adapter = trained.load()
    assert adapter.config.kind == name
    assert Path(result.checkpoint, "adapter_config.json").is_file()


def test_without_x_init_the_frames_in_front_are_still_an_input() -> None:
    from fcacli.config import FCAConfig, InContextFCAConfig
    from fcacli.workflows.parity import inputs

    assert "init_latents" in inputs(InContextFCAConfig(width=32, init_features="none"))
    assert "init_latents" not in inputs(FCAConfig(width=32, init_features="none"))
