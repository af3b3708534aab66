"""Claims about `fca train --fork`: the weights of another run, a new optimizer, and nothing that does not fit."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from listening import Listener, crash, equal, weights
from safetensors.torch import load_file
from typer.testing import CliRunner

from fcacli.cli.app import app
from fcacli.errors import FcaError, Misuse
from fcacli.training import checkpoint
from fcacli.workflows import which_run
from fcacli.workflows.train import train

FORKS = {"fca": {}, "lora": {"adapter": "lora", "lora_rank": 2}}


@pytest.mark.parametrize("optimizer", ["adamw8bit", "adamw"])
@pytest.mark.parametrize("kind", FORKS)
def test_step_zero_of_a_fork_is_the_newest_weights_of_its_source(workspace, asked, kind, optimizer):
    """Bitwise; the optimizer starts anew, and the run goes on from there after a crash too."""
    first = train(workspace, replace(asked, **FORKS[kind], optimizer=optimizer), gpus=0, run="first")
    with pytest.raises(KeyboardInterrupt):
        train(workspace, replace(asked, lr=5e-3), gpus=0, fork="first", run="second", report=Listener(1))
    run = workspace.run("second")
    start = checkpoint.checkpoint_folder(run, 0)
    assert equal(load_file(start / "adapter.safetensors"), weights(first.run))
    assert torch.load(start / "optimizer.pt", weights_only=True)["state"] == {}
    config = checkpoint.read_config(run)
    assert config == replace(checkpoint.read_config(first.run), lr=5e-3)
    assert json.loads((run / "config.json").read_text())["forked_from"] == {"run": "first", "step": 4}
    shutil.rmtree(first.run)  # a fork needs its source no more
    result = train(workspace, gpus=0)
    assert result.run == run and result.finished
    assert not equal(weights(run), load_file(result.run / "checkpoints" / "step-000000" / "adapter.safetensors"))


def test_latest_is_the_run_started_last_and_fork_never_continues_it(workspace, asked):
    train(workspace, asked, gpus=0, run="older")
    crash(workspace, replace(asked, seed=1), 3, run="newer")
    listener = Listener()
    result = train(workspace, gpus=0, fork="latest", report=listener)
    assert result.finished and result.run.name not in ("older", "newer")
    assert json.loads((result.run / "config.json").read_text())["forked_from"] == {"run": "newer", "step": 2}
    assert "starts from the weights of run newer, step 2" in listener.text
    assert checkpoint.read_config(result.run).seed == 1
    assert not checkpoint.is_finished(workspace.run("newer"))


def test_a_fork_may_see_other_data_other_steps_and_another_size(workspace, asked):
    train(workspace, asked, gpus=0, run="first")
    shutil.copytree(workspace.dataset("ssv2"), workspace.data / "other")
    metadata = workspace.data / "other" / "train" / "metadata.jsonl"
    metadata.write_text("".join(metadata.read_text().splitlines(keepends=True)[:3]))
    options = replace(asked, data="other", steps=2, width=48, height=32)
    result = train(workspace, options, gpus=0, fork="first")
    config = checkpoint.read_config(result.run)
    assert result.finished and (config.data, config.steps, config.clip.width) == ("other", 2, 48)


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"adapter_width": 16}, "adapter.width: 32 -> 16"),
        ({"adapter": "lora"}, "adapter.kind: fca -> lora"),
        ({"adapter_fields": {"mask": "none"}}, "adapter.mask: frame -> none"),
        ({"frames": 12}, "clip.frames: 16 -> 12"),
        ({"base": "mini"}, "base_fingerprint: "),
    ],
)
def test_what_the_weights_do_not_fit_is_refused_by_name(workspace, asked, changes, named):
    crash(workspace, asked, 3, run="first")
    with pytest.raises(Misuse) as refused:
        train(workspace, replace(asked, **changes), gpus=0, fork="first")
    assert named in refused.value.message and "fca train --new" in refused.value.hint
    assert len(workspace.all_runs()) == 1


def test_a_source_that_is_not_there_is_an_error(workspace, asked):
    crash(workspace, asked, 1, run="empty")
    with pytest.raises(FcaError, match="no run 'gone'"):
        train(workspace, asked, gpus=0, fork="gone")
    with pytest.raises(FcaError, match="empty has no readable checkpoint"):
        train(workspace, asked, gpus=0, fork="empty")
    with pytest.raises(Misuse, match="--fork takes a plain name"):
        train(workspace, asked, gpus=0, fork="../first")


def test_refused_options_offer_both_commands_and_the_fork_works_as_written(workspace, asked, monkeypatch):
    """On the command line: --keep, the refusal with three ways on, and the last of them copied."""
    monkeypatch.chdir(workspace.root)
    crash(workspace, asked, 3, run="first")

    def fca(line: str):
        return CliRunner().invoke(app, line.split(), env={"COLUMNS": "200", "NO_COLOR": "1"})

    refused = fca("train --gpus 0 --lr 0.007 --size 48x32 --no-checkpointing")
    assert refused.exit_code == 2
    assert "lr: " in refused.stderr and "clip.width: 32 -> 48" in refused.stderr
    ways = [line.strip().removeprefix("try: ").split("   ")[0].strip() for line in refused.stderr.splitlines()[1:]]
    assert ways[0] == "fca train"
    assert ways[1].startswith("fca train --new ") and ways[2].startswith("fca train --fork first ")
    assert set(ways[2].split()) >= {"--lr", "0.007", "--size", "48x32", "--no-checkpointing", "--gpus", "0"}
    forked = fca(ways[2].removeprefix("fca ") + " --keep 1")
    assert forked.exit_code == 0, forked.output
    run = workspace.root / forked.stdout.strip()
    assert len(checkpoint.all_checkpoints(run)) == 1 and checkpoint.read_config(run).lr == 0.007
    assert fca("train --keep 0").exit_code == 2


def test_a_fork_says_where_its_weights_know_the_held_out_clips(workspace, asked):
    """Trained on a, forked on b, whose val clip was a train clip of a; a fork of that knows it too. The same data are clean."""
    first = train(workspace, replace(asked, steps=1), gpus=0, run="first")
    clean = train(workspace, replace(asked, steps=2), gpus=0, fork="first", run="clean")
    assert "seen" not in forked_from(clean)
    source, other = workspace.dataset("ssv2"), workspace.data / "other"
    shutil.copytree(source, other)
    lines = (source / "train" / "metadata.jsonl").read_text().splitlines(keepends=True)
    (other / "train" / "metadata.jsonl").write_text("".join(lines[1:]))
    (other / "val" / "metadata.jsonl").write_text(lines[0])
    held_out = json.loads(lines[0])["file_name"]
    shutil.copy(source / "train" / held_out, other / "val" / held_out)
    listener = Listener()
    leaky = train(workspace, replace(asked, data="other", steps=1), gpus=0, fork="first", run="leaky", report=listener)
    said = "1 of 1 held-out clips are ones that run first was trained on"
    assert said in listener.text and forked_from(leaky)["seen"] == said
    grandchild = train(workspace, replace(asked, data="other", steps=2), gpus=0, fork="leaky", run="grandchild")
    assert forked_from(grandchild)["seen"] == said
    heard = Listener()
    which_run.require_training_data(leaky.run, checkpoint.read_config(leaky.run), other, heard)
    assert said in heard.text
    (source / "train" / "metadata.jsonl").write_text("".join(lines[1:]))
    unknown = train(workspace, replace(asked, data="other", steps=3), gpus=0, fork="first", run="unknown")
    assert "may be ones that run first was trained on" in forked_from(unknown)["seen"]
    shutil.rmtree(first.run)
    orphan = train(workspace, replace(asked, data="other", steps=4), gpus=0, fork="leaky", run="orphan")
    assert forked_from(orphan)["seen"] == "held-out clips may be ones that run first was trained on: it is gone"


def forked_from(result):
    return json.loads((result.run / "config.json").read_text())["forked_from"]
