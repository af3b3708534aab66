"""Claims about `fca train` as a whole, on the tiny base: it continues, refuses, and shows what predict shows."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from listening import Listener, crash, equal, weights

from fcacli.errors import FcaError, Misuse
from fcacli.model.bases import load_base, resolve_base
from fcacli.training import checkpoint
from fcacli.workflows import train as train_module
from fcacli.workflows.devices import choose_gpus, require_gpu
from fcacli.workflows.encode.encode import choose_clips
from fcacli.workflows.lock import locked
from fcacli.workflows.train import train
from fcacli.workflows.trained import find_trained
from fcacli.workspace import Workspace

PATIENCE = 300
"""Seconds that a process may take to start or to stop on a loaded machine; a few on a free one."""


def test_run_holds_what_it_says(workspace, asked):
    listener = Listener()
    result = train(workspace, asked, gpus=0, report=listener)
    assert f"a new run, {result.run.name}, on data/ssv2" in listener.text.splitlines()
    assert result.finished and result.step == result.steps == 4
    assert result.train_loss > 0 and result.held_out_loss > 0
    assert result.checkpoint == result.run / "checkpoints" / "step-000004"
    assert json.loads((result.run / "config.json").read_text())["config"]["steps"] == 4
    lines = [json.loads(line) for line in (result.run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 2, 3, 4, 4]
    assert {"loss", "lr", "grad_norm"} <= lines[0].keys() and {"held_out", "psnr"} <= lines[2].keys()
    measured = [json.loads(line) for line in (result.run / "speed.jsonl").read_text().splitlines()]
    assert [line["step"] for line in measured] == [1, 2, 3, 4] and measured[0]["clips_per_s"] > 0
    assert {path.name for path in (result.run / "validation" / "step-000004").iterdir()} == {
        *("validation.json", "clips.png", "8", "8.mp4", "8.json")
    }
    assert list((result.run / "tensorboard").iterdir())


def test_validation_clip_is_what_predict_gives(workspace, asked, tiny_base_folder):
    """Bitwise, from encodings made afresh and the checkpoint of that step."""
    import numpy as np

    from fcacli.data.dataset import sample_frames
    from fcacli.model.attach import detach, load_adapter
    from fcacli.prediction.sampler import predict_clip
    from fcacli.prediction.video import read_pngs
    from fcacli.training.checkpoint import read_config

    result = train(workspace, asked, gpus=0)
    config = read_config(result.run)
    base = load_base(resolve_base(str(tiny_base_folder)))
    dataset = workspace.dataset()
    clip = choose_clips(dataset, config.clip)["val"][0]
    given = sample_frames(dataset, "val", clip, config.clip)[: config.clip.init_frames]
    for step in (2, 4):
        detach(base.transformer)
        adapter = load_adapter(base, checkpoint.checkpoint_folder(result.run, step))
        afresh = predict_clip(base, adapter, given, clip.text, config.clip, config.sample)
        assert np.array_equal(afresh, read_pngs(checkpoint.validation_folder(result.run, step) / clip.id))


def test_train_again_continues_and_matches_the_uninterrupted_run(workspace, asked):
    options = replace(asked, validate_every=0)
    straight = train(workspace, options, gpus=0, run="straight")
    crash(workspace, options, 3, run="resumed", checkpoint_minutes=0)
    listener = Listener()
    resumed = train(workspace, options, gpus=0, run="resumed", report=listener)
    assert "continuing resumed from step 2" in listener.text
    assert resumed.finished
    a, b = weights(straight.run), weights(resumed.run)
    assert all((a[name] == b[name]).all() for name in a)
    assert (straight.run / "log.jsonl").read_bytes() == (resumed.run / "log.jsonl").read_bytes()


def test_train_without_options_continues_with_those_of_the_run(workspace, asked):
    crash(workspace, replace(asked, lr=3e-3, seed=5), 3)
    result = train(workspace, gpus=0)
    assert result.finished and len(workspace.all_runs()) == 1
    assert checkpoint.read_config(result.run).lr == 3e-3


@pytest.mark.parametrize("moved", ["workspace", "run folder alone"])
def test_continuing_a_moved_run(workspace, asked, tmp_path_factory, moved):
    """Bitwise what it would have become where it was; alone, to where the same data lie under another path, not encoded yet."""
    options = replace(asked, validate_every=0)
    straight = train(workspace, options, gpus=0, run="straight")
    crash(workspace, options, 3, run="moved", checkpoint_minutes=0)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "there"
    if moved == "workspace":
        shutil.copytree(workspace.root, elsewhere)
        shutil.rmtree(elsewhere / "runs" / "straight")
    else:
        shutil.copytree(workspace.data, elsewhere / "data", ignore=shutil.ignore_patterns("cache"))
        (elsewhere / "runs").mkdir()
        shutil.move(workspace.runs / "moved", elsewhere / "runs" / "moved")
    listener = Listener()
    result = train(Workspace(elsewhere), gpus=0, report=listener)
    assert result.finished and "continuing moved from step 2" in listener.text
    assert equal(weights(result.run), weights(straight.run))
    assert (result.run / "log.jsonl").read_bytes() == (straight.run / "log.jsonl").read_bytes()


def test_run_continues_on_its_base_wherever_that_lies(workspace, asked, tmp_path_factory):
    """Another machine: the base's folder has moved too; the same files are the same base."""
    base = tmp_path_factory.mktemp("base") / "here"
    shutil.copytree(asked.base, base)
    crash(workspace, replace(asked, base=str(base)), 3)
    moved = base.rename(base.with_name("there"))
    with pytest.raises(FcaError, match="here") as missing:
        train(workspace, gpus=0)
    assert "--base FOLDER" in missing.value.hint and missing.value.code == 1
    result = train(workspace, replace(asked, base=str(moved)), gpus=0)
    assert result.finished and len(workspace.all_runs()) == 1
    assert checkpoint.read_config(result.run).base == str(moved)  # fca predict finds it there
    again = moved.rename(moved.with_name("once more"))
    with pytest.raises(FcaError, match="there"):
        find_trained(workspace, None, None, "cpu", Listener())
    assert (
        train(workspace, replace(asked, base=str(again)), gpus=0).run == result.run
    )  # nothing to train: where it lies is noted
    assert find_trained(workspace, None, None, "cpu", Listener()).base.spec.source == str(again)


