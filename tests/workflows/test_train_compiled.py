"""A compiled run: it says so, keeps it, goes on bit by bit, and predict shows what its validation showed."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from listening import crash, weights
from test_train_memory import predicted

from fcacli.config import Offload
from fcacli.events import silent
from fcacli.model import compiling
from fcacli.prediction.video import read_pngs
from fcacli.training import checkpoint
from fcacli.workflows.train import train
from fcacli.workflows.train_options import TrainOptions, asked_differently
from fcacli.workflows.trained import find_trained
from fcacli.workspace import Workspace, read_json


@pytest.fixture(autouse=True)
def fronted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The compiler's front alone; see tests/model/test_compiling.py."""
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.slow
def test_a_compiled_run_goes_on_as_if_nothing_had_been_and_predict_follows(workspace: Workspace, asked: TrainOptions) -> None:
    options = replace(asked, compile=True)
    straight = train(workspace, options, gpus=0, run="straight")
    torch._dynamo.reset()  # as in a process of its own
    crash(workspace, options, 3, run="resumed", checkpoint_minutes=0)
    torch._dynamo.reset()
    resumed = train(workspace, gpus=0, run="resumed")
    a, b = weights(straight.run), weights(resumed.run)
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert (straight.run / "log.jsonl").read_bytes() == (resumed.run / "log.jsonl").read_bytes()
    saved = checkpoint.read_config(resumed.run)
    assert asked_differently(TrainOptions(compile=False), saved) == ["compile: True -> False"]

    gate = read_json(next(resumed.run.glob("validation/*/parity.json")))
    assert all(claim["holds"] for claim in gate["claims"])
    trained = find_trained(workspace, "resumed", None, "cpu", silent)
    assert "compiled" in trained.describe() and trained.identity()["compile"] is True
    hows: tuple[Offload, ...] = ("none", "sequential")
    for how in hows:
        trained = find_trained(workspace, "resumed", None, "cpu", silent)
        name, video = predicted(trained, workspace, trained.load(how))
        assert np.array_equal(video, read_pngs(checkpoint.validation_folder(resumed.run, 4) / name)), how


def test_predict_may_leave_it_out(workspace: Workspace, asked: TrainOptions) -> None:
    train(workspace, replace(asked, steps=1, validate_clips=0), gpus=0)
    assert not find_trained(workspace, None, None, "cpu", silent).base.keeping.compile
    assert find_trained(workspace, None, None, "cpu", silent, compile=True).identity()["compile"] is True
    assert "compile" not in find_trained(workspace, None, None, "cpu", silent, compile=False).identity()
