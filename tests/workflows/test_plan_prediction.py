"""`fca plan --predict`: what fits a card, by which --offload, and what it leaves as it is."""

import json
import shlex
from dataclasses import replace

import pytest
from trained_run import add_run, make_workspace
from typer.testing import CliRunner

from fcacli.cli.app import app
from fcacli.errors import FcaError, Misuse
from fcacli.planning.memory import Memory, Phase
from fcacli.planning.prediction import PredictionPlanner
from fcacli.training.checkpoint import read_config
from fcacli.workflows.plan_prediction import OFFLOADS, plan_prediction
from fcacli.workflows.train_options import TrainOptions
from fcacli.workspace import Workspace

WITHOUT = {"full": 0, "int8": 1, "nf4": 2}


@pytest.fixture(scope="module")
def workspace_here(tmp_path_factory, tiny_base_folder):
    return make_workspace(tmp_path_factory.mktemp("planned"), tiny_base_folder)


@pytest.fixture(scope="module")
def options(tiny_base_folder):
    return TrainOptions(base=str(tiny_base_folder))


@pytest.fixture
def untraced(monkeypatch):
    """Memory that is worked out, not traced: 10 GB, 1 less for each step of offloading, of tiles, and of fewer bits."""

    def memory(planner, config, offload):
        less = OFFLOADS.index(offload) + config.vae_tiling + WITHOUT[config.base_weights]
        size = (10 - less) * 10**9
        phase = Phase("denoising", size, size, OFFLOADS.index(offload), 0)
        return Memory("cuda", (phase,), {"base": 1}, 1)

    monkeypatch.setattr(PredictionPlanner, "memory", memory)


def test_every_way_of_offloading_is_planned_by_the_real_planner(workspace_here, options):
    planned = plan_prediction(workspace_here, options, gpus=1)
    assert tuple(planned.memory) == OFFLOADS and planned.offload == "none"
    assert planned.command == "fca predict FRAMES TEXT" and planned.training.startswith("fca train --base")
    for how, memory in planned.memory.items():
        assert planned.cards[how] > memory.needed == max(phase.device_least for phase in memory.phases)


def test_the_least_costly_offload_that_fits_is_found(workspace_here, options, untraced):
    for size, offload in ((12, "none"), (10.5, "model"), (9.5, "sequential")):
        planned = plan_prediction(workspace_here, options, gpu_memory=int(size * 1e9))
        assert planned.offload == offload and planned.cards[offload] <= size * 1e9
        words = [] if offload == "none" else ["--offload", offload]
        assert shlex.split(planned.command) == ["fca", "predict", "FRAMES", "TEXT", *words]
        assert shlex.split(planned.training) == ["fca", "train", "--base", options.base], "nothing of the result is changed"


def test_a_run_that_is_not_there_yet_may_have_tiles_and_fewer_bits_where_that_is_not_enough(workspace_here, options, untraced):
    for size, words in ((8.2, ["--vae-tiling"]), (6.2, ["--base-weights", "nf4", "--vae-tiling"])):
        planned = plan_prediction(workspace_here, options, gpu_memory=int(size * 1e9))
        assert planned.offload == "sequential" and shlex.split(planned.training)[4:] == words
    asked = replace(options, base_weights="full", vae_tiling=False)
    with pytest.raises(FcaError, match=r"fits 8\.2 GB: denoising with --offload sequential needs 0\.9 GB more"):
        plan_prediction(workspace_here, asked, gpu_memory=int(8.2e9))


def test_a_run_predicts_as_it_was_trained(workspace_here, tiny_base_folder, untraced):
    planned = plan_prediction(workspace_here, run="first", gpu_memory=int(9.5e9))
    assert planned.config == read_config(workspace_here.runs / "first") and planned.training is None
    assert planned.command == "fca predict FRAMES TEXT --run first --offload sequential"
    with pytest.raises(FcaError, match="nothing that was tried fits 8"):
        plan_prediction(workspace_here, run="first", gpu_memory=int(8.2e9))
    with pytest.raises(Misuse, match="own options of training"):
        plan_prediction(workspace_here, TrainOptions(frames=8), run="first")


def test_a_base_that_is_gone_is_named(tmp_path, tiny_base_folder):
    import shutil

    base = shutil.copytree(tiny_base_folder, tmp_path / "base")
    add_run(workspace := Workspace(tmp_path / "here"), "lost", base, (1,))
    shutil.rmtree(base)
    with pytest.raises(FcaError, match="the base of run lost is not there"):
        plan_prediction(workspace, run="lost")


def test_on_the_cpu_nothing_waits(workspace_here):
    planned = plan_prediction(workspace_here, run="first", gpus=0)
    assert tuple(planned.memory) == ("none",) and planned.cards == {}
    assert planned.command == "fca predict FRAMES TEXT --run first --device cpu"
    assert all(phase.device == 0 < phase.host for phase in planned.memory["none"].phases)


def test_the_table_is_for_people_and_json_for_programs(workspace_here, options, untraced, monkeypatch):
    monkeypatch.chdir(workspace_here.root)
    asked = ["plan", "--predict", "--run", "first", "--gpu-memory", "10.5GB"]
    lines = CliRunner().invoke(app, asked).stdout.splitlines()
    assert lines[1].split() == ["--offload", *OFFLOADS, *OFFLOADS]
    assert lines[2].split()[:7] == ["denoising", "10.0", "GB", "9.0", "GB", "8.0", "GB"]
    assert "as on an H200" in lines[-2] and lines[-1] == "fca predict FRAMES TEXT --run first --offload model"
    values = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    assert values["offload"] == "model" and values["memory"]["model"]["phases"][0]["device"] == 9 * 10**9
    words = shlex.split(plan_prediction(workspace_here, options, gpu_memory=int(6.2e9)).training)[2:]
    again = json.loads(CliRunner().invoke(app, ["plan", "--predict", "--json", "--gpu-memory", "6.2GB", *words]).stdout)
    assert again["offload"] == "sequential", "the line is complete: planned again, it fits"