def test_damaged_newest_checkpoint_falls_back_aloud_and_exactly(workspace, asked):
    options = replace(asked, validate_every=0)
    straight = train(workspace, options, gpus=0, run="straight")
    crash(workspace, options, 3, run="damaged", checkpoint_minutes=0)
    run = workspace.run("damaged")
    newest = checkpoint.latest(run)
    assert checkpoint.step_of(newest) == 2
    with (newest / "adapter.safetensors").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\x12\x34\x56\x78")
    listener = Listener()
    resumed = train(workspace, options, gpus=0, run="damaged", report=listener)
    assert "step-000002" in listener.warnings[0] and "using the checkpoint before it" in listener.warnings[0]
    assert "continuing damaged from step 1" in listener.text
    assert equal(weights(straight.run), weights(resumed.run))
    assert (straight.run / "log.jsonl").read_bytes() == (resumed.run / "log.jsonl").read_bytes()


def test_changed_options_are_refused_by_name_and_new_starts_anew(workspace, asked):
    crash(workspace, asked, 3)
    changed = replace(asked, lr=7e-3, adapter_fields={"modulation": "block"}, seed=0)
    with pytest.raises(Misuse) as refused:
        train(workspace, changed, gpus=0)
    assert "lr: " in refused.value.message and "adapter.modulation: own -> block" in refused.value.message
    assert "seed" not in refused.value.message
    hint = refused.value.hint
    assert "fca train --new" in hint and "--lr 0.007" in hint and "--set modulation=block" in hint and "--gpus 0" in hint
    assert "fca train --fork" not in hint  # other weights would not fit
    assert train(workspace, changed, gpus=0, new=True).finished
    assert len(workspace.all_runs()) == 2


def test_keep_says_how_many_checkpoints_stay(workspace, asked):
    result = train(workspace, asked, gpus=0, checkpoint_minutes=0, keep=2)
    assert [checkpoint.step_of(path) for path in checkpoint.all_checkpoints(result.run)] == [3, 4]
    with pytest.raises(Misuse, match="--keep must be at least 1, got 0"):
        train(workspace, asked, gpus=0, keep=0)


def test_a_run_that_never_saved_does_not_stand_in_the_way(workspace, asked):
    crash(workspace, replace(asked, batch_size=3), 1)
    assert train(workspace, asked, gpus=0).finished


def test_finished_run_is_not_trained_again(workspace, asked):
    first = train(workspace, asked, gpus=0)
    before = (first.checkpoint / "state.json").stat().st_mtime_ns
    listener = Listener()
    again = train(workspace, asked, gpus=0, report=listener)
    assert again == first and "finished" in listener.text and "--new" in listener.text
    assert (first.checkpoint / "state.json").stat().st_mtime_ns == before
    listener = Listener()
    other = train(workspace, replace(asked, steps=5), gpus=0, report=listener)
    assert other.run != first.run and other.step == 5
    said = f"a new run, {other.run.name}, on data/ssv2; the finished run {first.run.name} had other options: steps: 4 -> 5"
    assert said in listener.text.splitlines()


def test_lora_goes_the_same_way(workspace, asked):
    result = train(workspace, replace(asked, adapter="lora", lora_rank=2), gpus=0)
    assert result.finished and all("lora" in name for name in weights(result.run))


def test_two_trainings_of_one_run_are_refused(workspace, asked):
    crash(workspace, asked, 3)
    with locked(workspace.run()), pytest.raises(FcaError, match=f"process {os.getpid()}"):
        train(workspace, asked, gpus=0)
    assert train(workspace, asked, gpus=0).finished  # nothing is left of the lock


@pytest.mark.parametrize(
    "changes, gpus, expected",
    [
        ({"steps": 0}, 0, "--steps"),
        ({"lr": -1.0}, 0, "--lr"),
        ({"batch_size": 0}, 0, "--batch-size"),
        ({"adapter": "lora", "adapter_width": 32}, 0, "--adapter fca"),
        ({"lora_rank": 4}, 0, "--adapter lora"),
        ({"adapter_width": 33}, 0, "33"),
        ({"adapter_fields": {"no_such": 1}}, 0, "no_such"),
        ({"adapter_fields": {"modulation": "other"}}, 0, "modulation"),
        ({"width": 30}, 0, "30"),
        ({}, 2, "--gpus 2"),
        ({}, -1, "--gpus"),
    ],
)
def test_wrong_options_are_misuse_and_leave_no_run(workspace, asked, changes, gpus, expected):
    with pytest.raises(Misuse) as refused:
        train(workspace, replace(asked, **changes), gpus=gpus)
    assert expected in refused.value.message + refused.value.hint
    assert workspace.all_runs() == []


def test_wrong_run_name_is_refused_before_anything_is_encoded(workspace, asked):
    shutil.rmtree(workspace.dataset() / "cache")
    listener = Listener()
    with pytest.raises(Misuse, match="--run takes a plain name"):
        train(workspace, asked, gpus=0, run="../elsewhere", report=listener)
    assert not listener.phases


def test_gpu_that_is_not_there_is_misuse(workspace, asked, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(Misuse, match="no CUDA device") as refused:
        train(workspace, asked, gpus=1)
    assert refused.value.hint.startswith("fca train --gpus 0")
    with pytest.raises(Misuse, match="no CUDA device"):
        train(workspace, asked, gpus=2)


def test_the_miniature_asked_onto_a_missing_gpu_trains_on_the_cpu_and_says_so(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    said = []
    require_gpu(1, choose_gpus(1), "mini", said.append)
    assert [message.level for message in said] == ["warning"] and "on the CPU" in said[0].text


@pytest.mark.slow
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_to_a_real_process_saves_and_the_next_continues(workspace, asked, number, code):
    command = [sys.executable, "-m", "fcacli", "train", "--gpus", "0", "--base", asked.base, "--batch-size", "2"]
    command += ["--sample-steps", "2", "--validate-clips", "1", "--validate-every", "0", "--steps", "400"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=workspace.root, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        wait_for_steps(workspace, 3, process)
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == code, said
    assert "step" in said and "Traceback" not in said
    run = workspace.run()
    stopped = checkpoint.step_of(checkpoint.latest(run))
    assert 3 <= stopped < 400
    assert len((run / "log.jsonl").read_text().splitlines()) == stopped
    listener = Listener(stopped + 2)
    with pytest.raises(KeyboardInterrupt):
        train(workspace, gpus=0, report=listener)
    assert f"from step {stopped}" in listener.text


def wait_for_steps(workspace, count, process):
    """Until the run has logged so many steps."""
    for _ in range(PATIENCE * 20):
        logs = list(workspace.runs.glob("*/log.jsonl"))
        if logs and len(logs[0].read_text().splitlines()) >= count:
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    raise AssertionError("no step in time")


def test_a_run_that_was_started_while_this_one_encoded_is_not_trained_twice(workspace, asked, monkeypatch):
    """A second `fca train` waits for the encodings of the first, and then finds its run; `--new` wants another."""
    inner, first = train_module._encode, []

    def meanwhile(*given):
        if not first:
            first.append(None)
            first.append(train(workspace, asked, gpus=0).run.name)
        return inner(*given)

    monkeypatch.setattr(train_module, "_encode", meanwhile)
    with pytest.raises(FcaError, match="was started meanwhile with just these options") as refused:
        train(workspace, asked, gpus=0)
    assert first[1] in refused.value.message and [run.name for run in workspace.all_runs()] == [first[1]]
    first.clear()
    assert train(workspace, asked, gpus=0, new=True, run="other").finished


@pytest.mark.parametrize("age, said", [(0, True), (10**6, False)])
def test_a_run_that_goes_on_names_its_data_and_what_was_prepared_since(workspace, asked, age, said):
    """Not what was there before it."""
    run = crash(workspace, replace(asked, data="ssv2"), 2, run="first") or workspace.run("first")
    other = workspace.data / "other" / "dataset.json"
    shutil.copytree(workspace.dataset("ssv2"), other.parent)
    stamp = (run / "config.json").stat().st_mtime + 5 - age
    os.utime(workspace.data / "ssv2" / "dataset.json", (stamp - 2 * age - 99, stamp - 2 * age - 99))
    os.utime(other, (stamp, stamp))
    listener = Listener()
    assert train(workspace, gpus=0, report=listener).finished
    assert "going on with run first, on data/ssv2" in listener.text
    assert ("data/other was prepared since: fca train --new" in listener.text) is said
